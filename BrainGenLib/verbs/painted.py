"""A segmentation that was given for a scan, on what the segmenter found in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy, lesions, morphometry, spaces
from BrainGenLib.errors import BadInput
from BrainGenLib.lesions import SCATTERED
from BrainGenLib.methods.segmentation import Segmentation
from BrainGenLib.reading.segmentations import read_segmentation
from BrainGenLib.reading.volume import Volume

MARGIN = 5
"""How far outside of the brain that the segmenter found a lesion may lie, mm: it need not take one for brain."""
LEAST_INSIDE = 0.8
"""Share of the labelled lesions that has to lie there."""
WHOLE_BRAIN = 0.75
"""Overlap (Dice) with the brain that was found from which on labels of structures are those of a whole brain."""
LEAST_OVERLAP = 0.5
"""Overlap (Dice) of white matter, left and right apart, below which labels of a whole brain are of another scan."""


def with_painted(path: Path, lesion: str | None, found: Segmentation) -> np.ndarray:
    """The class map (uint8 on GRID_1MM) of a scan with the lesions of a segmentation in place of the segmenter's.

    White matter hyperintensities and MS lesions look alike to the segmenter: labels of either take the place of both.
    Structures are taken only from a segmentation of a whole brain.

    Args:
        path: of the segmentation, in the scan's world.
        lesion: as of :func:`~BrainGenLib.reading.segmentations.read_segmentation`.

    Raises:
        BadInput: as there; the segmentation does not lie on the scan, or labels neither lesions nor a whole brain.
    """
    painted = read_segmentation(path, lesion)
    kinds = anatomy.classes_of(kind="lesion")
    is_lesion = np.isin(painted.data, kinds)
    if is_lesion.any():
        _check_meets(path.name, Volume(is_lesion, painted.affine), found)
    there = spaces.to_grid(
        painted.data, painted.affine, spaces.GRID_1MM, template_to_scan=found.template_to_scan, order="label"
    )
    present = set(np.unique(there).tolist()) & set(kinds)
    if is_lesion.any() and not present:
        raise BadInput(f"The lesions of {path.name} are too small to be seen at 1 mm; nothing of them is left.")
    given = np.where(np.isin(there, kinds), 0, there)
    structures = _structures(path.name, given, found, lesions_too=bool(present))
    names = {label.index: name for name, label in anatomy.lesions().items()}
    if {names[index] for index in present} & set(SCATTERED):
        present |= {anatomy.lesions()[name].index for name in SCATTERED}
    kept = np.isin(found.classes, [index for index in kinds if index not in present])
    result = np.where(kept, found.classes, structures)
    return np.where(np.isin(there, kinds), there, result).astype(np.uint8)


def _check_meets(name: str, mask: Volume, found: Segmentation) -> None:
    brain = ndimage.binary_dilation(morphometry.brain_mask(found.classes), iterations=MARGIN)
    points = np.argwhere(mask.data)
    to_voxel = np.linalg.inv(found.template_to_scan @ spaces.GRID_1MM.affine) @ mask.affine
    voxels = np.rint(points @ to_voxel[:3, :3].T + to_voxel[:3, 3]).astype(int)
    within = ((voxels >= 0) & (voxels < brain.shape)).all(1)
    share = float(brain[tuple(voxels[within].T)].sum()) / len(points)
    if share < LEAST_INSIDE:
        raise BadInput(
            f"{share:.0%} of the lesions of {name} lie in the brain that the scan shows; give one that was "
            "made on this scan, in the same space."
        )


def _structures(name: str, given: np.ndarray, found: Segmentation, *, lesions_too: bool) -> np.ndarray:
    """The structures of a whole brain that was labelled, or those that were found."""
    own = lesions.split_lesions(found.classes)[0]
    if spaces.dice(given, own) < WHOLE_BRAIN:
        if not lesions_too:
            raise BadInput(
                f"{name} labels neither a lesion nor the whole brain of the scan: there is nothing to take from it."
            )
        return own
    for label in (anatomy.labels()[index] for index in anatomy.classes_of(name="cerebral white matter")):
        if (overlap := spaces.dice(given == label.index, own == label.index)) < LEAST_OVERLAP:
            raise BadInput(
                f"The {label.name} of {name} does not lie where the scan has it (overlap {overlap:.2f}); its labels "
                "mean another thing, its sides are turned, or it is of another scan."
            )
    # FreeSurfer labels no fluid outside of the ventricles.
    return np.where(given > 0, given, own)
