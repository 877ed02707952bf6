"""Are synthetic cases of use? A lesion segmenter trained on them, tested on real scans.

One small 3D U-Net at 2 mm, one recipe and one number of steps whatever it is trained on: only the data differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotated,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

from BrainGenLib import spaces

CROP = 48
THRESHOLDS = np.linspace(-1, 8, 91)


def standard_scores(image: np.ndarray) -> np.ndarray:
    """Intensities as deviations from the brain's median, in units of its interquartile range; 0 outside."""
    brain = image > 0
    low, middle, high = np.percentile(image[brain], (25, 50, 75)) if brain.any() else (0, 0, 1)
    return np.where(brain, (image - middle) / max(high - low, 1e-3), 0).astype(np.float32)


def train(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    *,
    steps: int,
    seed: int,
    device: torch.device,
    batch: int,
) -> BasicUNet:
    """Train a lesion segmenter.

    Args:
        images: (R, A, S) volumes at 2 mm, from :func:`standard_scores`.
        masks: boolean lesion masks on the same grids.
        steps: optimiser steps, each on ``batch`` crops of 48³ of which two of three are centred on a lesion.
    """
    torch.manual_seed(seed)
    network = BasicUNet(3, 1, 1, (8, 16, 32, 64, 64, 8), norm=("group", {"num_groups": 8})).to(device)
    keys = ("image", "mask")
    augment = Compose(
        [
            RandCropByPosNegLabeld(keys, "mask", (CROP,) * 3, pos=2, neg=1, allow_smaller=True),
            RandFlipd(keys, prob=0.5, spatial_axis=0),
            RandRotated(keys, 0.2, 0.2, 0.2, prob=0.5, mode=("bilinear", "nearest"), padding_mode="zeros"),
            RandScaleIntensityd("image", 0.3, prob=1.0),
            RandShiftIntensityd("image", 0.3, prob=1.0),
            RandAdjustContrastd("image", prob=0.5, gamma=(0.7, 1.5)),
            RandGaussianSmoothd("image", (0.3, 1.0), (0.3, 1.0), (0.3, 1.0), prob=0.3),
            RandGaussianNoised("image", prob=0.5, std=0.15),
        ]
    )
    augment.set_random_state(seed)
    rng = np.random.default_rng(seed)
    loss_of = DiceCELoss(sigmoid=True, batch=True)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        drawn = [
            augment({"image": images[i][None], "mask": masks[i][None].astype(np.float32)})[0]
            for i in rng.integers(len(images), size=batch)
        ]
        x, y = (torch.stack([one[key].as_tensor() for one in drawn]).to(device) for key in keys)
        loss = loss_of(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def predict(network: BasicUNet, image: np.ndarray) -> np.ndarray:
    """Lesion mask of a volume of which every size is a multiple of 16 (the grids of the project are)."""
    device = next(network.parameters()).device
    return (network(torch.from_numpy(image).to(device)[None, None])[0, 0] > 0).cpu().numpy()


def best_threshold(images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float:
    """The score above which a voxel is best called lesion, by mean Dice."""
    means = [
        np.mean([spaces.dice(image > threshold, mask) for image, mask in zip(images, masks, strict=True)])
        for threshold in THRESHOLDS
    ]
    return float(THRESHOLDS[int(np.argmax(means))])
