"""What the segmenter's encoder sees in an image: the space in which sets of images are compared.

The segmenter was trained on random contrasts, so its deep layers say little of contrast and much of shape, borders
and artefacts; its second layer holds brightness and grain. Both are used, averaged within each tissue: over the
whole volume, instance normalisation would leave next to nothing of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from BrainGenLib import anatomy
from BrainGenLib.networks.label_unet import LabelUNet

TISSUES = ("wm", "gm", "deep_gm", "csf", "brainstem")


@torch.inference_mode()
def features(network: LabelUNet, image: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    """Features of one brain.

    Args:
        network: the segmenter's network.
        image: (R, A, S) in [0, 1], 0 outside the brain, on GRID_1MM.
        classes: class map on the same grid, not empty; says where brain and tissues are.

    Returns:
        ``fine`` (second level, 4 mm) and ``deep`` (fourth level, 16 mm): mean and standard deviation of every channel
        within the brain and within each tissue. A tissue that is missing takes the values of the brain.
    """
    device = next(network.parameters()).device
    x = torch.from_numpy(image).to(device)
    masks = np.stack([classes > 0, *(np.isin(classes, anatomy.classes_of(tissue=tissue)) for tissue in TISSUES)])
    weights = torch.from_numpy(masks).to(device, torch.float32)
    trunk = network.trunk
    fine = trunk.down_1(trunk.conv_0(network.blocks(x[None, None])))
    deep = trunk.down_3(trunk.down_2(fine))
    return {name: _moments(level[0], weights) for name, level in (("deep", deep), ("fine", fine))}


def _moments(activations: torch.Tensor, masks: torch.Tensor) -> np.ndarray:
    """Means, then standard deviations, (2·masks·C), of activations (C, r, a, s) under masks (masks, R, A, S)."""
    r, a, s = activations.shape[1:]
    share = F.adaptive_avg_pool3d(masks, (r, a, s)).flatten(1)
    share = torch.where(share.sum(1, keepdim=True) > 0, share, share[:1])
    share = share / share.sum(1, keepdim=True)
    flat = activations.flatten(1)
    means = share @ flat.T
    deviations = (share @ flat.square().T - means.square()).clamp(min=0).sqrt()
    return torch.cat([means, deviations]).flatten().cpu().numpy().astype(np.float64)
