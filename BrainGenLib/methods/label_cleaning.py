"""What every anatomy obeys: sides stay on their side, structures are in one piece, the brain has no holes, cortex is
a sheet."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.spaces import GRID_2MM

CROSSING_VOXELS = 3
"""A structure may cross the midplane by 6 mm, as tilted and asymmetric brains do."""
KEPT_SHARE = 0.2
"""Parts of a structure that are smaller than this share of its largest part are given to their neighbours."""
IMPOSSIBLE = -30.0
THICKEST_CORTEX = 4.5
"""mm from what lies below (Fischl & Dale, PNAS 2000); what is farther out is the fluid of a sulcus."""
PER_MM = 2.0
"""Slope of the log-odds of fluid against cortex there, so that the border at 1 mm is smooth."""


def clean(log_anatomy: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the structures (S, R, A, S) in which those that break the rules are impossible."""
    out = log_anatomy.clone()
    middle = GRID_2MM.shape[0] // 2
    for label in anatomy.labels()[:STRUCTURES]:
        if label.side == "left":
            out[label.index, middle + CROSSING_VOXELS :] = IMPOSSIBLE
        elif label.side == "right":
            out[label.index, : middle - CROSSING_VOXELS] = IMPOSSIBLE
    classes = out.argmax(0).numpy()
    for index, box in enumerate(ndimage.find_objects(classes, STRUCTURES - 1), start=1):
        if box is not None and index not in _scattered():
            stray = torch.from_numpy(_stray(classes[box] == index, KEPT_SHARE))
            out[(index, *box)][stray] = IMPOSSIBLE
    # Islands outside of the brain become background; background inside of it becomes what is next likely.
    foreground = out.argmax(0).numpy() > 0
    islands = torch.from_numpy(_stray(foreground, 1.0))
    out[1:, islands] = IMPOSSIBLE
    holes = torch.from_numpy(ndimage.binary_fill_holes(foreground) & ~foreground)
    out[0, holes] = IMPOSSIBLE
    return out


def thin(log_anatomy: torch.Tensor) -> torch.Tensor:
    """Sulci opened where cortex (S, R, A, S) is thicker than a sheet: labels at 2 mm, as learned from, close them."""
    classes = log_anatomy.argmax(0).numpy()
    cortex = np.isin(classes, anatomy.classes_of(name="cerebral cortex"))
    below = (classes > 0) & ~cortex & ~np.isin(classes, anatomy.classes_of(name="extraventricular CSF"))
    # From the border, half a voxel nearer than from the centre.
    distance = (ndimage.distance_transform_edt(~below) - 0.5) * GRID_2MM.spacing
    excess = torch.from_numpy((PER_MM * (distance - THICKEST_CORTEX)).astype(np.float32))
    (fluid,) = anatomy.classes_of(name="extraventricular CSF")
    best = log_anatomy.amax(0) + excess
    inside = torch.from_numpy(cortex) & (best > log_anatomy[fluid])
    out = log_anatomy.clone()
    out[fluid][inside] = best[inside]
    return out


def _stray(mask: np.ndarray, share: float) -> np.ndarray:
    """Voxels of parts that are smaller than ``share`` of the largest part."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return np.zeros_like(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = sizes >= share * sizes.max()
    return mask & ~kept[parts]


@cache
def _scattered() -> frozenset[int]:
    """Fluid around the brain fills sulci: it is many pieces by nature."""
    return frozenset(anatomy.classes_of(name="extraventricular CSF"))
