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
        embedding: features of a 1 mm voxel, from which its class is told.
    """

    # Input sizes must be multiples of the first (space-to-depth and four poolings) and at least the second: instance
    # norm needs more than one voxel at the lowest level.
    multiple, smallest = 32, 64

    def __init__(
        self, classes: int, features: Sequence[int] = (16, 32, 64, 96, 128, 24), embedding: int = 16
    ) -> None:
        super().__init__()
        self.classes = classes
        self.trunk = BasicUNet(3, PHASES, embedding * PHASES, tuple(features))
        for name, module in list(self.trunk.named_modules()):
            if isinstance(module, nn.InstanceNorm3d):
                # The same numbers, but torch's group norm is a third faster on a CPU.
                parent, _, last = name.rpartition(".")
                same = nn.GroupNorm(module.num_features, module.num_features, module.eps)
                setattr(self.trunk.get_submodule(parent), last, same)
        self.act = nn.LeakyReLU(0.1)
        self.classify = nn.Conv3d(embedding, classes, 1)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Image (B, 1, R, A, S), sizes 64, 96, 128, …, to block features (B, embedding·8, R/2, A/2, S/2)."""
        return self.act(self.trunk(pixelunshuffle(image, 3, 2)))

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
