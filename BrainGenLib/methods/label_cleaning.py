"""What every anatomy obeys: sides stay on their side, structures are in one piece, the brain has no holes."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.networks.largest import largest
from BrainGenLib.spaces import GRID_2MM

CROSSING_VOXELS = 3
"""A structure may cross the midplane by 6 mm, as tilted and asymmetric brains do."""
KEPT_SHARE = 0.2
"""Parts of a structure that are smaller than this share of its largest part are given to their neighbours."""
IMPOSSIBLE = -30.0


def clean(log_anatomy: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the structures (S, R, A, S) in which those that break the rules are impossible."""
    out = log_anatomy.clone()
    middle = GRID_2MM.shape[0] // 2
    for label in anatomy.labels()[:STRUCTURES]:
        if label.side == "left":
            out[label.index, middle + CROSSING_VOXELS :] = IMPOSSIBLE
        elif label.side == "right":
            out[label.index, : middle - CROSSING_VOXELS] = IMPOSSIBLE
    classes = largest(out).numpy()
    for index, box in enumerate(ndimage.find_objects(classes, STRUCTURES - 1), start=1):
        if box is not None and index not in _scattered():
            stray = torch.from_numpy(_stray(classes[box] == index, KEPT_SHARE))
            out[(index, *box)][stray] = IMPOSSIBLE
    # Islands outside of the brain become background; background inside of it becomes what is next likely.
    foreground = largest(out).numpy() > 0
    islands = torch.from_numpy(_stray(foreground, 1.0))
    out[1:, islands] = IMPOSSIBLE
    holes = torch.from_numpy(ndimage.binary_fill_holes(foreground) & ~foreground)
    out[0, holes] = IMPOSSIBLE
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
