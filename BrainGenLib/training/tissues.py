"""Borders of cerebral tissue moved to where a T1w scan shows them.

Teachers label on coarser grids than the scan's, and smooth: cortex swallows the CSF of narrow sulci. A renderer that
is shown such pairs learns that cortex may be dark, and paints it grey; a label model learns to leave sulci out.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.methods.intensity_model import shading
from BrainGenLib.methods.soft_tissue import HIDDEN_FLUID, HIDDEN_GREY, RANGE

WHITE = tuple(anatomy.classes_of(name=f"{side} cerebral white matter")[0] for side in ("left", "right"))
GREY = tuple(anatomy.classes_of(name=f"{side} cerebral cortex")[0] for side in ("left", "right"))
FLUID = anatomy.classes_of(name="extraventricular CSF")[0]
VENTRICLES = tuple(anatomy.classes_of(name=f"{side} lateral ventricle")[0] for side in ("left", "right"))

ITERATIONS = 6
FEWEST = 50  # voxels of a tissue that say how bright it is
# How far a border may be off, mm (one standard deviation).
REACH_MM = 1.6


def refine(classes: np.ndarray, t1w: np.ndarray, spacing: float) -> np.ndarray:
    """Class map (R, A, S) with cerebral white matter, cortex and CSF around them re-labelled by a T1w scan.

    A mixture of three Gaussians, fitted by expectation maximisation to the intensities after the shading of white
    matter was divided out, with the smoothed given labels as the prior of every voxel (Van Leemput et al., IEEE TMI
    1999, in its simplest form). Deep structures, ventricles, lesions and the outline of the brain stay.

    Args:
        classes: class map, uint8.
        t1w: the scan on the same grid, brighter white matter than cortex than CSF.
        spacing: voxel size, mm.

    Returns:
        A new class map; the same one where a tissue is missing, or the scan is not T1w-like.
    """
    if not (classes > 0).any():
        return classes
    box = tuple(slice(s.start, s.stop) for s in ndimage.find_objects((classes > 0).astype(np.uint8))[0])
    labels, image = classes[box], t1w[box].astype(np.float32)
    given = [labels == FLUID, np.isin(labels, GREY), np.isin(labels, WHITE)]
    flattened = _flat(labels, image, spacing)
    if flattened is None or given[0].sum() < FEWEST:
        return classes
    flat, fluid, white = flattened
    means = np.array([np.median(fluid), np.median(flat[given[1]]), 1.0])
    darkest = 0.7 * means[0]
    deviations = np.array([max(fluid.std(), 0.08), 0.1, max(white.std(), 0.05)])
    region = given[0] | given[1] | given[2]
    prior = np.stack([ndimage.gaussian_filter(mask.astype(np.float32), REACH_MM / spacing)[region] for mask in given])
    prior /= np.maximum(prior.sum(0), 1e-6)
    prior[0] = np.maximum(prior[0], HIDDEN_FLUID * prior[1])
    prior[1] = np.maximum(prior[1], HIDDEN_GREY * prior[0])
    values = flat[region]
    for _ in range(ITERATIONS):
        z = (values - means[:, None]) / deviations[:, None]
        z[0] = np.maximum(z[0], 0)  # nothing is too dark for CSF
        share = prior * np.exp(-0.5 * z**2) / deviations[:, None]
        share /= np.maximum(share.sum(0), 1e-9)
        totals = np.maximum(share.sum(1), 1.0)
        grey = float(share[1] @ values / totals[1])
        means[0] = np.clip(share[0] @ values / totals[0], darkest, (fluid.mean() + grey) / 2)
        deviations[1] = np.sqrt(share[1] @ (values - grey) ** 2 / totals[1])
        means[1] = grey
    tissue = np.zeros(labels.shape, np.uint8)
    tissue[region] = share.argmax(0) + 1
    left, right = (
        ndimage.gaussian_filter(np.isin(labels, side).astype(np.float32), 3.0 / spacing)
        for side in zip(GREY, WHITE, strict=True)
    )
    refined = labels.copy()
    refined[tissue == 1] = FLUID
    for side, here in enumerate((left >= right, left < right)):
        refined[(tissue == 2) & here] = GREY[side]
        refined[(tissue == 3) & here] = WHITE[side]
    result = classes.copy()
    result[box] = refined
    return result


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


def typical_values() -> np.ndarray:
    """What a soft tissue map holds of every class (classes,), float32, as far as its tissue says."""
    values = {"csf": 0.0, "gm": 0.5, "deep_gm": 0.7}
    return np.array([values.get(label.tissue, 1.0) * (label.index > 0) for label in anatomy.labels()], np.float32)
