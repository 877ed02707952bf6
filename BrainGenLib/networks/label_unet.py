"""A U-Net for label maps at 1 mm whose layers all work at 2 mm.

At full resolution even element-wise layers dominate the cost on a CPU, so the image is folded to 2 mm by
space-to-depth, and the label scores of the 2×2×2 voxels of a block (*phases*) are computed from the block's features
by one shared low-rank classifier. A full stack of scores at 1 mm is never needed: training looks at a few phases of
every crop, inference takes the arg-max phase by phase.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from monai.networks.nets import BasicUNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn

PHASES = 8


class LabelUNet(nn.Module):
    """Space-to-depth U-Net with a sub-voxel classifier.

    Args:
        classes: number of label classes.
        features: channels of the five levels of MONAI's ``BasicUNet`` (2, 4, 8, 16 and 32 mm) and of its output.
        hidden: width of the layer between the trunk and the phases.
        embedding: features of a 1 mm voxel, from which its class is told.
    """

    # Input sizes must be a multiple of this: space-to-depth and four poolings.
    multiple = 32

    def __init__(
        self,
        classes: int,
        features: Sequence[int] = (16, 32, 64, 96, 128, 16),
        hidden: int = 64,
        embedding: int = 16,
    ) -> None:
        super().__init__()
        self.classes = classes
        # Group norm: as good as instance norm for contrasts it has not seen, and a third faster on a CPU.
        norm = ("group", {"num_groups": 8, "affine": True})
        self.trunk = BasicUNet(3, PHASES, hidden, tuple(features), norm=norm)
        self.expand = nn.Sequential(
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv3d(hidden, embedding * PHASES, 1),
            nn.LeakyReLU(0.1, inplace=True),
        )
        self.classify = nn.Conv3d(embedding, classes, 1)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Image (B, 1, R, A, S), sizes multiples of 32, to block features (B, embedding·8, R/2, A/2, S/2)."""
        return self.expand(self.trunk(pixelunshuffle(image, 3, 2)))

    def phase_scores(self, features: torch.Tensor, phases: Iterable[int] = range(PHASES)) -> list[torch.Tensor]:
        """Label scores (B, classes, R/2, A/2, S/2) of the voxels ``[i::2, j::2, k::2]``, phase = 4i + 2j + k."""
        blocks = features.unflatten(1, (-1, PHASES))
        return [self.classify(blocks[:, :, phase]) for phase in phases]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Label scores (B, classes, R, A, S)."""
        scores = torch.stack(self.phase_scores(self.features(image)), dim=2)
        return pixelshuffle(scores.flatten(1, 2), 3, 2)


def phase_of(volume: torch.Tensor, phase: int) -> torch.Tensor:
    """The voxels (…, R/2, A/2, S/2) of a volume (…, R, A, S) that belong to a phase; a view."""
    return volume[..., phase // 4 :: 2, phase // 2 % 2 :: 2, phase % 2 :: 2]
