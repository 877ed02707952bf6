"""How much autoguidance samples need to be as far from the mean as scans are."""

from __future__ import annotations

from dataclasses import replace

import torch

from BrainGenLib.methods.brain_ldm import BrainLDM

WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
DRAWN = 4


@torch.no_grad()
def calibrated(model: BrainLDM, real: torch.Tensor, contrast: str, steps: int) -> float:
    """The weight of :data:`WEIGHTS` with which what is drawn spreads most like scans.

    Args:
        real: latents of scans of the contrast (n, C, …), as :meth:`BrainLDM.encode` gives them.
        steps: of the sampler.
    """
    centre = model.centres[model.contrasts.index(contrast)]
    noise = [
        torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed)).to(real.device)
        for seed in range(DRAWN)
    ]

    def distance(weight: float) -> float:
        other = replace(model, beyond=weight)
        drawn = torch.cat([other.sample(x, {}, contrast, 1.0, steps) for x in noise])
        return abs(_spread(drawn - centre) - _spread(real - centre))

    return min(WEIGHTS, key=distance)


def _spread(z: torch.Tensor) -> float:
    return float(z.square().mean().sqrt())
