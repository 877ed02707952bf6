"""Autoencoder of soft label maps at 2 mm: anatomy and lesions as two codes on one 8 mm grid.

Space-to-depth stems keep the 2 mm grid free of convolutions, so a map decodes in a second on a CPU. Three things make
it learn from some 200 maps and in minutes. It starts as an atlas (a low-rank table of log-probabilities on the
4 mm grid). It starts as a linear codec beside that: the code is the principal components of the cell's deviation from
the atlas, per tissue, and moves the log-probabilities back; convolutions add to both what is not linear. And it
factorises p(class) = (1 - p(lesion)) · p(structure), so that the anatomy under a lesion stays known, the absence of a
lesion leaves no hole, and lesion loads can be set without touching the anatomy.

MONAI's AutoencoderKL is not used because its group normalisation depends on the extent of its input: trained on crops
(which is what fits a CPU) it decodes whole volumes differently. The blocks here have no normalisation and start as
identities instead (Fixup, Zhang et al. 2019, arXiv 1901.09321).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn
from torch.nn import functional as F

LATENT_STRIDE = 4
"""Voxels of the 2 mm grid along one side of a latent cell."""


class Logits(NamedTuple):
    """What the decoder says: structures (N, S, …) and lesions (N, 1 + L, …) whose first channel is "none"."""

    anatomy: torch.Tensor
    lesion: torch.Tensor

    def log_probabilities(self) -> torch.Tensor:
        """Log-probability of every class, (N, S + L, …): a lesion covers the structure that it lies in."""
        lesion = self.lesion.log_softmax(1)
        return torch.cat([self.anatomy.log_softmax(1) + lesion[:, :1], lesion[:, 1:]], 1)


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), an identity at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1)
        self.second = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class LabelEncoder(nn.Module):
    """Soft maps (N, classes, 2 mm grid) to (mean, log-variance) of a code of ``latent`` channels on the 8 mm grid."""

    def __init__(self, classes: int, groups: int, embedding: int, width: int, deep_width: int, latent: int) -> None:
        super().__init__()
        self.group = nn.Conv3d(classes, groups, 1, bias=False)
        self.linear = nn.Conv3d(groups, latent, LATENT_STRIDE, LATENT_STRIDE)
        self.embed = nn.Conv3d(classes, embedding, 1)
        self.stem = nn.Conv3d(8 * embedding, width, 3, padding=1)
        self.down = nn.Conv3d(8 * width, deep_width, 1)
        self.block = ResidualBlock(deep_width)
        self.out = nn.Conv3d(deep_width, 2 * latent, 1)
        nn.init.normal_(self.embed.weight)
        for layer in (self.stem, self.down):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        # Codes start linear, and certain: noise above the signal teaches a decoder to ignore it.
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias[latent:], -6)  # type: ignore[index]

    def forward(self, soft: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(pixelunshuffle(self.embed(soft), 3, 2))
        x = self.block(self.down(pixelunshuffle(F.silu(x), 3, 2)))
        mean, log_variance = self.out(F.silu(x)).chunk(2, 1)
        return self.linear(self.group(soft)) + mean, log_variance.clamp(-12, 2)


class LabelAutoencoder(nn.Module):
    """Encoder, decoder and atlas.

    The channels of a latent are those of the anatomy followed by those of the lesions.

    Args:
        structures: number of classes that are not lesions (background among them).
        lesions: number of lesion classes.
        grid: voxels of the 2 mm grid, multiples of 4.
        anatomy_latent, lesion_latent: channels of the two codes.
        embedding: channels that the classes are embedded in before space-to-depth.
        width, deep_width: channels of the decoder on the 4 mm and on the 8 mm grid.
        groups: tissues that the linear codec tells apart.
        atlas_rank: numbers that the atlas keeps of a 4 mm cell.
        atlas_columns: cells that the atlas keeps, one for all others included; None for all cells.
    """

    own: torch.Tensor

    def __init__(
        self,
        structures: int,
        lesions: int,
        grid: Sequence[int] = (80, 112, 80),
        anatomy_latent: int = 6,
        lesion_latent: int = 6,
        groups: int = 5,
        embedding: int = 8,
        width: int = 40,
        deep_width: int = 64,
        atlas_rank: int = 32,
        atlas_columns: int | None = None,
        position_channels: int = 8,
    ) -> None:
        super().__init__()
        self.structures, self.lesions = structures, lesions
        self.anatomy_latent, self.lesion_latent = anatomy_latent, lesion_latent
        self.anatomy_encoder = LabelEncoder(structures, groups, embedding, width, deep_width, anatomy_latent)
        self.lesion_encoder = LabelEncoder(
            lesions, lesions, embedding // 2, width // 2, deep_width // 2, lesion_latent
        )
        half, quarter = [n // 2 for n in grid], [n // 4 for n in grid]
        self.atlas_grid = half
        cells = half[0] * half[1] * half[2]
        columns = atlas_columns or cells
        self.atlas = nn.Parameter(torch.zeros(atlas_rank, columns))
        # One bit for each cell: 1 has the next column of its own; always-background cells share column 0.
        whole, rest = divmod(columns, 8)
        own = torch.zeros(-(-cells // 8), dtype=torch.uint8)
        own[:whole] = 255
        own[whole : whole + 1] = 256 - 2 ** (8 - rest)
        own[0] = (255 if whole else 256 - 2 ** (8 - rest)) - 128
        self.register_buffer("own", own)
        self.typical = nn.Parameter(torch.zeros(1, self.latent_channels, *quarter))
        self.position = nn.Parameter(torch.empty(1, position_channels, *quarter))
        self.expand = nn.Conv3d(anatomy_latent, LATENT_STRIDE**3 * groups, 1, bias=False)
        self.ungroup = nn.Conv3d(groups, structures, 1, bias=False)
        self.lesion_gain = nn.Conv3d(lesion_latent, lesions, 1, bias=False)
        self.enter = nn.Conv3d(anatomy_latent + lesion_latent + position_channels, deep_width, 3, padding=1)
        self.deep = nn.Sequential(*(ResidualBlock(deep_width) for _ in range(2)))
        self.up = nn.Conv3d(deep_width, 8 * width, 1)
        self.join = nn.Conv3d(width + atlas_rank, width, 1)
        self.shallow = nn.Sequential(*(ResidualBlock(width) for _ in range(2)))
        self.head = nn.Conv3d(width, 8 * (structures + 1 + lesions), 1)
        nn.init.normal_(self.position, std=0.1)
        for layer in (self.enter, self.up, self.join):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.atlas_head = nn.Conv3d(atlas_rank, 8 * (structures + 1 + lesions), 1)
        # The first prediction is the atlas.
        for layer in (self.expand, self.lesion_gain, self.head):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.anatomy_latent + self.lesion_latent

    def start_from(self, log_prior: torch.Tensor) -> None:
        """Set the atlas to a low-rank form of log-probabilities (structures + 1 + lesions, 2 mm grid).

        A cell counts by the structures that are likely in it, small ones more, or the rank would be spent on cortex
        and background.
        """
        columns = pixelunshuffle(log_prior[None].float(), 3, 2)[0].flatten(1)
        mean = columns.mean(1, keepdim=True)
        likely = log_prior[: self.structures].float().exp()
        weight = (likely / likely.flatten(1).sum(1).view(-1, 1, 1, 1) ** 0.75).sum(0)
        weight = pixelunshuffle(weight[None, None], 3, 2)[0].sum(0).flatten()
        basis, _, _ = torch.svd_lowrank((columns - mean) * weight, q=len(self.atlas), niter=4)
        table = basis.T @ (columns - mean)
        background = pixelunshuffle(likely[None, :1], 3, 2)[0].mean(0).flatten()
        kept = background.argsort()[: self.atlas.shape[1] - 1].sort().values
        others = torch.ones(len(background), dtype=torch.bool)
        others[kept] = False
        own = torch.zeros(8 * len(self.own), dtype=torch.uint8)
        own[kept] = 1
        table = torch.cat([table[:, others].mean(1, keepdim=True), table[:, kept]], 1)
        # Scaled so that the table has unit variance: it is also an input of the decoder.
        scale = table.std(1, keepdim=True)
        with torch.no_grad():
            self.own.copy_(torch.from_numpy(np.packbits(own.numpy())))
            self.atlas.copy_(table / scale)
            self.atlas_head.weight.copy_((basis * scale.T)[:, :, None, None, None])
            self.atlas_head.bias.copy_(mean[:, 0])  # type: ignore[union-attr]

    def start_codes(self, membership: torch.Tensor, components: torch.Tensor, mean: torch.Tensor) -> None:
        """Make the codec linear.

        The code of a lesion is its share of the cell.

        Args:
            membership: 1 where a structure belongs to a tissue (groups, structures).
            components: scaled principal components of what cells deviate by (anatomy_latent, groups, 4, 4, 4).
            mean: mean soft map of the structures (structures, 2 mm grid).
        """
        size = components.flatten(1).square().sum(1).view(-1, 1, 1, 1, 1)
        with torch.no_grad():
            self.anatomy_encoder.group.weight.copy_(membership[:, :, None, None, None])
            self.anatomy_encoder.linear.weight.copy_(components / size)
            nn.init.zeros_(self.anatomy_encoder.linear.bias)  # type: ignore[arg-type]
            folded = pixelunshuffle(components, 3, LATENT_STRIDE)[:, :, 0, 0, 0]
            self.expand.weight.copy_(folded.T[:, :, None, None, None])
            # A tissue that is certain stands out by e⁶ among those of the atlas.
            self.ungroup.weight.copy_(6 * membership.T[:, :, None, None, None])
            nn.init.dirac_(self.lesion_encoder.group.weight)
            nn.init.zeros_(self.lesion_encoder.linear.weight)
            nn.init.zeros_(self.lesion_encoder.linear.bias)  # type: ignore[arg-type]
            nn.init.zeros_(self.lesion_gain.weight)
            for channel in range(min(self.lesions, self.lesion_latent)):
                self.lesion_encoder.linear.weight[channel, channel] = LATENT_STRIDE**-3 * 4
                self.lesion_gain.weight[channel, channel] = 3
            self.typical[:, : self.anatomy_latent] = self.anatomy_encoder.linear(
                self.anatomy_encoder.group(mean[None])
            )

    def encode(self, soft_anatomy: torch.Tensor, soft_lesion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance of the latent of soft maps (N, structures, …) and (N, lesions, …)."""
        anatomy = self.anatomy_encoder(soft_anatomy)
        lesion = self.lesion_encoder(soft_lesion)
        return torch.cat([anatomy[0], lesion[0]], 1), torch.cat([anatomy[1], lesion[1]], 1)

    def decode(self, z: torch.Tensor, corner: Sequence[int] = (0, 0, 0)) -> Logits:
        """Logits on the 2 mm grid of a latent (N, C, …); ``corner`` is the latent's first cell in the whole grid."""
        position = _box(self.position, corner, z.shape[2:]).expand(len(z), -1, -1, -1, -1)
        column = _box(self._columns(), [2 * c for c in corner], [2 * n for n in z.shape[2:]])[0, 0]
        atlas = self.atlas[:, column].expand(len(z), -1, -1, -1, -1)
        z = z - _box(self.typical, corner, z.shape[2:])
        x = self.deep(self.enter(torch.cat([z, position], 1)))
        x = pixelshuffle(self.up(F.silu(x)), 3, 2)
        x = self.shallow(self.join(torch.cat([x, atlas], 1)))
        logits = pixelshuffle(self.head(F.silu(x)) + self.atlas_head(atlas), 3, 2)
        anatomy, none, lesion = logits.split([self.structures, 1, self.lesions], 1)
        tissue = pixelshuffle(self.expand(z[:, : self.anatomy_latent]), 3, LATENT_STRIDE)
        amount = F.interpolate(self.lesion_gain(z[:, self.anatomy_latent :]), anatomy.shape[2:], mode="trilinear")
        return Logits(anatomy + self.ungroup(tissue), torch.cat([none, lesion + amount], 1))

    def _columns(self) -> torch.Tensor:
        """The column of the atlas for every cell (1, 1, …)."""
        places = torch.arange(7, -1, -1, device=self.own.device)
        bits = (self.own.long()[:, None] >> places & 1).flatten()
        count = self.atlas_grid[0] * self.atlas_grid[1] * self.atlas_grid[2]
        return (bits.cumsum(0) * bits)[:count].view(1, 1, *self.atlas_grid)


def _box(table: torch.Tensor, corner: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    (r, a, s), (dr, da, ds) = corner, size
    return table[:, :, r : r + dr, a : a + da, s : s + ds]
