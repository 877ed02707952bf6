"""What is measured on class maps: brain mask and volumes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy


def brain_mask(classes: np.ndarray) -> np.ndarray:
    """Boolean mask of everything inside the brain's outline: gaps of up to 4 voxels closed, holes filled."""
    mask = np.zeros(classes.shape, bool)
    found = ndimage.find_objects((classes > 0).astype(np.uint8))
    if not found:
        return mask
    # Room around the box, so that closing does not see its border as background.
    inside = np.pad(classes[found[0]] > 0, 4)
    ball = ndimage.generate_binary_structure(3, 1)
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(inside, ball, iterations=2))
    mask[found[0]] = closed[4:-4, 4:-4, 4:-4]
    return mask


def volumes_ml(classes: np.ndarray, voxel_mm3: float) -> dict[str, float]:
    """Volume in mL of every structure and lesion of a class map, by name, zeros included, background not."""
    labels = anatomy.labels()
    counts = np.bincount(classes.ravel(), minlength=len(labels))
    return {label.name: round(float(counts[label.index]) * voxel_mm3 / 1000, 3) for label in labels[1:]}
