"""The U-Net of the denoisers that work on boxes: small, conditioned on the noise level, normalised per voxel.

As in the renderer, channels are normalised per voxel, so that boxes teach what whole brains need. MONAI's
DiffusionModelUNet has three times the weights at these widths and group normalisation, which depends on the extent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two 3×3×3 convolutions beside a skip; features normalised per voxel, and modulated by the noise level."""

    def __init__(self, inputs: int, outputs: int, code: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1)
        self.film = nn.Linear(code, 2 * outputs)
        self.skip = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        for parameter in (*self.second.parameters(), *self.film.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        h = h * torch.rsqrt(h.square().mean(1, keepdim=True) + 1e-4)
        scale, shift = self.film(code)[:, :, None, None, None].chunk(2, 1)
        return self.skip(x) + self.second(F.silu(h * (1 + scale) + shift))


class UNet(nn.Module):
    """Residual blocks at full, half, quarter … resolution, one on the way down and one on the way up each.

    Args:
        inputs, outputs: channels of input and output.
        channels: of the levels.
        told: numbers beside the noise level that the whole network is conditioned on.
    """

    frequencies: torch.Tensor

    def __init__(self, inputs: int, outputs: int, channels: Sequence[int], told: int = 0, code: int = 64) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.tensor([math.pi * 2 ** (i / 2) for i in range(8)]), persistent=False
        )
        self.code = nn.Sequential(nn.Linear(16 + told, code), nn.SiLU(), nn.Linear(code, code), nn.SiLU())
        self.first = nn.Conv3d(inputs, channels[0], 3, padding=1)
        widths = [channels[0], *channels]
        self.down = nn.ModuleList(Residual(i, o, code) for i, o in itertools.pairwise(widths))
        rising = list(reversed(channels))
        self.up = nn.ModuleList(Residual(below + own, own, code) for below, own in itertools.pairwise(rising))
        self.last = nn.Conv3d(channels[0], outputs, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, told: torch.Tensor | None = None) -> torch.Tensor:
        waves = sigma[:, None] * self.frequencies
        numbers = [waves.sin(), waves.cos()] if told is None else [waves.sin(), waves.cos(), told]
        code = self.code(torch.cat(numbers, 1).to(x.dtype))
        x = self.first(x)
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.avg_pool3d(x, 2) if level else x, code)
            skips.append(x)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1), code)
        return self.last(x)
