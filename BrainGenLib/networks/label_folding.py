"""Denoiser of cortical tissue: draws the folds that a coarse label map leaves open.

A code of 8 mm cells says how much cortex, white matter and fluid a place holds, but only in part where. The decoder's
best guess is then blurred, and its most likely class a brain without narrow sulci. This network is the second stage
of a cascade (Ho et al. 2022, Cascaded Diffusion Models, arXiv 2106.15282): a diffusion model of the three tissues at
2 mm, given their blurred shares.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import DiffusionModelUNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn

TISSUES = 3
"""Fluid around the brain, cerebral cortex, cerebral white matter."""
KNOWN = 3
"""Share of what is brain but none of these, share of background, level of the blur."""
FOLD = 2
MULTIPLE = 8
"""Sides of the input are multiples of this number of voxels."""


class FoldDenoiser(nn.Module):
    """Predicts v = α·ε - σ·z of tissue shares z = 2·share - 1 at 2 mm; MONAI's U-Net runs on blocks of 2³ voxels.

    Args:
        channels: of the U-Net's levels.
    """

    def __init__(self, channels: Sequence[int] = (32, 48, 64)) -> None:
        super().__init__()
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=FOLD**3 * (2 * TISSUES + KNOWN),
            out_channels=FOLD**3 * TISSUES,
            num_res_blocks=1,
            channels=tuple(channels),
            attention_levels=(False,) * len(channels),
            norm_num_groups=8,
        )

    def forward(self, x: torch.Tensor, times: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """The velocity (N, TISSUES, …) of noised shares ``x`` (N, TISSUES, …) at training times (N,).

        Args:
            given: blurred shares and what is known, (N, TISSUES + KNOWN, …).
        """
        blocks = pixelunshuffle(torch.cat([x, given], 1), 3, FOLD)
        return pixelshuffle(self.unet(blocks, times), 3, FOLD)
