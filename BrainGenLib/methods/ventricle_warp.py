"""Larger or smaller lateral ventricles in a given brain, by moving its tissue: what ageing shows first.

Tissue around the ventricles moves along the normals of their surface, less the further away, until their volume is as
asked for. Nothing is drawn: every intensity is the scan's own.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BrainGenLib.errors import BadInput
from BrainGenLib.methods.exact_volumes import VENTRICLES
from BrainGenLib.spaces import GRID_1MM

OUTSIDE, INSIDE = 9.0, 5.0
"""How far from the surface tissue moves along, mm (one standard deviation), on either side of it."""
FURTHEST = 6.0
"""How far the surface may move, mm: further would fold the tissue beside it."""
MARGIN = 24
SMOOTHING = 1.5
HALVINGS = 12
STILL = 0.01
"""Shifts below this, in voxels, are none."""


class VentricleWarp:
    """The ways in which the lateral ventricles of a brain can change.

    Args:
        classes: uint8 on GRID_1MM.
        origin: the map that ``classes`` is a deformation of, and the displacement, float32 (3, R, A, S), mm. Volumes
            are then those of the original deformed once, by the displacement and by what :meth:`to` returns: a change
            of less than a voxel shows there, and not in voxels that were chosen before.

    Attributes:
        least, most: what can be made of them, mL, both sides with their inferior horns.

    Raises:
        BadInput: there is no ventricle.
    """

    def __init__(self, classes: np.ndarray, origin: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        ventricles = np.isin(classes, VENTRICLES)
        if not ventricles.any():
            raise BadInput("The scan shows no lateral ventricles that could be changed.")
        self._shape = classes.shape
        self._box = _box_around(ventricles, MARGIN)
        mask = ventricles[self._box]
        depth = ndimage.distance_transform_edt(~mask).astype(np.float32)
        # Inside they are a small part of the box, and distances take the most time here.
        tight = _box_around(mask, 1)
        depth[tight] -= ndimage.distance_transform_edt(mask[tight])
        smooth = ndimage.gaussian_filter(depth, SMOOTHING)
        normal = np.stack(np.gradient(smooth))
        # Where sheets meet the normal has no direction, and nothing moves.
        normal /= np.maximum(np.sqrt((normal**2).sum(0)), 0.5)
        reach = np.where(depth > 0, OUTSIDE, INSIDE).astype(np.float32)
        unit = -normal * np.exp(-((depth / reach) ** 2))
        self._unit = np.stack([ndimage.gaussian_filter(part, 1.0) for part in unit]) * (classes[self._box] > 0)
        self._share = mask.astype(np.float32)
        self._origin = None if origin is None else (np.isin(origin[0], VENTRICLES).astype(np.float32), origin[1])
        # What lies further from the surface than it may move stays inside or outside.
        band = np.abs(depth) < FURTHEST + 2
        self._points, self._along = np.stack(np.nonzero(band)).astype(np.float32), self._unit[:, band]
        self._always = int((mask & ~band).sum())
        self.least, self.most = (self._volume(distance) for distance in (-FURTHEST, FURTHEST))

    def _volume(self, distance: float) -> float:
        """mL of the ventricles if their surface moves so far, mm."""
        points = self._points + distance * self._along
        if self._origin is None:
            share = ndimage.map_coordinates(self._share, points, order=1)
        else:
            original, displacement = self._origin
            points += np.array([[side.start] for side in self._box], np.float32)
            points += np.stack([ndimage.map_coordinates(part, points, order=1) for part in displacement])
            share = ndimage.map_coordinates(original, points, order=1)
        return (self._always + int((share > 0.5).sum())) * GRID_1MM.spacing**3 / 1000

    def to(self, millilitres: float) -> np.ndarray:
        """Where each voxel of the changed brain comes from.

        Returns:
            float32 (3, R, A, S), mm: the changed brain at p is the given one at p + displacement.

        Raises:
            BadInput: the ventricles cannot be made as large or as small.
        """
        if not self.least <= millilitres <= self.most:
            raise BadInput(
                f"The ventricles of this scan have {self._share.sum() / 1000:.0f} mL and can be made "
                f"{self.least:.0f} to {self.most:.0f} mL, not {millilitres:.0f}."
            )
        low, high = -FURTHEST, FURTHEST
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._volume(middle) > millilitres else (middle, high)
        whole = np.zeros((3, *self._shape), np.float32)
        whole[(slice(None), *self._box)] = high * self._unit
        return whole


def _box_around(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    return tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, n))
        for side, n in zip(ndimage.find_objects(mask.astype(np.uint8))[0], mask.shape, strict=True)
    )


def moved(volume: np.ndarray, voxels: np.ndarray, order: int) -> np.ndarray:
    """A volume of which each voxel comes from another place: ``voxels`` (3, …) further. What stays is not touched.

    Args:
        order: 0 nearest, 1 linear, 3 cubic, which is clipped to what the volume holds.
    """
    moves = np.zeros(volume.shape, bool)
    for part in voxels:
        moves |= np.abs(part) > STILL
    after = volume.copy()
    box = (ndimage.find_objects(moves.astype(np.uint8)) or [None])[0]
    if box is not None:
        points = np.stack(np.meshgrid(*(np.arange(side.start, side.stop) for side in box), indexing="ij"))
        found = ndimage.map_coordinates(volume, points + voxels[(slice(None), *box)], order=order, mode="nearest")
        # Cubic interpolation may overshoot, which no scan does.
        found = np.clip(found, volume.min(), volume.max())
        after[box] = np.where(moves[box], found, after[box])
    return after
