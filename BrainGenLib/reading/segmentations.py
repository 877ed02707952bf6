"""Segmentations from files: what their labels are, by names and conventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput
from BrainGenLib.reading import conventions, masks, nrrd, slicer_segmentations
from BrainGenLib.reading.volume import Volume, check_geometry, read_volume


def read_segmentation(path: Path, lesion: str | None = None) -> Volume:
    """A segmentation as class indices (uint8) of :mod:`BrainGenLib.anatomy`.

    Labels are those of the project, of FreeSurfer, SAMSEG or SynthSeg; in a file of Slicer the header says what they
    are. Skin, skull and all that is no brain become 0.

    Args:
        lesion: which pathology (``wmh``, ``ms``, …) a mask shows, or a tumour map with the values of BraTS
            (``tumour``); None for a file that says so itself.

    Raises:
        BadInput: as :func:`~BrainGenLib.reading.volume.read_volume`, nothing is labelled, or what the labels mean is
            not known.
    """
    if lesion is not None and lesion not in anatomy.lesions():
        raise BadInput(f"There is no lesion {lesion!r}; those that can be named are {_names()}.")
    if path.name.lower().endswith(".nrrd") and path.is_file():
        found = nrrd.read(path)
        if slicer_segmentations.is_segmentation(found):
            classes = slicer_segmentations.classes_of(path.name, found, lesion)
            return _labelled(path.name, check_geometry(path.name, classes, found.affine))
    if lesion is not None:
        return _labelled(path.name, masks.read_lesion(path, lesion))
    volume = read_volume(path)
    return _labelled(path.name, Volume(_classes(path.name, volume.data), volume.affine))


def possible_lesions(path: Path) -> list[str]:
    """Pathologies of which a mask may be that does not say so itself; empty where no name of one helps."""
    # All masks may be any lesion; what can only be a tumour map is no mask.
    if _is_of(path, "ms"):
        return list(anatomy.lesions())
    return ["tumour"] if _is_of(path, "tumour") else []


def _is_of(path: Path, lesion: str) -> bool:
    try:
        read_segmentation(path, lesion)
    except BadInput:
        return False
    return True


def _labelled(name: str, volume: Volume) -> Volume:
    if not volume.data.any():
        raise BadInput(f"{name} is empty: no voxel is labelled. Choose another segmentation.")
    return volume


def _classes(name: str, data: np.ndarray) -> np.ndarray:
    values = conventions.whole_numbers(data)
    if values is None:
        raise BadInput(
            f"{name} is not a segmentation: it holds values that are not whole numbers. Of a map of the probability "
            f"of a lesion say which one it is (--lesion-as): {_names()}."
        )
    present = [int(value) for value in np.unique(values) if value]
    lesions = [label.value for label in anatomy.lesions().values()]
    if not present:
        raise BadInput(f"{name} is empty: no voxel is labelled. Choose another segmentation.")
    if len(present) == 1 and present[0] not in lesions:
        raise BadInput(
            f"{name} is a mask (0 and {present[0]}), and does not say of what; say which lesion it is "
            f"(--lesion-as, or in the panel): {_names()}."
        )
    try:
        classes = conventions.structures(values)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error
    classes[classes >= conventions.FIRST_EXTRA] = 0
    if conventions.one_sided(classes) and len(present) > conventions.SMALL:
        raise BadInput(
            f"{name} has labels of the left side alone, as maps have that merge both sides; give one that tells "
            "left from right."
        )
    return classes


def _names() -> str:
    return ", ".join(f"{name} ({label.name})" for name, label in anatomy.lesions().items())


def without_holes(classes: np.ndarray) -> np.ndarray:
    """A class map in which what is enclosed by labels is labelled, each voxel as the nearest one.

    Where a user erased a lesion there is nothing; rendered as such it would be air in the middle of a brain.
    """
    labelled = classes > 0
    holes = ndimage.binary_fill_holes(labelled) & ~labelled
    if not holes.any():
        return classes
    nearest = ndimage.distance_transform_edt(~labelled, return_distances=False, return_indices=True)
    filled = classes.copy()
    filled[holes] = classes[tuple(axis[holes] for axis in nearest)]
    return filled
