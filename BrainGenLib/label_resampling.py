"""Labels on another grid, each voxel's by the largest linearly interpolated share.

SimpleITK has this too (``sitkLabelLinear``), and takes many seconds for a head of 1 mm: too long for an answer that
a user waits for. Most voxels lie between eight of the same label, which is found here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

SLAB = 8
"""Planes of the target that are worked on at a time: tens of megabytes."""
NEIGHBOURS = list(itertools.product((0, 1), repeat=3))


def majority(labels: np.ndarray, shape: tuple[int, int, int], index_map: np.ndarray, fill: float) -> np.ndarray:
    """Labels (r, a, s) on a target of ``shape``.

    Args:
        index_map: 4×4, from voxels of the target to voxels of the source.
        fill: label of what is more than half a voxel outside of the source.
    """
    source = _Source(labels)
    out = np.empty(shape, labels.dtype)
    for slab, points in _slabs(shape, index_map):
        out[slab] = source.at(points, fill)
    return out


def displaced(labels: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Labels (r, a, s) of which each voxel comes from another place.

    Args:
        voxels: float (3, r, a, s), how much further that place is.
    """
    moves = np.asarray(voxels.any(0))
    box = (ndimage.find_objects(moves.astype(np.uint8)) or [None])[0]
    out = labels.copy()
    if box is not None:
        source, first = _Source(labels), box[0].start
        for start in range(first, box[0].stop, SLAB):
            slab = (slice(start, min(start + SLAB, box[0].stop)), *box[1:])
            axes = np.ix_(*(np.arange(side.start, side.stop, dtype=np.float32) for side in slab))
            points = [axis + further for axis, further in zip(axes, voxels[(slice(None), *slab)], strict=True)]
            out[slab] = np.where(moves[slab], source.at(points, 0), labels[slab])
    return out


class _Source:
    """Labels that are looked up between their voxels."""

    def __init__(self, labels: np.ndarray) -> None:
        self._extent = labels.shape
        # A single slice has no neighbours.
        self._labels = np.pad(labels, [(0, int(n == 1)) for n in labels.shape], mode="edge")
        cells = [n - 1 for n in self._labels.shape]
        alike = np.zeros(self._labels.shape, bool)
        inner = alike[:-1, :-1, :-1]
        inner[:] = True
        for step in NEIGHBOURS:
            near = self._labels[tuple(slice(c, c + n) for c, n in zip(step, cells, strict=True))]
            inner &= near == self._labels[:-1, :-1, :-1]
        self._alike = alike.ravel()

    def at(self, points: list[np.ndarray], fill: float) -> np.ndarray:
        """The labels at points (three arrays of voxel coordinates, which are overwritten)."""
        flat, shape = self._labels.ravel(), self._labels.shape
        outside = np.zeros(points[0].shape, bool)
        index = np.zeros(points[0].shape, np.int32)
        for axis, n, there in zip(points, shape, self._extent, strict=True):
            outside |= (axis < -0.5) | (axis > there - 0.5)
            # The first of the eight neighbours; what is left of the coordinate is the share of the others.
            np.clip(axis, 0, n - 1, out=axis)
            low = np.minimum(axis.astype(np.int32), n - 2)
            axis -= low
            index = index * n + low
        found = flat.take(index)
        mixed = np.flatnonzero(~self._alike.take(index) & ~outside)
        found.reshape(-1)[mixed] = _vote(flat, shape, index.ravel()[mixed], [axis.ravel()[mixed] for axis in points])
        found[outside] = fill
        return found


def _slabs(shape: tuple[int, int, int], index_map: np.ndarray) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Parts of the target with the source's voxel coordinates of their voxels, three arrays."""
    axes = [np.arange(n, dtype=np.float32) for n in shape]
    for start in range(0, shape[0], SLAB):
        slab = slice(start, start + SLAB)
        r, a, s = np.ix_(axes[0][slab], axes[1], axes[2])
        rows = index_map[:3].astype(np.float32)
        yield slab, [row[0] * r + row[1] * a + row[2] * s + row[3] for row in rows]


def _vote(flat: np.ndarray, shape: tuple[int, ...], index: np.ndarray, upper: list[np.ndarray]) -> np.ndarray:
    """The label with the largest share, from the first of the eight neighbours (n,) and the share of the others."""
    near = [flat.take(index + (step[0] * shape[1] + step[1]) * shape[2] + step[2]) for step in NEIGHBOURS]
    weights = [
        np.prod([part if up else 1 - part for part, up in zip(upper, step, strict=True)], axis=0)
        for step in NEIGHBOURS
    ]
    best, largest = near[0], np.zeros(len(index), np.float32)
    for one in near:
        share = np.zeros(len(index), np.float32)
        for other, weight in zip(near, weights, strict=True):
            share += weight * (other == one)
        better = share > largest
        best, largest = np.where(better, one, best), np.where(better, share, largest)
    return best
