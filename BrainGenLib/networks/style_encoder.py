"""The 2D style encoder of brainSPADE: the look of a scan from a single axial slice (METHODS.md 1b)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BINS = 24  # of the histogram


class StyleEncoder(nn.Module):
    """Axial slices at 1 mm to the mean and log-variance of their style code.

    Strided convolutions, then the mean and the standard deviation of each feature over the brain (not over the
    background, whose share differs from slice to slice), beside the brain's histogram, which says most of a scan's
    contrast before anything is learned.

    Args:
        style: length of the code.
        channels: of the strided convolutions.
    """

    def __init__(self, style: int = 16, channels: Sequence[int] = (16, 32, 64, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 2
        for c in channels:
            layers += [nn.Conv2d(width, c, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            width = c
        self.convolutions = nn.Sequential(*layers)
        self.code = nn.Sequential(
            nn.LayerNorm(2 * width + BINS), nn.Linear(2 * width + BINS, 64), nn.SiLU(), nn.Linear(64, 2 * style)
        )

    def forward(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, R, A) in [0, 1], 0 outside the brain, to mean and log-variance, (B, style) each."""
        brain = (slices > 0).to(slices.dtype)
        features = self.convolutions(torch.cat([slices, brain], 1))
        weight = F.adaptive_avg_pool2d(brain, features.shape[2:]) + 1e-3
        weight = weight / weight.sum((2, 3), keepdim=True)
        mean = (features * weight).sum((2, 3))
        deviation = ((features - mean[:, :, None, None]).square() * weight).sum((2, 3)).add(1e-5).sqrt()
        levels = torch.linspace(0, 1, BINS, device=slices.device)[:, None, None]
        near = (1 - (slices - levels).abs() * (BINS - 1)).clamp(min=0) * brain
        histogram = near.sum((2, 3)) / brain.sum((2, 3)).clamp(min=1)
        mu, log_variance = self.code(torch.cat([mean, deviation, 10 * histogram], 1)).chunk(2, 1)
        return mu, log_variance.clamp(-8, 4)
