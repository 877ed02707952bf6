"""The curve behind the drift slider: how far what a model draws is from scans, for every place of the slider."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from BrainGenLib.diffusion.drift_choice import l1_curve
from BrainGenLib.methods.brain_ldm import BrainLDM

UNITS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
DRAWN = 8


@torch.no_grad()
def slider_curve(model: BrainLDM, real: torch.Tensor, contrast: str, steps: int) -> dict[str, Any]:
    """Grid search of the paper's section 3.4 along the slider's axis.

    Args:
        real: latents of scans of the contrast (n, C, …), as :meth:`BrainLDM.encode` gives them.
        steps: of the sampler.

    Returns:
        ``units`` (standard deviations of the channel means between subjects), ``delta`` (the raw δ, mean over the
        channels), ``l1`` (distance to the scans), and the ``contrast``.
    """
    noise = [
        torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed)).to(real.device)
        for seed in range(DRAWN)
    ]
    models = {units: replace(model, drift=model.drift_of(units, steps)) for units in UNITS}

    def draw(units: float) -> torch.Tensor:
        return torch.cat([models[units].sample(x, {}, contrast, 1.0, steps) for x in noise])

    distances = l1_curve(draw, real, UNITS).distances
    deltas = [sum(other.drift.channels) / len(other.drift.channels) for other in models.values()]
    return {"contrast": contrast, "units": list(UNITS), "delta": deltas, "l1": list(distances)}
