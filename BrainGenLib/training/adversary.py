"""The renderer's critic: a 2D PatchGAN that sees image, labels and contrast (METHODS.md 1b).

Two-dimensional because real scans are sharp in their slice plane only: thick-slice scans are judged in that plane,
isotropic ones in all three. The image's fine detail is shown to it apart and enlarged, and it is not spectrally
normalised: else hundreds of steps pass before it notices that texture is missing. Hinge loss with feature matching;
it pauses while it wins too easily.
"""

from __future__ import annotations

import torch
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn
from torch.nn import functional as F

from BrainGenLib.training.acquisition import in_plane

TOO_EASY = 0.85  # accuracy above which the critic is not trained on


class SliceCritic(nn.Module):
    """PatchGAN on slices.

    Args:
        classes, contrasts: as in the renderer.
        channels: of the first convolution.
    """

    def __init__(self, classes: int, contrasts: int, channels: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, 6)
        self.contrasts = contrasts
        self.patches = PatchDiscriminator(
            spatial_dims=2, channels=channels, in_channels=8 + contrasts, num_layers_d=2, norm="INSTANCE", bias=True
        )

    def forward(self, image: Tensor, classes: Tensor, contrast: Tensor) -> list[Tensor]:
        """Slices (N, 1, H, W), classes (N, H, W), contrast (N,) to features and, last, the patch scores."""
        labels = self.embedding(classes.long()).permute(0, 3, 1, 2)
        planes = (
            F.one_hot(contrast, self.contrasts).to(image.dtype)[:, :, None, None].expand(-1, -1, *image.shape[2:])
        )
        detail = image - F.avg_pool2d(image, 3, stride=1, padding=1)
        return self.patches(torch.cat([4 * image - 2, 20 * detail, labels, planes], 1))


def draw_slices(voxel: Tensor, usable: Tensor, side: int, count: int, generator: torch.Generator) -> list[tuple]:
    """Random slices (sample, normal axis, position) in planes that the scan resolves; tensors on the CPU."""
    sharp, chosen = in_plane(voxel), []
    for sample in torch.nonzero(usable).flatten().tolist():
        normals = [axis for axis in range(3) if all(sharp[sample, other] for other in range(3) if other != axis)]
        for axis in normals:
            positions = torch.randperm(side, generator=generator)[: max(count // len(normals), 1)]
            chosen += [(sample, axis, int(position)) for position in positions]
    return chosen


def take_slices(volume: Tensor, chosen: list[tuple]) -> Tensor:
    """Slices (N, H, W) of a cubic batch (B, R, A, S)."""
    return torch.stack([volume[sample].select(axis, position) for sample, axis, position in chosen])


def critic_loss(real: Tensor, fake: Tensor) -> tuple[Tensor, float]:
    """Hinge loss of the critic, and its accuracy."""
    loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return loss, 0.5 * float((real > 0).float().mean() + (fake < 0).float().mean())


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Mean L1 distance of the critic's features (Wang 2018, arXiv 1711.11585)."""
    distances = [F.l1_loss(f, r.detach()) for r, f in zip(real[:-1], fake[:-1], strict=True)]
    return torch.stack(distances).mean()
