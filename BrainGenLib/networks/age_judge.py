"""How old a brain looks: linear in what is left of its image at 8 mm, so that everyone can see what it goes by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

POOL = 4
"""Voxels of 2 mm in one of the judge's, along each axis."""


class AgeJudge(nn.Module):
    """Ridge regression of age; trained by ``braingen train age-judge``.

    As all that regress it calls the old younger and the young older than they are; :meth:`moved` accounts for it.

    Args:
        grid: shape of an image at 8 mm.
        contrast: of the images that it knows.

    Attributes:
        weights: years by brightness, of which 1 is the mean of the brain.
        offset: years.
        slope: by how much its answers differ between people whom it does not know, per year.
    """

    weights: torch.Tensor
    offset: torch.Tensor
    slope: torch.Tensor

    def __init__(self, grid: Sequence[int], contrast: str) -> None:
        super().__init__()
        self.contrast = contrast
        self.register_buffer("weights", torch.zeros(tuple(grid)))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("slope", torch.ones(()))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Years (N,) from images (N, 1, R, A, S) on GRID_2MM, 0 outside of the brain."""
        return (seen(image) * self.weights).flatten(1).sum(1) + self.offset

    def moved(self, before: torch.Tensor, after: torch.Tensor) -> float:
        """Years between two images (1, 1, R, A, S), as they show between people so many years apart."""
        return float((self(after) - self(before)) / self.slope)


def seen(image: torch.Tensor) -> torch.Tensor:
    """What the judge sees of images (N, 1, R, A, S): (N, r, a, s)."""
    inside = image > 0
    # Brightness is scaled away: scanners differ in it, and so would the answer.
    mean = image.sum((1, 2, 3, 4), keepdim=True) / inside.sum((1, 2, 3, 4), keepdim=True).clamp_min(1)
    return F.avg_pool3d(image / mean.clamp_min(1e-6), POOL)[:, 0]
