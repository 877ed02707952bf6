"""Texture of an image: how its intensities vary from voxel to voxel within a tissue."""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.stats import wasserstein_distance

# Lags up to this many voxels: a window of 15³, which is as far as a masked autocovariance is well determined.
LAGS = 7


def power_spectrum(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Radially averaged power spectrum of the image inside a mask of any shape, (8,) in decibels.

    Blackman-Tukey estimate: the autocovariance over pairs of voxels that both lie in the mask, tapered by a Hann
    window over the lags, then Fourier transformed. Entry k is at k/15 cycles per voxel, 0 is the slow variation.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("The power spectrum needs a mask that is not empty.")
    corners = [slice(edge.min(), edge.max() + 1) for edge in np.nonzero(mask)]
    mask = mask[tuple(corners)]
    values = image[tuple(corners)]
    residual = np.where(mask, values - values[mask].mean(), 0.0)
    shape = tuple(n + LAGS for n in mask.shape)
    products = fft.irfftn(np.abs(fft.rfftn(residual, shape)) ** 2, shape)
    pairs = fft.irfftn(np.abs(fft.rfftn(mask.astype(float), shape)) ** 2, shape)
    lags = np.arange(-LAGS, LAGS + 1)
    block = np.ix_(lags, lags, lags)
    taper = np.hanning(2 * LAGS + 3)[1:-1]
    window = taper[:, None, None] * taper[None, :, None] * taper[None, None, :]
    covariance = window * products[block] / np.maximum(pairs[block], 1)
    spectrum = np.abs(fft.fftn(fft.ifftshift(covariance)))
    frequency = np.abs(fft.fftfreq(2 * LAGS + 1, 1 / (2 * LAGS + 1)))
    radius = np.sqrt(np.add.outer(np.add.outer(frequency**2, frequency**2), frequency**2)).round().astype(int)
    power = np.bincount(radius.ravel(), spectrum.ravel()) / np.bincount(radius.ravel())
    return 10 * np.log10(power[: LAGS + 1] + 1e-12)


def gradient_magnitudes(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Intensity change per voxel, at the voxels of the mask."""
    return np.sqrt(sum(np.square(g) for g in np.gradient(image.astype(np.float32))))[mask]


def gradient_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Earth mover's distance between two samples of gradient magnitudes, relative to the mean of the second.

    0.5 says that edges and grain differ in strength by half of what a real scan has.
    """
    return float(wasserstein_distance(a, b) / b.mean())
