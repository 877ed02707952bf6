"""Is a T1w-like map as sharp and as noisy as a scan? Measures of a soft tissue map of 1 mm that need no network."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from BrainGenLib import anatomy

MEASURES = {
    "slope of the spectrum": "of log power over log frequency, 0.05 to 0.4 /mm, power averaged over directions",
    "power at 0.2-0.3 /mm (%)": "of that at 0.02 to 0.5 /mm",
    "gradient, median (/mm)": "within the brain, 2 mm or more from its border; grey ½, white matter 1",
    "noise in deep white matter": "standard deviation of what is finer than 1 mm (one standard deviation), 4 mm or "
    "more within cerebral white matter",
    "variation in deep white matter": "standard deviation there",
}
"""Measure to what it says."""


def grain_measures(tissue: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """The :data:`MEASURES` of a soft tissue map (fluid 0, grey ½, white matter 1) of 1 mm with its class map."""
    brain = classes > 0
    tissue = np.where(brain, tissue, 0).astype(np.float32)
    frequency, power = _spectrum(tissue)
    rings = np.digitize(frequency, np.arange(0.05, 0.4001, 0.01))
    inside = (rings > 0) & (rings < 36)
    mean = np.bincount(rings[inside], power[inside])[1:] / np.bincount(rings[inside])[1:]
    slope = np.polyfit(np.log(np.arange(0.055, 0.4, 0.01)), np.log(mean), 1)[0]
    whole = power[(frequency >= 0.02) & (frequency < 0.5)].sum()
    gradient = np.sqrt(sum(np.square(part) for part in np.gradient(tissue)))
    white = np.isin(classes, anatomy.classes_of(name="cerebral white matter"))
    deep = tissue * 0 if not white.any() else ndimage.distance_transform_edt(white)
    fine = tissue - ndimage.gaussian_filter(tissue, 1)
    return {
        "slope of the spectrum": float(slope),
        "power at 0.2-0.3 /mm (%)": float(100 * power[(frequency >= 0.2) & (frequency < 0.3)].sum() / whole),
        "gradient, median (/mm)": float(np.median(gradient[ndimage.distance_transform_edt(brain) >= 2])),
        "noise in deep white matter": float(fine[deep >= 4].std()),
        "variation in deep white matter": float(tissue[deep >= 4].std()),
    }


def _spectrum(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (/mm) and power of an image of 1 mm, both flat."""
    power = np.abs(fft.rfftn(image)) ** 2
    axes = [fft.fftfreq(n) for n in image.shape[:2]] + [fft.rfftfreq(image.shape[2])]
    frequency = np.sqrt(sum(np.square(part) for part in np.meshgrid(*axes, indexing="ij", sparse=True)))
    # Half of the spectrum stands for the other half, but for the plane that mirrors itself.
    power[..., 1:] *= 2
    return frequency.ravel(), power.ravel()
