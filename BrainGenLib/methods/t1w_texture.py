"""T1w images from soft tissue that was sampled at 1 mm: a scan's own texture, in place of a renderer's."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

BORDER_MM = 0.7
"""Smoothness (one standard deviation) of the border of lesions, 1 mm voxels."""


def t1w(tissue: np.ndarray, landmarks: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """A T1w image (R, A, S), float32 in [0, 1], 0 outside the brain.

    Args:
        tissue: float32 soft tissue map: fluid 0, grey ½, white matter 1, and beyond.
        landmarks: (3,) intensities of fluid, grey and white matter.
        brain: bool.
    """
    fluid, grey, white = landmarks
    values = [2 * fluid - grey, fluid, grey, white, 2 * white - grey]
    image = np.interp(tissue, [-0.5, 0, 0.5, 1, 1.5], values)
    return np.where(brain, image.clip(0, 1), 0).astype(np.float32)


def with_lesions(image: np.ndarray, rendered: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """An image (R, A, S) with lesions as another image of the same anatomy shows them.

    Args:
        rendered: (R, A, S), with lesions.
        lesion: bool.
    """
    share = ndimage.gaussian_filter(lesion.astype(np.float32), BORDER_MM)
    return image + share * (rendered - image) * (image > 0)
