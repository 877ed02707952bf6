"""Where the cortex folds: coarse shares of the cerebral tissues, drawn by diffusion given a generated anatomy.

The middle stage of the cascade (Ho et al. 2022, arXiv 2106.15282). A generated code says how large a brain, its
ventricles and its deep structures are, and nothing of gyri, which in template space are nearly independent of these.
This stage draws them at 4 mm, whole brains at once; the soft tissue map, at 2 mm, follows it.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from BrainGenLib.diffusion.samplers import Callback
from BrainGenLib.methods import soft_tissue
from BrainGenLib.networks.largest import largest
from BrainGenLib.networks.soft_tissue import BRAIN, FoldDenoiser

BLUR = (3.0, 5.0)
"""Smallest and largest standard deviation (4 mm voxels) of the blur of labels in training: no gyrus outlasts it."""
STEPS = 8
GUIDANCE = 1.0
"""Without it sulci are rows of specks, beyond 1.5 there is too much of them."""
DECODED, DECODED_ALREADY = 4.0, 1.2
"""Blur (4 mm voxels) that generated anatomies are conditioned on, and the part of it that they have of their own."""
FINE = 1.0
"""Blur (2 mm voxels) that drawn shares have once they are interpolated."""
FILLED = 1.5
"""Blur (4 mm voxels) that carries :func:`correction_of` to where no brain was measured."""


def halved(probabilities: torch.Tensor) -> torch.Tensor:
    """Soft labels (C, …) at twice the spacing."""
    return F.avg_pool3d(probabilities[None], 2)[0]


def tissue(probabilities: torch.Tensor) -> torch.Tensor:
    """Where soft labels (STRUCTURES, …) are cerebral tissue or the fluid around it."""
    return (largest(probabilities) > 0) & ~soft_tissue.others(probabilities)


def correction_of(network: FoldDenoiser, average: torch.Tensor) -> torch.Tensor:
    """What to add to the shares (3, …) that generated anatomies are conditioned on, so that sulci hold fluid.

    Labels of 2 mm scans have hardly any fluid inside of sulci, and where brains differ an average code has cortex. So
    the model's average anatomy is compared with the average of brains that were scanned at 1 mm.

    Args:
        average: soft labels (STRUCTURES, …) on GRID_2MM that the average code is decoded to.
    """
    probabilities = halved(average)
    shares = soft_tissue.shares_of(probabilities, DECODED, DECODED_ALREADY)
    fluid, white = network.told
    measured = (tissue(probabilities) & (fluid + white > 0))[None].to(shares)
    difference = (torch.stack([fluid, 1 - fluid - white, white]) - shares) * measured
    return soft_tissue.blurred(difference, FILLED) / soft_tissue.blurred(measured, FILLED).clamp_min(1e-3)


def conditions(
    network: FoldDenoiser,
    probabilities: torch.Tensor,
    sigma: float,
    already: float = 0.0,
    correction: torch.Tensor | None = None,
) -> torch.Tensor:
    """Conditions of the network (CONDITIONS + 2, …) from soft labels (STRUCTURES, …) on the template grid at 4 mm."""
    shares = soft_tissue.shares_of(probabilities, sigma, already)
    if correction is not None:
        shares = (shares + correction).clamp_min(0) * (shares.sum(0) > 0)
        shares = shares / shares.sum(0).clamp_min(1e-6)
    given = soft_tissue.conditions(probabilities, shares, network.signals, sigma, already)
    given[BRAIN] *= ~soft_tissue.others(probabilities)
    return torch.cat([given, network.average * given[BRAIN]])


def draw_shares(
    network: FoldDenoiser,
    correction: torch.Tensor,
    probabilities: torch.Tensor,
    generator: torch.Generator,
    callback: Callback,
) -> torch.Tensor:
    """Shares (3, …) of fluid, cortex and white matter for soft labels (STRUCTURES, …) on GRID_2MM.

    Args:
        correction: of :func:`correction_of`.

    Raises:
        ValueError: there is no cerebral tissue.
    """
    given = conditions(network, halved(probabilities), DECODED, DECODED_ALREADY, correction)
    drawn = soft_tissue.draw(network, given, generator, callback, steps=STEPS, guidance=GUIDANCE)
    fluid, white = drawn.clamp(0, 1)
    white = white.minimum(1 - fluid)
    shares = torch.stack([fluid, 1 - fluid - white, white])
    fine = F.interpolate(
        torch.cat([shares * given[BRAIN], given[BRAIN][None]])[None], scale_factor=2, mode="trilinear"
    )[0]
    # Splinters of tissue that no 4 mm voxel shows keep what their labels say.
    labelled = soft_tissue.shares_of(probabilities, FINE)
    return torch.where(fine[3] > 0.1, fine[:3] / fine[3].clamp_min(0.1), labelled)
