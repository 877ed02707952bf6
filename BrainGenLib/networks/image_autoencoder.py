"""Autoencoder of brain images at 2 mm: an 8 mm cell becomes a few numbers.

It starts as the best linear codec, the principal components of a cell's 64 voxels, and convolutions add to both sides
what is not linear. So its codes are useful before the first step, which is what makes minutes on a CPU enough; and
the first of them stays close to the cell's mean brightness. The decoder also knows the place of every cell: what a
number means in cortex differs from what it means in a ventricle.

MONAI's AutoencoderKL is not used for the reason in :mod:`BrainGenLib.networks.label_autoencoder`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn
from torch.nn import functional as F

from BrainGenLib.networks.label_autoencoder import ResidualBlock

STRIDE = 4
"""Voxels of the 2 mm grid along one side of a latent cell."""


class ImageAutoencoder(nn.Module):
    """Images (N, 1, R, A, S) in [0, 1] to codes (N, latent, R/4, A/4, S/4) of about unit spread, and back.

    Args:
        latent: numbers per cell.
        width, deep_width: channels at 4 and at 8 mm.
        place: numbers that the decoder is given for every cell of the template grid.
        grid: cells of the template grid.
    """

    centre: torch.Tensor
    basis: torch.Tensor

    def __init__(
        self,
        latent: int = 8,
        width: int = 24,
        deep_width: int = 48,
        place: int = 4,
        grid: Sequence[int] = (20, 28, 20),
    ) -> None:
        super().__init__()
        self.latent = latent
        # Mean of a cell's voxels, and what one unit of each number adds to them.
        self.register_buffer("centre", torch.zeros(STRIDE**3))
        self.register_buffer("basis", torch.zeros(latent, STRIDE**3))
        self.place = nn.Parameter(torch.zeros(1, place, *grid))
        self.encoder = nn.Sequential(
            nn.Conv3d(8, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv3d(width, deep_width, 4, stride=2, padding=1),
            ResidualBlock(deep_width),
            nn.SiLU(),
            nn.Conv3d(deep_width, latent, 3, padding=1),
        )
        self.deep = nn.Sequential(
            nn.Conv3d(latent + place, deep_width, 3, padding=1),
            ResidualBlock(deep_width),
            nn.Conv3d(deep_width, 8 * width, 1),
        )
        self.fine = nn.Sequential(
            ResidualBlock(width), ResidualBlock(width), nn.SiLU(), nn.Conv3d(width, 8, 3, padding=1)
        )
        for layer in (self.encoder[-1], self.fine[-1]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def start_from(self, cells: torch.Tensor) -> None:
        """Become the linear codec of ``cells`` (n, 64), voxels in the order of :meth:`linear_code`."""
        centre = cells.mean(0)
        _, size, directions = torch.linalg.svd(cells - centre, full_matrices=False)
        spread = size[: self.latent] / len(cells) ** 0.5
        # The sign of a component is arbitrary: brighter is more.
        sign = torch.where(directions[: self.latent].sum(1) < 0, -1.0, 1.0)
        self.centre.copy_(centre)
        self.basis.copy_(directions[: self.latent] * (spread * sign)[:, None])

    @property
    def importance(self) -> torch.Tensor:
        """How much of an image each number of a code makes (latent,), 1 on average."""
        size = self.basis.norm(dim=1)
        return size / size.mean()

    def linear_code(self, image: torch.Tensor) -> torch.Tensor:
        """Code of the linear codec."""
        cells = pixelunshuffle(image, 3, STRIDE) - self.centre.view(1, -1, 1, 1, 1)
        return torch.einsum("lv,nvras->nlras", self.basis / self.basis.square().sum(1, keepdim=True), cells)

    def linear_decode(self, code: torch.Tensor) -> torch.Tensor:
        """Image of the linear codec."""
        cells = torch.einsum("lv,nlras->nvras", self.basis, code) + self.centre.view(1, -1, 1, 1, 1)
        return pixelshuffle(cells, 3, STRIDE)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """The code; sides of the image are multiples of 4."""
        return self.linear_code(image) + self.encoder(pixelunshuffle(image, 3, 2))

    def decode(self, code: torch.Tensor, corners: Sequence[Sequence[int]] = ((0, 0, 0),)) -> torch.Tensor:
        """The image, not clipped; ``corners`` are the first cells of the codes in the template grid, one for all or
        one of each."""
        boxes = [[slice(c, c + n) for c, n in zip(corner, code.shape[2:], strict=True)] for corner in corners]
        place = torch.cat([self.place[:, :, r, a, s] for r, a, s in boxes]).expand(len(code), -1, -1, -1, -1)
        detail = self.fine(pixelshuffle(self.deep(torch.cat([code, place], 1)), 3, 2))
        return self.linear_decode(code) + pixelshuffle(detail, 3, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Whole images (N, 1, R, A, S) of the template grid to such."""
        return self.decode(self.encode(image))


def cells_of(image: torch.Tensor) -> torch.Tensor:
    """Cells (n, 64) of images (N, 1, R, A, S) that hold any brain."""
    cells = pixelunshuffle(image, 3, STRIDE).movedim(1, -1).flatten(0, -2)
    return cells[cells.amax(1) > 0]


def gradient_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean L1 distance of the finite differences of two volumes (N, 1, R, A, S) along the three axes."""
    return torch.stack([F.l1_loss(a.diff(dim=axis), b.diff(dim=axis)) for axis in (2, 3, 4)]).mean()
