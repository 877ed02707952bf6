"""Larger or smaller lateral ventricles in a given brain, by moving its tissue: what ageing shows first.

Tissue around the ventricles moves along the normals of their surface, less the further away, until their volume is as
asked for. Nothing is drawn: every intensity is the scan's own.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput
from BrainGenLib.spaces import GRID_1MM

OUTSIDE, INSIDE = 9.0, 5.0
"""How far from the surface tissue moves along, mm (one standard deviation), on either side of it."""
FURTHEST = 6.0
"""How far the surface may move, mm: further would fold the tissue beside it."""
MARGIN = 24
SMOOTHING = 1.5
HALVINGS = 12


def displacement(classes: np.ndarray, millilitres: float) -> np.ndarray:
    """Where each voxel of the changed brain comes from.

    Args:
        classes: uint8 on GRID_1MM.
        millilitres: of the lateral ventricles of both sides, with their inferior horns.

    Returns:
        float32 (3, R, A, S), mm: the changed brain at p is the given one at p + displacement.

    Raises:
        BadInput: there is no ventricle, or it cannot be made as large or as small.
    """
    names = ("lateral ventricle", "inferior lateral ventricle")
    ventricles = np.isin(classes, [index for name in names for index in anatomy.classes_of(name=name)])
    if not ventricles.any():
        raise BadInput("The scan shows no lateral ventricles that could be changed.")
    box = tuple(
        slice(max(side.start - MARGIN, 0), min(side.stop + MARGIN, n))
        for side, n in zip(ndimage.find_objects(ventricles.astype(np.uint8))[0], classes.shape, strict=True)
    )
    mask = ventricles[box]
    depth = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    smooth = ndimage.gaussian_filter(depth, SMOOTHING)
    normal = np.stack(np.gradient(smooth))
    # Where sheets meet the normal has no direction, and nothing moves.
    normal /= np.maximum(np.sqrt((normal**2).sum(0)), 0.5)
    reach = np.where(depth > 0, OUTSIDE, INSIDE)
    unit = -normal * np.exp(-((depth / reach) ** 2))
    unit = np.stack([ndimage.gaussian_filter(part, 1.0) for part in unit]) * (classes[box] > 0)
    share = mask.astype(np.float32)

    def volume(distance: float) -> float:
        return float((moved(share, distance * unit, order=1) > 0.5).sum()) * GRID_1MM.spacing**3 / 1000

    least, most = (volume(distance) for distance in (-FURTHEST, FURTHEST))
    if not least <= millilitres <= most:
        raise BadInput(
            f"The ventricles of this scan have {mask.sum() / 1000:.0f} mL and can be made {least:.0f} to "
            f"{most:.0f} mL, not {millilitres:.0f}."
        )
    low, high = -FURTHEST, FURTHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if volume(middle) > millilitres else (middle, high)
    whole = np.zeros((3, *classes.shape), np.float32)
    whole[(slice(None), *box)] = high * unit
    return whole


def moved(volume: np.ndarray, voxels: np.ndarray, order: int) -> np.ndarray:
    """A volume of which each voxel comes from another place: ``voxels`` (3, …) further.

    Args:
        order: 0 nearest, 1 linear, 3 cubic.
    """
    points = np.indices(volume.shape, np.float32) + voxels
    return ndimage.map_coordinates(volume, points, order=order, mode="nearest")
