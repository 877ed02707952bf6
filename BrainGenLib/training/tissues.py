"""How a T1w scan mixes tissues, finer than its labels say."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.methods.intensity_model import shading
from BrainGenLib.methods.soft_tissue import RANGE

WHITE = tuple(anatomy.classes_of(name=f"{side} cerebral white matter")[0] for side in ("left", "right"))
GREY = tuple(anatomy.classes_of(name=f"{side} cerebral cortex")[0] for side in ("left", "right"))
FLUID = anatomy.classes_of(name="extraventricular CSF")[0]
VENTRICLES = tuple(anatomy.classes_of(name=f"{side} lateral ventricle")[0] for side in ("left", "right"))

FEWEST = 50  # voxels of a tissue that say how bright it is
LEAST_SPAN = 0.1  # between tissues of a scan, whose white matter is 1


def _flat(labels: np.ndarray, image: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The scan without the shading of white matter, and its values within ventricles and deep in white matter.

    None where a tissue is missing, or white matter is not brighter than cortex and that not than fluid.
    """
    core = ndimage.binary_erosion(np.isin(labels, WHITE), iterations=2 if spacing < 1.5 else 1)
    ventricles, cortex = np.isin(labels, VENTRICLES), np.isin(labels, GREY)
    if min(core.sum(), ventricles.sum(), cortex.sum()) < FEWEST:
        return None
    flat = image / shading(image, core, spacing)
    inner = ndimage.binary_erosion(ventricles)
    fluid = flat[inner if inner.sum() > FEWEST else ventricles]
    if not np.median(fluid) + 0.1 < np.median(flat[cortex]) < 0.9:
        return None
    return flat, fluid, flat[core]


def soft_map(structures: np.ndarray, t1w: np.ndarray, spacing: float) -> np.ndarray | None:
    """How a T1w scan mixes fluid (0), grey (½) and white matter (1) in every voxel; None if it cannot be measured.

    Intensities after the shading of white matter was divided out, linear between the medians of ventricles, cortex
    and white matter, beyond them too, within :data:`BrainGenLib.methods.soft_tissue.RANGE`.

    Args:
        structures: class map without lesions, uint8.
        t1w: the scan on the same grid.
        spacing: voxel size, mm.

    Returns:
        float32, 0 outside the brain.
    """
    flattened = _flat(structures, t1w.astype(np.float32), spacing)
    if flattened is None:
        return None
    flat, *landmarks = flattened
    fluid, white = (np.median(values) for values in landmarks)
    grey = np.median(flat[np.isin(structures, GREY)])
    soft = np.interp(flat, [2 * fluid - grey, fluid, grey, white, 2 * white - grey], [-0.5, 0, 0.5, 1, 1.5])
    return np.where(structures > 0, soft.clip(*RANGE), 0).astype(np.float32)


def scaled_map(structures: np.ndarray, image: np.ndarray, spacing: float) -> np.ndarray | None:
    """A scan of any contrast in which the darkest of fluid, cortex and white matter is 0 and the brightest 1.

    Args:
        structures: class map without lesions, uint8.
        image: the scan on the same grid.
        spacing: voxel size, mm.

    Returns:
        float32, 0 outside the brain; None if a tissue is missing or they are hardly told apart.
    """
    core = ndimage.binary_erosion(np.isin(structures, WHITE), iterations=2 if spacing < 1.5 else 1)
    if min(np.isin(structures, part).sum() for part in (VENTRICLES, GREY)) < FEWEST or core.sum() < FEWEST:
        return None
    flat = image / shading(image, core, spacing)
    darkest, _, brightest = np.sort(medians(structures, flat))
    if brightest - darkest < LEAST_SPAN:
        return None
    return np.where(structures > 0, ((flat - darkest) / (brightest - darkest)).clip(*RANGE), 0).astype(np.float32)


def medians(structures: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(3,) medians of an image in ventricles, cortex and white matter."""
    return np.array([np.median(image[np.isin(structures, part)]) for part in (VENTRICLES, GREY, WHITE)])


def typical_values() -> np.ndarray:
    """What a soft tissue map holds of every class (classes,), float32, as far as its tissue says."""
    values = {"csf": 0.0, "gm": 0.5, "deep_gm": 0.7}
    return np.array([values.get(label.tissue, 1.0) * (label.index > 0) for label in anatomy.labels()], np.float32)
