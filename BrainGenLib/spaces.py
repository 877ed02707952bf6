"""Grids of the project: template space is MNI152, RAS+, in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """A regular RAS+ grid: ``shape`` voxels of ``spacing`` mm, first voxel centre at ``origin`` mm."""

    shape: tuple[int, int, int]
    spacing: float
    origin: tuple[float, float, float]

    @property
    def affine(self) -> np.ndarray:
        """4×4 voxel-to-world matrix."""
        affine = np.diag([self.spacing] * 3 + [1.0])
        affine[:3, 3] = self.origin
        return affine


# Every 2 mm voxel is exactly a block of 2×2×2 voxels of 1 mm, and x is symmetric about the midplane.
GRID_1MM = Grid((160, 224, 160), 1.0, (-79.5, -127.5, -77.5))
GRID_2MM = Grid((80, 112, 80), 2.0, (-79.0, -127.0, -77.0))
