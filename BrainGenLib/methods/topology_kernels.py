"""Compiled loop of :mod:`BrainGenLib.methods.topology` (numba); importing this module imports numba."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numba import njit

_PLACES = np.array([(i, j, k) for i in range(3) for j in range(3) for k in range(3)])
_APART = np.abs(_PLACES[:, None] - _PLACES[None])
CORNERS = (_APART.max(-1) == 1) & (np.arange(27) != 13)[:, None] & (np.arange(27) != 13)[None]
"""(27, 27): places of a 3³ neighbourhood that touch each other, by corners too, its centre left out."""
_EDGES = np.abs(_PLACES - 1).sum(-1) < 3
FACES = CORNERS & (_APART.sum(-1) == 1) & _EDGES[:, None] & _EDGES[None]
"""(27, 27): places that share a face, the corners of the neighbourhood left out."""
BESIDE = np.abs(_PLACES - 1).sum(-1) == 1
"""(27,): places that share a face with the centre."""


@njit(nogil=True, cache=True)
def _connected(near, value, touch, seeds):
    """Number of connected parts of the places of ``value`` that hold one of ``seeds``, at most 2."""
    seen = np.zeros(27, np.bool_)
    waiting = np.empty(27, np.int64)
    parts = 0
    for start in range(27):
        if start == 13 or seen[start] or near[start] != value or not seeds[start]:
            continue
        parts += 1
        if parts > 1:
            return parts
        seen[start] = True
        waiting[0] = start
        count = 1
        while count:
            count -= 1
            here = waiting[count]
            for other in range(27):
                if touch[here, other] and not seen[other] and near[other] == value:
                    seen[other] = True
                    waiting[count] = other
                    count += 1
    return parts


@njit(nogil=True, cache=True)
def grow(grown, target, depth, i, j, k, corners, faces, beside):
    """Grow from a voxel into ``target``, deepest voxels first, where the topology stays that of a ball.

    Args:
        grown: bool (R, A, S), empty at its border; written.
        target: bool, depth: float32, of the same shape.
    """
    everywhere = np.ones(27, np.bool_)
    near = np.empty(27, np.bool_)
    queued = np.zeros(target.shape, np.bool_)
    heap = [(-depth[i, j, k], i, j, k)]
    first = True
    while heap:
        _, i, j, k = heappop(heap)
        queued[i, j, k] = False
        if grown[i, j, k]:
            continue
        if not first:
            place = 0
            for x in range(i - 1, i + 2):
                for y in range(j - 1, j + 2):
                    for z in range(k - 1, k + 2):
                        near[place] = grown[x, y, z]
                        place += 1
            if _connected(near, True, corners, everywhere) != 1 or _connected(near, False, faces, beside) != 1:
                continue
        first = False
        grown[i, j, k] = True
        for x in range(i - 1, i + 2):
            for y in range(j - 1, j + 2):
                for z in range(k - 1, k + 2):
                    if target[x, y, z] and not grown[x, y, z] and not queued[x, y, z]:
                        queued[x, y, z] = True
                        heappush(heap, (-depth[x, y, z], x, y, z))
