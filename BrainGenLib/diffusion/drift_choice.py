"""How large a drift should be: what δ does to the mean of a latent channel, and the search for the best δ.

The mean of a channel over its N positions varies between subjects about m with a standard deviation s ("spread"),
that of noise about 0 with σ/√N. Taken as Gaussian, this one mode of the latent has an exact denoiser, from which the
formulas here follow (docs/latent-drifting.md; only the grid search is the paper's). The m and s that count are those
of what the *model* has learnt, not of what it is to be moved to.

Tensors hold one number per channel (C,). ``change`` is what a unit of δ does to a channel's mean in the output.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from pydantic import BaseModel, ConfigDict

from BrainGenLib.diffusion.drift import Drift, per_step
from BrainGenLib.diffusion.schedules import Denoiser, Step
from BrainGenLib.errors import BadInput

GRID = tuple(round(0.05 * index, 2) for index in range(-4, 5))
"""The paper's, -0.2 to 0.2. A latent of many positions wants a finer one: see :func:`response`."""


def gain(spread: torch.Tensor, start: Step, positions: int) -> torch.Tensor:
    """The change by drift at the start, in the limit of many steps: s / √(α²s² + σ²/N).

    The probability-flow ODE maps quantiles to quantiles. DDIM in few steps falls short of it: little where a signal
    is left at ``start``, much where it is pure noise; :func:`response` is what the steps really do.

    Args:
        spread: s of the model's training data.
        start: where sampling starts, ``steps[0]``.
        positions: N, of a latent channel.
    """
    return spread / (start.alpha**2 * spread**2 + start.sigma**2 / positions).sqrt()


def response(drift: Drift, steps: Sequence[Step], spread: torch.Tensor, positions: int) -> torch.Tensor:
    """The change by a drift along the steps of DDIM, wherever it acts.

    An update of the Gaussian mode multiplies a shift by (σσ'/N + αα's²)/(σ²/N + α²s²); drift per step adds to it.

    Where s is unknown: √N times the standard deviation between seeds of generated channel means estimates the change
    by drift at the start, as δ goes the way that the mean of the noise goes.

    Args:
        drift: where it acts; its δ does not count.
        steps: of sampling.
        spread, positions: as for :func:`gain`.
    """
    unit = per_step(Drift(1.0, drift.start, drift.step), steps)
    shift = torch.full_like(spread, float(drift.start))[None]
    for index, (now, after) in enumerate(itertools.pairwise(steps)):
        kept = now.sigma * after.sigma / positions + now.alpha * after.alpha * spread**2
        shift = unit(index, shift * kept / (now.sigma**2 / positions + now.alpha**2 * spread**2))
    return shift[0]


def sampler_response(
    sampler: Callable[[Denoiser, torch.Tensor, Sequence[Step]], torch.Tensor],
    steps: Sequence[Step],
    spread: torch.Tensor,
    positions: int,
) -> torch.Tensor:
    """The change by drift at the start, for any deterministic sampler: what it makes of a shift of 1 with the exact
    denoiser of the Gaussian mode, z = αs²/(α²s² + σ²/N)·x. Of DDIM it is :func:`response`.

    Args:
        spread, positions: as for :func:`gain`.
    """

    def denoise(x: torch.Tensor, step: Step) -> torch.Tensor:
        return step.alpha * spread**2 / (step.alpha**2 * spread**2 + step.sigma**2 / positions) * x

    return sampler(denoise, torch.ones_like(spread)[None], steps)[0]


def leak(mean: torch.Tensor, start: Step, change: torch.Tensor) -> torch.Tensor:
    """Error of a channel's mean in the output because noise has mean 0 where the model expects α·m: -change·α·m.

    δ = α·m at the start takes it back. With zero terminal signal-to-noise ratio and in rectified flow it is 0.

    Args:
        mean: m of the model's training data.
        start: where sampling starts, ``steps[0]``.
        change: by drift at the start.
    """
    return -change * start.alpha * mean


def auto_delta(generated: torch.Tensor, target: torch.Tensor, change: torch.Tensor) -> tuple[float, ...]:
    """δ per channel that moves the mean of what is generated to the target's: (m_target - m_generated) / change.

    Args:
        generated: channel means (n, C) of a dozen or more latents drawn without drift, which contain the leak;
            without any, one row of the model's training mean plus its :func:`leak`.
        target: channel means of the target.
    """
    return tuple(((target - generated.mean(0)) / change).tolist())


def to_delta(units: torch.Tensor, spread: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """δ that moves a channel's mean in the output by ``units`` of its spread."""
    return units * spread / change


def to_units(delta: torch.Tensor, spread: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Inverse of :func:`to_delta`."""
    return delta * change / spread


def l1_distance(generated: torch.Tensor, real: torch.Tensor) -> float:
    """|difference of means| + |difference of standard deviations| over samples, averaged over all else.

    The paper says that its distance between distributions is an L1 norm, and no more.

    Args:
        generated, real: images or latents (n, …) and (m, …) of one shape, at least two of each.

    Raises:
        BadInput: there are fewer, or the shapes differ.
    """
    if min(len(generated), len(real)) < 2 or generated.shape[1:] != real.shape[1:]:
        raise BadInput(
            "The distance between two sets needs at least two samples of each, on one grid; "
            f"these are {tuple(generated.shape)} and {tuple(real.shape)}."
        )
    means = (generated.mean(0) - real.mean(0)).abs()
    spreads = (generated.std(0) - real.std(0)).abs()
    return float((means + spreads).mean())


class DriftCurve(BaseModel):
    """Distance to the real distribution for each δ of a grid; to be stored with the model that it was measured on."""

    model_config = ConfigDict(frozen=True)

    deltas: tuple[float, ...]
    distances: tuple[float, ...]

    @property
    def best(self) -> float:
        """The δ of the smallest distance."""
        return self.deltas[self.distances.index(min(self.distances))]


def l1_curve(draw: Callable[[float], torch.Tensor], real: torch.Tensor, deltas: Sequence[float] = GRID) -> DriftCurve:
    """The paper's grid search (section 3.4): :func:`l1_distance` of samples to real ones for every δ.

    Args:
        draw: samples (n, …) for a δ, of the same seeds for every δ, so that the curve shows drift and not chance.
        real: samples (m, …) of the target.
        deltas: no finer than chance allows, which moves the best δ by about √(1/n + 1/m)·s/:func:`response`.
    """
    return DriftCurve(deltas=tuple(deltas), distances=tuple(l1_distance(draw(delta), real) for delta in deltas))
