"""How far a rendered patch is from the scan it imitates.

L1 alone asks for the median of all scans that fit the labels: a painted phantom. So L1 is taken on the 2 and 4 mm
pyramid, where labels do determine the picture (and lightly at 1 mm), and the *energy* of fine texture (the local mean
of absolute differences between neighbours) is matched wherever the scan resolves it, which leaves its pattern free.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from BrainGenLib.training.acquisition import in_plane

WINDOW = 6  # voxels over which texture energy is averaged
# Axes alone would be satisfied by streaks along a diagonal.
DIRECTIONS = [
    (1, 0, 0), (0, 1, 0), (0, 0, 1),
    (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1),
]  # fmt: skip


def difference(image: Tensor, step: tuple[int, int, int]) -> Tensor:
    """|image shifted by ``step`` voxels − image| where both exist, (B, 1, R, A, S) to a slightly smaller one."""
    here, there = image, image
    for axis, offset in enumerate(step, 2):
        if offset:
            size = image.shape[axis] - 1
            here = here.narrow(axis, 0 if offset > 0 else 1, size)
            there = there.narrow(axis, 1 if offset > 0 else 0, size)
    return (here - there).abs()


def texture_distance(fake: Tensor, real: Tensor, axes: Tensor) -> Tensor:
    """Mean |difference of texture energy| over the directions whose axes (B, 3) all count, (B,)."""
    total = fake.new_zeros(len(fake))
    weight = fake.new_zeros(len(fake))
    for step in DIRECTIONS:
        counts = torch.stack([axes[:, axis] for axis in range(3) if step[axis]]).prod(0)
        energies = (F.avg_pool3d(difference(x, step), WINDOW, stride=WINDOW // 2) for x in (fake, real))
        fake_energy, real_energy = energies
        total = total + counts * (fake_energy - real_energy).abs().flatten(1).mean(1)
        weight = weight + counts
    return total / weight.clamp(min=1)


def resemblance(fake: Tensor, real: Tensor, voxel: Tensor, coarse: Tensor, fine_weight: float) -> dict[str, Tensor]:
    """Loss terms, each a scalar.

    Args:
        fake, real: (B, 1, R, A, S) at 1 mm; the fake after :func:`acquisition.acquire`.
        voxel: (B, 3) true voxel size in mm.
        coarse: (B,) the scan lies on the 2 mm grid (its 1 mm version repeats voxels).
        fine_weight: weight of the L1 at 1 mm.
    """
    fine = (~coarse).to(fake.dtype)
    half_fake, half_real = F.avg_pool3d(fake, 2), F.avg_pool3d(real, 2)
    at_1mm = (fine * (fake - real).abs().flatten(1).mean(1)).mean()
    at_2mm = F.l1_loss(half_fake, half_real)
    at_4mm = F.l1_loss(F.avg_pool3d(half_fake, 2), F.avg_pool3d(half_real, 2))
    sharp = in_plane(voxel).to(fake.dtype) * fine[:, None]
    everywhere = torch.ones_like(sharp)
    # A 2 mm scan resolves 2 mm everywhere; a thick-slice scan does not along its slice axis.
    resolved = torch.where(coarse[:, None], everywhere, sharp)
    texture = texture_distance(fake, real, sharp).mean() + texture_distance(half_fake, half_real, resolved).mean()
    return {"l1": at_2mm + at_4mm + fine_weight * at_1mm, "texture": texture}
