"""Segmentations from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput
from BrainGenLib.reading.volume import Volume, read_volume


def read_segmentation(path: Path) -> Volume:
    """A segmentation as class indices (uint8) of :mod:`BrainGenLib.anatomy`.

    Raises:
        BadInput: as :func:`~BrainGenLib.reading.scans.read_scan`, or a value is no whole number or not in the label
            table.
    """
    volume = read_volume(path)
    if not np.all(np.isfinite(volume.data)) or np.any(volume.data != np.round(volume.data)):
        raise BadInput(f"{path.name} is not a segmentation: it holds values that are not whole numbers.")
    if not volume.data.any():
        raise BadInput(f"{path.name} is empty: no voxel is labelled. Choose another segmentation.")
    try:
        return Volume(anatomy.to_classes(volume.data), volume.affine)
    except BadInput as error:
        raise BadInput(f"{path.name}: {error}") from error


def without_holes(classes: np.ndarray) -> np.ndarray:
    """A class map in which what is enclosed by labels is labelled, each voxel as the nearest one.

    Where somebody erased a lesion there is nothing; rendered as such it would be air in the middle of a brain.
    """
    # Not at file scope: only rendering needs it.
    from scipy import ndimage

    labelled = classes > 0
    holes = ndimage.binary_fill_holes(labelled) & ~labelled
    if not holes.any():
        return classes
    nearest = ndimage.distance_transform_edt(~labelled, return_distances=False, return_indices=True)
    filled = classes.copy()
    filled[holes] = classes[tuple(axis[holes] for axis in nearest)]
    return filled
