"""Smooth random deformations of the template: how brains differ that are aligned by an affine map alone."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from BrainGenLib.spaces import GRID_1MM

SPACING = 4
"""Of the grid on which the field is made, mm."""
SMOOTH_MM = 20.0
"""Smoothness of the velocity (one standard deviation of the Gaussian)."""
RMS_MM = 4.0
"""Root mean square of the displacement."""
ASYMMETRY = 0.3
"""What differs between the sides, over what is alike in them: hemispheres then differ in volume as people's do (one
standard deviation 2 %); noise of each place for itself lets them differ by 6 %."""
HALVINGS = 5


def random_displacement(generator: torch.Generator) -> np.ndarray:
    """A displacement of GRID_1MM that folds nothing, float32 (3, R, A, S), mm.

    A stationary velocity field of Gaussian noise, smoothed, of no mean, mostly alike on both sides, is integrated by
    scaling and squaring (Arsigny et al., MICCAI 2006).
    """
    shape = [n // SPACING for n in GRID_1MM.shape]
    noise = torch.randn((3, *shape), generator=generator).numpy()
    velocity = np.stack([ndimage.gaussian_filter(part, SMOOTH_MM / SPACING, mode="reflect") for part in noise])
    velocity -= velocity.mean((1, 2, 3), keepdims=True)
    mirrored = velocity[:, ::-1] * np.array([-1, 1, 1], np.float32).reshape(3, 1, 1, 1)
    alike = (velocity + mirrored) / 2
    velocity = alike + ASYMMETRY * (velocity - alike)
    velocity *= RMS_MM / np.sqrt((velocity**2).sum(0).mean())
    field = velocity / SPACING / 2**HALVINGS
    places = np.indices(shape).astype(np.float32)
    for _ in range(HALVINGS):
        field = field + np.stack(
            [ndimage.map_coordinates(part, places + field, order=1, mode="nearest") for part in field]
        )
    fine = F.interpolate(
        torch.from_numpy(field[None]).float(), size=GRID_1MM.shape, mode="trilinear", align_corners=False
    )
    return fine[0].mul_(SPACING).numpy()
