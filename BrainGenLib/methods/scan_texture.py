"""Images with the texture of the scans that they were sampled from, in place of a renderer's."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

BORDER_MM = 0.7
"""Smoothness (one standard deviation) of the border of lesions, 1 mm voxels."""


def intensities(values: np.ndarray, knots: tuple[np.ndarray, np.ndarray], brain: np.ndarray) -> np.ndarray:
    """An image (R, A, S) as a scan has it, float32 in [0, 1], 0 outside the brain.

    Args:
        values: float32, of donors' images.
        knots: of :class:`~BrainGenLib.donors.Donors`.
        brain: bool.
    """
    x, y = knots
    # Beyond the first and the last knot it goes on as beside them.
    ends = [2 * x[0] - x[1], *x, 2 * x[-1] - x[-2]], [2 * y[0] - y[1], *y, 2 * y[-1] - y[-2]]
    return np.where(brain, np.interp(values, *ends).clip(0, 1), 0).astype(np.float32)


def with_lesions(image: np.ndarray, rendered: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """An image (R, A, S) with lesions as another image of the same anatomy shows them.

    Args:
        rendered: (R, A, S), with lesions.
        lesion: bool.
    """
    share = ndimage.gaussian_filter(lesion.astype(np.float32), BORDER_MM)
    return image + share * (rendered - image) * (image > 0)
