"""What a scanner's resolution does to the ideal 1 mm picture.

The renderer draws at 1 mm; most scans have thicker slices or larger voxels. Both are compared after the renderer's
picture went through the scan's resolution, so that a 3 mm scan teaches contrast without teaching blur.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RADIUS = 4
# Slice profiles are nearer to a box than to a Gaussian of the same width; 0.8 of the thickness fits its variance.
WIDTH = 0.8


def acquire(image: Tensor, voxel: Tensor) -> Tensor:
    """Blur 1 mm images to the scans' slice thickness along each axis that is thicker than 1.5 mm.

    Args:
        image: (B, 1, R, A, S) at 1 mm.
        voxel: (B, 3) true voxel size in mm.
    """
    reach = torch.arange(-RADIUS, RADIUS + 1, device=image.device, dtype=torch.float32)
    sigma = torch.where(voxel > 1.5, WIDTH * voxel / 2.355, 1e-3)  # B×3
    kernels = torch.exp(-0.5 * (reach / sigma[..., None]) ** 2)
    kernels = (kernels / kernels.sum(-1, keepdim=True)).to(image.dtype)
    x = image.transpose(0, 1)  # the batch as channels, so that each sample has its own kernel
    # In half precision the blur would add steps of its own to the texture that is compared.
    with torch.autocast(image.device.type, enabled=False):
        for axis in (voxel > 1.5).any(0).nonzero().flatten().tolist():
            shape, padding = [len(image), 1, 1, 1, 1], [0, 0, 0]
            shape[axis + 2], padding[axis] = 2 * RADIUS + 1, RADIUS
            x = F.conv3d(x, kernels[:, axis].reshape(shape), padding=padding, groups=len(image))
    return x.transpose(0, 1)


def in_plane(voxel: Tensor) -> Tensor:
    """(B, 3) booleans: the axes along which a scan resolves detail of 1 mm."""
    return voxel <= 1.5
