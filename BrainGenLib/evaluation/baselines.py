"""Trivial ways to make an image of a label map, at the resolution of a real scan: what a renderer must beat."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from BrainGenLib import anatomy

FWHM = 2 * np.sqrt(2 * np.log(2))


def class_statistics(image: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(classes, 2) mean and standard deviation of an image within each class; NaN for classes it does not hold."""
    count = len(anatomy.labels())
    n = np.bincount(classes.ravel(), minlength=count)[:count]
    values = image.ravel().astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(classes.ravel(), values, minlength=count)[:count] / n
        square = np.bincount(classes.ravel(), values**2, minlength=count)[:count] / n
        return np.c_[mean, np.sqrt(np.maximum(square - mean**2, 0))]


def matched_statistics(per_scan: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Statistics of one real scan drawn at random, with the average of the others where it lacks a class.

    Classes that no scan holds take the average of the classes of their tissue.
    """
    pool = np.stack(per_scan)
    chosen = pool[rng.integers(len(pool))]
    present = ~np.isnan(pool)
    with np.errstate(invalid="ignore"):
        average = np.where(present, pool, 0).sum(0) / present.sum(0)
    filled = np.where(np.isnan(chosen), average, chosen)
    for label in anatomy.labels():
        if np.isnan(filled[label.index, 0]):
            peers = filled[anatomy.classes_of(tissue=label.tissue)]
            peers = peers[~np.isnan(peers[:, 0])]
            filled[label.index] = peers.mean(0) if len(peers) else np.nanmean(filled, axis=0)
    return filled


def random_statistics(rng: np.random.Generator) -> np.ndarray:
    """Means from U[25, 225] and deviations from U[5, 25] out of 255, as SynthSeg draws them (Billot et al. 2023)."""
    count = len(anatomy.labels())
    return np.c_[rng.uniform(25, 225, count), rng.uniform(5, 25, count)] / 255


def gaussian_render(classes: np.ndarray, statistics: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Image in [0, 1] with independent Gaussian voxels whose mean and deviation (classes, 2) their class decides."""
    noise = rng.standard_normal(classes.shape, dtype=np.float32)
    image = statistics[classes, 0] + statistics[classes, 1] * noise
    return np.where(classes > 0, np.clip(image, 0, 1), 0).astype(np.float32)


def acquire(volume: np.ndarray, spacing: float, voxel: tuple[float, float, float]) -> np.ndarray:
    """The volume as a scan with voxels of ``voxel`` mm shows it, back on its own grid of ``spacing`` mm.

    Blurred along each axis by a Gaussian as wide (FWHM) as the coarser voxel, sampled at that distance, and linearly
    interpolated, which is what happens to a thick-slice scan on its way into template space.
    """
    factors = [max(size / spacing, 1.0) for size in voxel]
    # The difference of squares, because the volume is already as blurred as its own voxels.
    sigma = [np.sqrt(factor**2 - 1) / FWHM for factor in factors]
    image = ndimage.gaussian_filter(volume, sigma)
    for axis, factor in enumerate(factors):
        if factor > 1:
            grid = np.arange(volume.shape[axis])
            samples = np.arange(0, volume.shape[axis], factor)
            coarse = make_interp_spline(grid, image, k=1, axis=axis)(samples)
            image = make_interp_spline(samples, coarse, k=1, axis=axis)(np.minimum(grid, samples[-1]))
    return np.where(volume > 0, image, 0).astype(np.float32)
