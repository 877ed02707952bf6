"""Autoencoder of soft label maps at 2 mm: anatomy and lesions as two codes on one 8 mm grid.

Space-to-depth stems keep the 2 mm grid free of convolutions, so a map decodes in about a second on a CPU. Two things
make it learn from some 200 maps: an atlas (a low-rank table of log-probabilities on the 4 mm grid) that the decoder
starts from, and the factorisation p(class) = (1 - p(lesion)) · p(structure), so that the anatomy under a lesion stays
known, the absence of a lesion leaves no hole, and lesion loads can be set without touching the anatomy.

MONAI's AutoencoderKL is not used because its group normalisation depends on the extent of its input: trained on crops
(which is what fits a CPU) it decodes whole volumes differently. The blocks here have no normalisation and start as
identities instead (Fixup, Zhang et al. 2019, arXiv 1901.09321).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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

    def __init__(self, classes: int, embedding: int, width: int, deep_width: int, blocks: int, latent: int) -> None:
        super().__init__()
        self.embed = nn.Conv3d(classes, embedding, 1)
        self.stem = nn.Conv3d(8 * embedding, width, 3, padding=1)
        self.down = nn.Conv3d(8 * width, deep_width, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(deep_width) for _ in range(blocks)))
        self.out = nn.Conv3d(deep_width, 2 * latent, 1)
        # Codes start with a spread of about 1 and certain: noise above the signal teaches a decoder to ignore it.
        nn.init.normal_(self.embed.weight)
        for layer in (self.stem, self.down, self.out):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(self.out.weight[latent:])
        nn.init.constant_(self.out.bias[latent:], -6)  # type: ignore[index]

    def forward(self, soft: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(pixelunshuffle(self.embed(soft), 3, 2))
        x = self.blocks(self.down(pixelunshuffle(F.silu(x), 3, 2)))
        mean, log_variance = self.out(F.silu(x)).chunk(2, 1)
        return mean, log_variance.clamp(-12, 2)


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
        atlas_rank: columns of the atlas table.
    """

    def __init__(
        self,
        structures: int,
        lesions: int,
        grid: Sequence[int] = (80, 112, 80),
        anatomy_latent: int = 6,
        lesion_latent: int = 3,
        embedding: int = 8,
        width: int = 40,
        deep_width: int = 64,
        atlas_rank: int = 12,
        position_channels: int = 8,
    ) -> None:
        super().__init__()
        self.structures, self.lesions = structures, lesions
        self.anatomy_latent, self.lesion_latent = anatomy_latent, lesion_latent
        self.anatomy_encoder = LabelEncoder(structures, embedding, width, deep_width, 1, anatomy_latent)
        self.lesion_encoder = LabelEncoder(lesions, embedding // 2, width // 2, deep_width // 2, 1, lesion_latent)
        half, quarter = [n // 2 for n in grid], [n // 4 for n in grid]
        self.atlas = nn.Parameter(torch.zeros(1, atlas_rank, *half))
        self.position = nn.Parameter(0.1 * torch.randn(1, position_channels, *quarter))
        self.enter = nn.Conv3d(anatomy_latent + lesion_latent + position_channels, deep_width, 3, padding=1)
        self.deep = nn.Sequential(*(ResidualBlock(deep_width) for _ in range(3)))
        self.up = nn.Conv3d(deep_width, 8 * width, 1)
        self.join = nn.Conv3d(width + atlas_rank, width, 1)
        self.shallow = nn.Sequential(*(ResidualBlock(width) for _ in range(2)))
        self.head = nn.Conv3d(width, 8 * (structures + 1 + lesions), 1)
        for layer in (self.enter, self.up, self.join):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.atlas_head = nn.Conv3d(atlas_rank, 8 * (structures + 1 + lesions), 1)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.anatomy_latent + self.lesion_latent

    def start_from(self, log_prior: torch.Tensor) -> None:
        """Set the atlas to the best low-rank form of log-probabilities (structures + 1 + lesions, 2 mm grid)."""
        folded = pixelunshuffle(log_prior[None].float(), 3, 2)[0]
        columns = folded.flatten(1)
        mean = columns.mean(1)
        rank = self.atlas.shape[1]
        u, s, v = torch.svd_lowrank(columns - mean[:, None], q=rank, niter=4)
        # Scaled so that the table has unit variance: it is also an input of the decoder.
        scale = s / columns.shape[1] ** 0.5
        with torch.no_grad():
            self.atlas.copy_((v / v.new_tensor(columns.shape[1] ** -0.5)).T.reshape(self.atlas.shape))
            self.atlas_head.weight.copy_((u * scale)[:, :, None, None, None])
            self.atlas_head.bias.copy_(mean)  # type: ignore[union-attr]

    def encode(self, soft_anatomy: torch.Tensor, soft_lesion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance of the latent of soft maps (N, structures, …) and (N, lesions, …)."""
        anatomy = self.anatomy_encoder(soft_anatomy)
        lesion = self.lesion_encoder(soft_lesion)
        return torch.cat([anatomy[0], lesion[0]], 1), torch.cat([anatomy[1], lesion[1]], 1)

    def decode(self, z: torch.Tensor, corner: Sequence[int] = (0, 0, 0)) -> Logits:
        """Logits on the 2 mm grid of a latent (N, C, …); ``corner`` is the latent's first cell in the whole grid."""
        position = _box(self.position, corner, z.shape[2:]).expand(len(z), -1, -1, -1, -1)
        atlas = _box(self.atlas, [2 * c for c in corner], [2 * n for n in z.shape[2:]]).expand(len(z), -1, -1, -1, -1)
        x = self.deep(self.enter(torch.cat([z, position], 1)))
        x = pixelshuffle(self.up(F.silu(x)), 3, 2)
        x = self.shallow(self.join(torch.cat([x, atlas], 1)))
        logits = pixelshuffle(self.head(F.silu(x)) + self.atlas_head(atlas), 3, 2)
        return Logits(logits[:, : self.structures], logits[:, self.structures :])


def _box(table: torch.Tensor, corner: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    (r, a, s), (dr, da, ds) = corner, size
    return table[:, :, r : r + dr, a : a + da, s : s + ds]
