"""A U-Net for label maps at 1 mm in template space: its layers work at 2 mm, and it starts from an atlas.

At full resolution even element-wise layers dominate the cost on a CPU, so the image is folded to 2 mm by
space-to-depth, and the label scores of the 2×2×2 voxels of a block (*phases*) are computed from the block's features
by one shared low-rank classifier. A full stack of scores at 1 mm is never needed: training looks at a few phases of
every crop, inference takes the arg-max phase by phase.

The atlas (how likely every class is at every place, in low-rank form) is an input and the first guess of the
classifier: the network learns what the image says beyond it, left from right included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from monai.networks.nets import BasicUNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn
from torch.nn import functional as F

PHASES = 8
CELL = 4  # mm, voxels of the atlas


class LabelUNet(nn.Module):
    """Space-to-depth U-Net with an atlas and a sub-voxel classifier.

    Args:
        classes: number of label classes.
        features: channels of the five levels of MONAI's ``BasicUNet`` (2, 4, 8, 16 and 32 mm) and of its output.
        embedding: features of a 1 mm voxel, from which its class is read.
        rank: numbers that the atlas keeps of a cell of 4 mm.
        grid: cells of the atlas.
    """

    # Input sizes must be multiples of the first (space-to-depth and four poolings) and at least the second: instance
    # norm needs more than one voxel at the lowest level.
    multiple, smallest = 32, 64

    atlas: torch.Tensor

    def __init__(
        self,
        classes: int,
        features: Sequence[int] = (16, 32, 64, 96, 128, 16),
        embedding: int = 16,
        rank: int = 16,
        grid: Sequence[int] = (40, 56, 40),
    ) -> None:
        super().__init__()
        self.classes, self.embedding, self.rank = classes, embedding, rank
        self.register_buffer("atlas", torch.zeros(rank, *grid))
        self.trunk = BasicUNet(3, PHASES + rank, embedding * PHASES, tuple(features))
        for name, module in list(self.trunk.named_modules()):
            if isinstance(module, nn.InstanceNorm3d):
                # The same numbers, but torch's group norm is a third faster on a CPU.
                parent, _, last = name.rpartition(".")
                same = nn.GroupNorm(module.num_features, module.num_features, module.eps)
                setattr(self.trunk.get_submodule(parent), last, same)
        self.act = nn.LeakyReLU(0.1)
        self.classify = nn.Conv3d(embedding + rank, classes, 1)

    def start_from(self, log_prior: torch.Tensor) -> None:
        """Make the first prediction the atlas: log-probabilities (classes, cells R, A, S), in low-rank form."""
        table = log_prior.flatten(1)
        mean = table.mean(1, keepdim=True)
        # A cell counts by the classes that are likely in it, small ones more, or cortex would take the whole rank.
        likely = table.exp()
        weight = (likely / likely.sum(1, keepdim=True) ** 0.75).sum(0)
        basis, _, _ = torch.linalg.svd((table - mean) * weight, full_matrices=False)
        basis = basis[:, : self.rank]
        numbers = basis.T @ (table - mean)
        scale = numbers.std(1, keepdim=True)
        with torch.no_grad():
            # Of unit variance, for the atlas is an input too.
            self.atlas.copy_((numbers / scale).view_as(self.atlas))
            self.classify.weight.zero_()
            self.classify.weight[:, self.embedding :, 0, 0, 0] = basis * scale.T
            self.classify.bias.copy_(mean[:, 0])  # type: ignore[union-attr]

    def blocks(self, image: torch.Tensor, corner: Sequence[int] = (0, 0, 0)) -> torch.Tensor:
        """What the trunk sees of an image (B, 1, R, A, S): its blocks and the atlas, (B, 8 + rank, R/2, A/2, S/2).

        ``corner`` is the image's first voxel in the template grid, a multiple of 4.
        """
        cells = [slice(c // CELL, (c + n) // CELL) for c, n in zip(corner, image.shape[2:], strict=True)]
        atlas = F.interpolate(self.atlas[(slice(None), *cells)][None], scale_factor=2.0, mode="trilinear")
        return torch.cat([pixelunshuffle(image, 3, 2), atlas.expand(len(image), -1, -1, -1, -1)], 1)

    def features(self, image: torch.Tensor, corner: Sequence[int] = (0, 0, 0)) -> torch.Tensor:
        """Image (B, 1, R, A, S), sizes 64, 96, 128, …, to block features (B, 8·embedding + rank, R/2, A/2, S/2)."""
        return self.features_of(self.blocks(image, corner))

    def features_of(self, blocks: torch.Tensor) -> torch.Tensor:
        """The same of what :meth:`blocks` gives, for a batch of crops from different places."""
        return torch.cat([self.act(self.trunk(blocks)), blocks[:, PHASES:]], 1)

    def phase_scores(self, features: torch.Tensor, phases: Iterable[int] = range(PHASES)) -> list[torch.Tensor]:
        """Label scores (B, classes, R/2, A/2, S/2) of the voxels ``[i::2, j::2, k::2]``, phase = 4i + 2j + k."""
        blocks, atlas = features.split([self.embedding * PHASES, self.rank], 1)
        blocks = blocks.unflatten(1, (-1, PHASES))
        return [self.classify(torch.cat([blocks[:, :, phase], atlas], 1)) for phase in phases]

    def forward(self, image: torch.Tensor, corner: Sequence[int] = (0, 0, 0)) -> torch.Tensor:
        """Label scores (B, classes, R, A, S)."""
        scores = torch.stack(self.phase_scores(self.features(image, corner)), dim=2)
        return pixelshuffle(scores.flatten(1, 2), 3, 2)


def phase_of(volume: torch.Tensor, phase: int) -> torch.Tensor:
    """The voxels (…, R/2, A/2, S/2) of a volume (…, R, A, S) that belong to a phase; a view."""
    return volume[..., phase // 4 :: 2, phase // 2 % 2 :: 2, phase % 2 :: 2]
