"""How large δ should be for scans that a model does not know: from their latents and some that the model draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from BrainGenLib.diffusion.drift import Drift
from BrainGenLib.diffusion.drift_choice import DriftCurve, auto_delta, l1_curve
from BrainGenLib.methods.brain_ldm import BrainLDM

DRAWN = 16
STEPS = 10
SHARES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Multiples of the automatic δ that the grid search compares."""
LARGEST = 5.0
"""|δ| in standard deviations of the mean of noise: beyond it lies what no model has seen."""


@torch.no_grad()
def choose(
    model: BrainLDM, z: torch.Tensor, contrasts: Sequence[str], conditions: Sequence[dict[str, float]]
) -> tuple[Drift, DriftCurve]:
    """The drift that brings what the model draws closest to encoded scans, in addition to the model's own.

    δ of each channel is that of :func:`~BrainGenLib.diffusion.drift_choice.auto_delta`, with the change per δ from
    the spread of the drawn means between seeds. The paper's grid search along that direction has the last word, for
    on a real latent the change per δ is rough.

    Args:
        z: latents of scans (n, C, …), at least two, as :meth:`BrainLDM.encode` gives them.
        contrasts, conditions: of each scan; with them as many or more are drawn.

    Returns:
        δ, and the distances for :data:`SHARES` of the automatic one.
    """
    count = max(DRAWN, len(z))
    noise = [
        torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed)).to(z.device)
        for seed in range(count)
    ]

    def about_centres(latents: torch.Tensor) -> torch.Tensor:
        """About the mean of each one's contrast: what they differ in then is not the contrast."""
        numbers = [model.contrasts.index(contrasts[i % len(contrasts)]) for i in range(len(latents))]
        return latents - model.centres[numbers]

    def draw(drift: Drift) -> torch.Tensor:
        drawn = [
            model.sample(drift.added_to(x), conditions[i % len(z)], contrasts[i % len(z)], 1.0, STEPS)
            for i, x in enumerate(noise)
        ]
        return about_centres(torch.cat(drawn))

    real = about_centres(z)
    positions = float(model.diffusion.inside.sum())
    means = draw(Drift()).mean((2, 3, 4))
    # δ goes the way that the mean of the noise goes, whose standard deviation is 1/√N.
    change = (math.sqrt(positions) * means.std(0)).clamp_min(1e-6)
    limit = LARGEST / math.sqrt(positions)
    auto = Drift(tuple(max(-limit, min(limit, d)) for d in auto_delta(means, real.mean((0, 2, 3, 4)), change)))
    curve = l1_curve(lambda share: draw(scaled(auto, share)), real, SHARES)
    return scaled(auto, curve.best), curve


def scaled(drift: Drift, share: float) -> Drift:
    """A multiple of a drift."""
    return replace(drift, delta=tuple(share * value for value in drift.channels))
