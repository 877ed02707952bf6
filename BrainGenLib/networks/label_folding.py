"""Denoiser of cortical tissue: draws the folds that a coarse label map leaves open.

A code of 8 mm cells says how much cortex, white matter and fluid a place holds, but only in part where. The decoder's
best guess is then blurred, and its most likely class a brain without narrow sulci. This network is the second stage
of a cascade (Ho et al. 2022, Cascaded Diffusion Models, arXiv 2106.15282): a diffusion model of the three tissues at
2 mm, given their blurred shares.

Tissues are categories, so the network gives their probabilities (Dieleman et al. 2022, Continuous diffusion for
categorical data, arXiv 2211.15089), and what can be said without a network is built in: for independent voxels the
posterior is the blurred share times the likelihood of the noised value. MONAI's U-Net adds what neighbours say.
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
MOST_CERTAIN = 8.0
"""Bound on the likelihood's slope: shares between 0 and 1 exist, so no noise is low enough for full certainty."""


class FoldDenoiser(nn.Module):
    """Logits of the tissues of each 2 mm voxel from noised values x = α·z + σ·ε of z = 2·share - 1.

    Args:
        channels: of the U-Net's levels; it runs on blocks of 2³ voxels.
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

    def forward(
        self, x: torch.Tensor, times: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, given: torch.Tensor
    ) -> torch.Tensor:
        """Logits (N, TISSUES, …) for noised values ``x`` (N, TISSUES, …).

        Args:
            times: training times (N,); ``alpha``, ``sigma`` are their coefficients (N,).
            given: blurred values of z and what is known, (N, TISSUES + KNOWN, …).
        """
        slope = (2 * alpha / sigma.square().clamp_min(1e-6)).clamp_max(MOST_CERTAIN).view(-1, 1, 1, 1, 1)
        share = ((given[:, :TISSUES] + 1) / 2).clamp_min(0.01)
        blocks = pixelunshuffle(torch.cat([x, given], 1), 3, FOLD)
        return share.log() + slope * x + pixelshuffle(self.unet(blocks, times), 3, FOLD)
