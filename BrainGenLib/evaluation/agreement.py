"""Does an image show what its label map says?"""

from __future__ import annotations

import numpy as np

from BrainGenLib import anatomy


def dice_per_class(found: np.ndarray, truth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Dice of every class of the label table, (39,); NaN for the background and for classes that ``truth`` lacks.

    Args:
        found: class map of a segmenter.
        truth: class map of the same shape.
        known: the classes that the segmenter can name; voxels of other classes in ``truth`` (lesions, for a segmenter
            of anatomy) are left out on both sides.
    """
    count = len(anatomy.labels())
    counted = np.isin(truth, known)
    found, truth = found[counted], truth[counted]
    in_found, in_truth = np.bincount(found, minlength=count), np.bincount(truth, minlength=count)
    both = np.bincount(truth[found == truth], minlength=count)
    with np.errstate(invalid="ignore"):
        dice = np.where(in_truth > 0, 2 * both / (in_found + in_truth), np.nan)
    dice[0] = np.nan
    return dice


def by_structure(dice: np.ndarray) -> dict[str, float]:
    """Dice (cases, classes) as a mean for each structure, sides together; structures without a case are left out."""
    values: dict[str, list[float]] = {}
    for label in anatomy.labels():
        values.setdefault(_without_side(label), []).extend(dice[:, label.index])
    return {name: float(np.nanmean(v)) for name, v in values.items() if not np.isnan(v).all()}


def mean_of_structures(dice: dict[str, float]) -> float:
    """Mean over what :func:`by_structure` found of anatomy; lesions, which not every case has, are left out."""
    anatomical = {_without_side(label) for label in anatomy.labels() if label.kind == "structure"}
    return float(np.mean([value for name, value in dice.items() if name in anatomical]))


def _without_side(label: anatomy.Label) -> str:
    return label.name.removeprefix("left ").removeprefix("right ")


def lesion_contrast(image: np.ndarray, classes: np.ndarray, pathology: str) -> float:
    """How far a lesion stands out: mean of lesion minus mean of white matter, in deviations of white matter.

    NaN where the map holds fewer than 20 voxels of the lesion: their mean would be noise.
    """
    lesion = image[classes == anatomy.lesions()[pathology].index]
    if lesion.size < 20:
        return np.nan
    white = image[np.isin(classes, anatomy.classes_of(tissue="wm"))]
    return float((lesion.mean() - white.mean()) / white.std())
