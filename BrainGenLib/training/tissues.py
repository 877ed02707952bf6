"""Borders of cerebral tissue moved to where a T1w scan shows them.

Teachers label on coarser grids than the scan's, and smooth: cortex swallows the CSF of narrow sulci. A renderer that
is shown such pairs learns that cortex may be dark, and paints it grey; a label model learns to leave sulci out.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.methods.intensity_model import shading

WHITE = tuple(anatomy.classes_of(name=f"{side} cerebral white matter")[0] for side in ("left", "right"))
GREY = tuple(anatomy.classes_of(name=f"{side} cerebral cortex")[0] for side in ("left", "right"))
FLUID = anatomy.classes_of(name="extraventricular CSF")[0]
VENTRICLES = tuple(anatomy.classes_of(name=f"{side} lateral ventricle")[0] for side in ("left", "right"))

ITERATIONS = 6
# Of soft tissue maps.
LOWEST, HIGHEST = -0.25, 1.5
# How far a border may be off, mm (one standard deviation).
REACH_MM = 1.6
# What cortex may hide of CSF wherever it is, and CSF of cortex.
HIDDEN_FLUID, HIDDEN_GREY = 0.15, 0.1


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
    core = ndimage.binary_erosion(given[2], iterations=2 if spacing < 1.5 else 1)
    ventricles = np.isin(labels, VENTRICLES)
    if min(core.sum(), ventricles.sum(), *(mask.sum() for mask in given)) < 50:
        return classes
    flat = image / shading(image, core, spacing)
    inner = ndimage.binary_erosion(ventricles)
    fluid = flat[inner if inner.sum() > 50 else ventricles]
    means = np.array([np.median(fluid), np.median(flat[given[1]]), 1.0])
    if not means[0] + 0.1 < means[1] < 0.9:
        return classes
    darkest = 0.7 * means[0]
    deviations = np.array([max(fluid.std(), 0.08), 0.1, max(flat[core].std(), 0.05)])
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


def soft_map(structures: np.ndarray, t1w: np.ndarray, spacing: float) -> np.ndarray | None:
    """How a T1w scan mixes fluid (0), grey (½) and white matter (1) in every voxel; None if it cannot be told.

    Intensities after the shading of white matter was divided out, linear between the medians of ventricles, cortex
    and white matter, and so from :data:`LOWEST` to :data:`HIGHEST`.

    Args:
        structures: class map without lesions, uint8.
        t1w: the scan on the same grid.
        spacing: voxel size, mm.

    Returns:
        float32, 0 outside the brain.
    """
    core = ndimage.binary_erosion(np.isin(structures, WHITE), iterations=2 if spacing < 1.5 else 1)
    ventricles = np.isin(structures, VENTRICLES)
    inner = ndimage.binary_erosion(ventricles)
    cortex = np.isin(structures, GREY)
    if min(core.sum(), ventricles.sum(), cortex.sum()) < 50:
        return None
    flat = t1w / shading(t1w.astype(np.float32), core, spacing)
    fluid, grey = np.median(flat[inner if inner.sum() > 50 else ventricles]), np.median(flat[cortex])
    white = np.median(flat[core])
    if not fluid + 0.1 < grey < 0.9 * white:
        return None
    soft = np.interp(flat, [2 * fluid - grey, fluid, grey, white, 2 * white - grey], [-0.5, 0, 0.5, 1, 1.5])
    return np.where(structures > 0, soft.clip(LOWEST, HIGHEST), 0).astype(np.float32)
