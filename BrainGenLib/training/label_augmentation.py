"""Spatial augmentation of label maps in template space, on any device: small affine, smooth diffeomorphic, mirror.

Labels are warped as soft maps: every sampled point spreads over the classes of its eight neighbours (trilinear
interpolation of the one-hot map, without ever making that map).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from BrainGenLib import anatomy
from BrainGenLib.spaces import GRID_2MM


def mirror(structures: np.ndarray, lesions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left-right flip of an anatomy map and a lesion map; sides of structures swap, lesions have none."""
    swap = np.array(anatomy.mirrored_classes(), np.uint8)
    return swap[structures[::-1]], lesions[::-1].copy()


def identity(
    shape: Sequence[int] = GRID_2MM.shape, corner: Sequence[int] = (0, 0, 0), device: torch.device | None = None
) -> torch.Tensor:
    """Voxel coordinates (3, R, A, S) of a box of the 2 mm grid."""
    axes = [torch.arange(c, c + n, dtype=torch.float32, device=device) for c, n in zip(corner, shape, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def sample_field(field: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Values (C, …) of a field (C, r, a, s) that spans the whole template box, at 2 mm voxel coordinates (3, …)."""
    # By axis: a tensor of sizes would be sent to the device every time, and waited for.
    normalised = [(2 * axis + 1) / size - 1 for axis, size in zip(points, GRID_2MM.shape, strict=True)]
    grid = torch.stack(normalised[::-1], -1)[None]
    return F.grid_sample(field[None], grid, padding_mode="border", align_corners=False)[0]


def random_displacement(
    generator: torch.Generator,
    *,
    rotation: float = 5.0,
    scaling: float = 0.08,
    coarse: float = 2.0,
    fine: float = 1.2,
) -> torch.Tensor:
    """A diffeomorphic displacement in 2 mm voxels on the 8 mm grid, (3, 20, 28, 20).

    Args:
        generator: CPU generator.
        rotation: standard deviation of each angle is half of it, degrees.
        scaling: standard deviation of each axis' scale is half of it.
        coarse, fine: standard deviation of the velocity (mm) on control grids of 32 and 16 mm.
    """
    cells = [n // 4 for n in GRID_2MM.shape]
    velocity = torch.zeros(1, 3, *cells)
    for spacing, amplitude in ((4, coarse), (2, fine)):
        control = torch.randn(1, 3, *(n // spacing for n in cells), generator=generator) * amplitude
        velocity += F.interpolate(control, cells, mode="trilinear")
    displacement = integrate(velocity[0] / GRID_2MM.spacing)
    angles = torch.randn(3, generator=generator) * math.radians(rotation) / 2
    matrix = torch.linalg.matrix_exp(
        torch.tensor(
            [[0, -angles[2], angles[1]], [angles[2], 0, -angles[0]], [-angles[1], angles[0], 0]], dtype=torch.float32
        )
    ) @ torch.diag(1 + torch.randn(3, generator=generator) * scaling / 2)
    centres = coarse_points() - torch.tensor(GRID_2MM.shape).view(3, 1, 1, 1) / 2
    return displacement + torch.einsum("ij,jras->iras", matrix - torch.eye(3), centres)


def coarse_points() -> torch.Tensor:
    """Centres of the cells of the 8 mm grid in 2 mm voxel coordinates, (3, 20, 28, 20)."""
    return identity([n // 4 for n in GRID_2MM.shape]) * 4 + 1.5


def integrate(velocity: torch.Tensor, squarings: int = 5) -> torch.Tensor:
    """Displacement of a stationary velocity field on the 8 mm grid by scaling and squaring (Arsigny et al. 2006)."""
    displacement = velocity / 2**squarings
    points = coarse_points()
    for _ in range(squarings):
        displacement = displacement + sample_field(displacement, points + displacement)
    return displacement


def warp_soft(classes: torch.Tensor, count: int, points: torch.Tensor) -> torch.Tensor:
    """Soft map (count, …) of a class map (R, A, S) at voxel coordinates (3, …); beyond its faces it continues."""
    size = classes.shape
    points = torch.stack([axis.clamp(0, side - 1 - 1e-3) for axis, side in zip(points, size, strict=True)])
    low = points.long()
    upper = points - low
    weights = (1 - upper, upper)
    corner = (low[0] * size[1] + low[1]) * size[2] + low[2]
    flat = classes.flatten()
    soft = torch.zeros(count, *points.shape[1:], device=points.device)
    for i, j, k in itertools.product((0, 1), repeat=3):
        found = flat[corner + ((i * size[1] + j) * size[2] + k)]
        soft.scatter_add_(0, found[None].long(), (weights[i][0] * weights[j][1] * weights[k][2])[None])
    return soft
