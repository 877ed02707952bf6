"""Borders of a segmentation moved to where the scan shows them: Gaussian mixture with the segmentation as atlas.

A network that learned from images of random contrast knows where structures are, less so where exactly they end. The
intensities of the scan at hand say that: structures that look alike get a Gaussian, fitted by expectation
maximisation, with the smoothed segmentation as prior of every voxel (Van Leemput et al., IEEE TMI 1999; Puonti et
al., NeuroImage 2016). No contrast is presumed.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy

PASSES = 2
ITERATIONS = 6
REACH = 1.0
"""How far a border may move in a pass, mm (one standard deviation)."""
HIDDEN_FLUID = 0.15
"""Networks leave narrow sulci out: the prior of fluid wherever there is cortex, as a share of that of cortex."""
FIELD = 18.0
"""Width of the shading that is divided out, mm (one standard deviation)."""
LEAST_DEVIATION = 0.04
FEWEST = 1000
FLUIDS = (
    "extraventricular CSF",
    "lateral ventricle",
    "inferior lateral ventricle",
    "third ventricle",
    "fourth ventricle",
)
FLUID = anatomy.classes_of(name="extraventricular CSF")[0]
CORTEX = anatomy.classes_of(name="cerebral cortex")
WHITE = anatomy.classes_of(name="cerebral white matter")
# What shares a Gaussian, so that small structures borrow from large ones.
ALIKE = [
    [index for name in names for index in anatomy.classes_of(name=name)]
    for names in (
        FLUIDS,
        ("cerebral cortex", "hippocampus", "amygdala"),
        ("cerebral white matter",),
        ("cerebellar cortex",),
        ("cerebellar white matter",),
        ("caudate", "putamen", "accumbens area"),
        ("pallidum",),
        ("thalamus",),
        ("ventral diencephalon", "brainstem"),
    )
]


def sharpen(classes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A class map with borders between structures where the image shows them; its outline and lesions stay.

    Args:
        classes: (R, A, S) uint8 at 1 mm.
        image: the scan on the same grid, of any contrast.

    Returns:
        A new map; the same one where there is too little white matter to measure shading by.
    """
    found = ndimage.find_objects((classes > 0).astype(np.uint8))
    if not found:
        return classes
    labels, part = classes[found[0]], image[found[0]].astype(np.float32)
    core = ndimage.binary_erosion(np.isin(labels, WHITE), iterations=2)
    if core.sum() < FEWEST:
        return classes
    flat = part / shading(part, core, 1.0)
    for _ in range(PASSES):
        labels = _assign(labels, flat)
    result = classes.copy()
    result[found[0]] = labels
    return result


def _assign(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """One pass: Gaussians fitted, then every voxel to the structure of the largest prior times likelihood."""
    region = (labels > 0) & ~np.isin(labels, anatomy.classes_of(kind="lesion"))
    values = image[region]
    priors = _priors(labels, region)
    groups = [[index for index in group if index in priors] for group in ALIKE]
    groups = [group for group in groups if group]
    shares = np.stack([_total(labels.shape, [priors[index] for index in group])[region] for group in groups])
    # A quarter of the voxels fits a dozen numbers well enough.
    means, deviations = _fit(shares[:, ::4], values[::4])
    best, out = np.zeros(labels.shape, np.float32), labels.copy()
    likelihood = np.zeros(labels.shape, np.float32)
    for group, mean, deviation in zip(groups, means, deviations, strict=True):
        # Bounded, so that an outlier goes by the prior.
        likelihood[region] = np.exp(-0.5 * np.minimum(((values - mean) / deviation) ** 2, 30)) / deviation
        for index in group:
            box, prior = priors[index]
            score = prior * likelihood[box]
            better = score > best[box]
            best[box][better] = score[better]
            out[box][better] = index
    return out


_Prior = tuple[tuple[slice, ...], np.ndarray]


def _priors(labels: np.ndarray, region: np.ndarray) -> dict[int, _Prior]:
    """Class to a box and the smoothed mask in it."""
    margin = round(4 * REACH)
    boxes = ndimage.find_objects(labels)
    priors: dict[int, _Prior] = {}
    for index in np.unique(labels[region]).tolist():
        box = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in boxes[index - 1])
        priors[index] = box, ndimage.gaussian_filter((labels[box] == index).astype(np.float32), REACH)
    cortex = _total(labels.shape, [priors[index] for index in CORTEX if index in priors])
    fluid = _total(labels.shape, [priors[index] for index in (FLUID,) if index in priors])
    priors[FLUID] = tuple(slice(0, n) for n in labels.shape), np.maximum(fluid, HIDDEN_FLUID * cortex)
    return priors


def _total(shape: tuple[int, ...], priors: list[_Prior]) -> np.ndarray:
    total = np.zeros(shape, np.float32)
    for box, prior in priors:
        total[box] += prior
    return total


def _fit(priors: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of the groups, from their priors (groups, voxels) and the intensities."""
    priors = priors / np.maximum(priors.sum(0), 1e-6)
    shares = priors
    for _ in range(ITERATIONS):
        totals = shares.sum(1) + 1e-6
        means = shares @ values / totals
        squares = (values - means[:, None]) ** 2
        deviations = np.sqrt((shares * squares).sum(1) / totals).clip(LEAST_DEVIATION)
        shares = priors * np.exp(-0.5 * squares / deviations[:, None] ** 2) / deviations[:, None]
        shares /= np.maximum(shares.sum(0), 1e-12)
    return means, deviations


def shading(image: np.ndarray, core: np.ndarray, spacing: float) -> np.ndarray:
    """Local brightness of white matter, smooth, on the image's grid.

    Args:
        image: (R, A, S).
        core: bool, what is surely white matter; not empty.
        spacing: voxel size, mm.
    """
    step = max(round(4 / spacing), 1)
    coarse = tuple(slice(None, None, step) for _ in range(3))
    width = FIELD / spacing / step
    blurred = ndimage.uniform_filter(np.where(core, image, 0), step)[coarse]
    weight = ndimage.uniform_filter(core.astype(np.float32), step)[coarse]
    weight = ndimage.gaussian_filter(weight, width)
    whole = float(image[core].mean())
    # Far from white matter the mean of the brain stands in.
    field = (ndimage.gaussian_filter(blurred, width) + 1e-3 * whole) / (weight + 1e-3)
    points = np.meshgrid(*[np.arange(n) / step for n in image.shape], indexing="ij", sparse=False)
    return ndimage.map_coordinates(field, points, order=1, mode="nearest").clip(min=1e-3)
