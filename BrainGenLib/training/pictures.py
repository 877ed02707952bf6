"""Slices of volumes, for the pictures of run folders."""

from __future__ import annotations

import numpy as np

from BrainGenLib import anatomy

LABEL_COLORS = np.array([label.color for label in anatomy.labels()]) / 255
GREYS = np.linspace(0, 1, 256)[:, None].repeat(3, 1)


def views(volume: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Axial, coronal and sagittal slices of a volume (R, A, S) of integers, one below the other, (H, W, 3).

    Args:
        colors: of the integers, (n, 3).
    """
    r, a, s = (n // 2 for n in volume.shape)
    planes = [volume[:, :, int(s * 1.05)], volume[:, a, :], volume[int(r * 0.85), :, :]]
    shown = [colors[plane.T[::-1]] for plane in planes]
    width = max(view.shape[1] for view in shown)
    return np.concatenate([np.pad(view, ((0, 0), (0, width - view.shape[1]), (0, 0))) for view in shown])


def mosaic(classes: list[np.ndarray]) -> np.ndarray:
    """The same of class maps in the table's colours, side by side."""
    return np.concatenate([views(volume, LABEL_COLORS) for volume in classes], 1)
