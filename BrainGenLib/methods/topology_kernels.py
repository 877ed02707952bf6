"""Compiled loop of :mod:`BrainGenLib.methods.topology` (numba); importing this module imports numba."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numba import njit

_PLACES = np.array([(i, j, k) for i in range(3) for j in range(3) for k in range(3)])
_APART = np.abs(_PLACES[:, None] - _PLACES[None])
_CORNERS = (_APART.max(-1) == 1) & (np.arange(27) != 13)[:, None] & (np.arange(27) != 13)[None]
_EDGES = np.abs(_PLACES - 1).sum(-1) < 3
_FACES = _CORNERS & (_APART.sum(-1) == 1) & _EDGES[:, None] & _EDGES[None]
_BITS = 1 << np.arange(27)
CORNERS = _CORNERS @ _BITS
"""(27,): bits of the places of a 3³ neighbourhood that touch a place, by corners too, its centre left out."""
FACES = _FACES @ _BITS
"""(27,): bits of the places that share a face with a place, the corners of the neighbourhood left out."""
BESIDE = int((np.abs(_PLACES - 1).sum(-1) == 1) @ _BITS)
"""Bits of the places that share a face with the centre."""


@njit(nogil=True, cache=True)
def one_part(places, touch, seeds):
    """Whether those connected parts of the bits ``places`` that hold one of the bits ``seeds`` are exactly one."""
    seeds &= places
    if seeds == 0:
        return False
    part = seeds & -seeds
    before = 0
    while part != before:
        new = part & ~before
        before = part
        for place in range(27):
            if new >> place & 1:
                part |= touch[place] & places
    return seeds & ~part == 0


@njit(nogil=True, cache=True)
def grow(grown, target, depth, i, j, k, corners, faces, beside):
    """Grow from a voxel into ``target``, deepest voxels first, where the topology stays that of a ball.

    Args:
        grown: bool (R, A, S), empty at its border; written.
        target: bool, depth: float32, of the same shape.
    """
    everywhere = (1 << 27) - 1
    centre = 1 << 13
    queued = np.zeros(target.shape, np.bool_)
    heap = [(-depth[i, j, k], i, j, k)]
    first = True
    while heap:
        _, i, j, k = heappop(heap)
        queued[i, j, k] = False
        if grown[i, j, k]:
            continue
        if not first:
            near, bit = 0, 1
            for x in range(i - 1, i + 2):
                for y in range(j - 1, j + 2):
                    for z in range(k - 1, k + 2):
                        if grown[x, y, z]:
                            near |= bit
                        bit <<= 1
            outside = everywhere & ~near & ~centre
            if not one_part(near, corners, everywhere) or not one_part(outside, faces, beside):
                continue
        first = False
        grown[i, j, k] = True
        for x in range(i - 1, i + 2):
            for y in range(j - 1, j + 2):
                for z in range(k - 1, k + 2):
                    if target[x, y, z] and not grown[x, y, z] and not queued[x, y, z]:
                        queued[x, y, z] = True
                        heappush(heap, (-depth[x, y, z], x, y, z))
