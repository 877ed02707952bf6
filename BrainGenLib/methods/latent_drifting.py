"""Counterfactuals of a scan by DDIM inversion, other conditions, and latent drift (Yeganeh et al., CVPR 2025, arXiv
2412.20651, with the inversion of Pix2Pix-Zero, arXiv 2302.03027).

What is brought back to the scan is a change, not an image: both the scan's own conditions and the wanted ones are
sampled from the same inverted noise, and the difference of the two images is all that is used. What the autoencoder
blurs and the inversion misses is the same in both, and cancels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from BrainGenLib.diffusion.drift import Drift, per_step
from BrainGenLib.diffusion.drift_choice import auto_delta, response, sampler_response, to_delta
from BrainGenLib.diffusion.guidance import classifier_free
from BrainGenLib.diffusion.samplers import invert_ddim, sample_ddim, sample_dpmpp_2m
from BrainGenLib.diffusion.schedules import Step
from BrainGenLib.methods.brain_ldm import BrainLDM
from BrainGenLib.reporting import Reporter

FRESH = 0.5
"""Share of the inverted noise's variance that a variant exchanges for noise of its own."""


@dataclass(frozen=True)
class Change:
    """What to do to a scan.

    Attributes:
        own: conditions of the scan as far as they are known, in the bundle's units.
        wanted: those that are asked for, complete.
        strength: share of the steps that are inverted.
        guidance: how far to go from the own conditions towards the wanted ones and beyond; 1 is to the wanted ones.
        drift: where it acts, and δ unless it is ``auto``.
        auto: choose δ.
        count: steps from pure noise.
        variants: of the noise, the first is that of the scan alone.
    """

    own: Mapping[str, float]
    wanted: Mapping[str, float]
    strength: float
    guidance: float
    drift: Drift
    auto: bool
    count: int
    variants: int


@dataclass(frozen=True)
class Edit:
    """What came out, on GRID_2MM in the units of the model's images.

    Attributes:
        before: the scan as the model draws it.
        change: mean over the variants of what the other conditions add.
        spread: its standard deviation between the variants; zeros if there is one.
        delta: of the drift that was used.
    """

    before: np.ndarray
    change: np.ndarray
    spread: np.ndarray
    delta: tuple[float, ...]


def edit(
    model: BrainLDM, image: torch.Tensor, contrast: str, change: Change, generator: torch.Generator, report: Reporter
) -> Edit:
    """Change an image.

    Args:
        image: (1, 1, R, A, S) on GRID_2MM, 0 outside of the brain and 1 at its 99.5th percentile.
        generator: of the variants' noise.
        report: told of every step.

    Raises:
        Cancelled: ``report`` says so.
    """
    steps = model.steps(change.count)
    inverted = max(1, round(change.strength * change.count))
    part = steps[change.count - inverted :]
    source = model.denoiser(change.own, contrast, 1.0)
    guided = classifier_free(model.denoiser(change.wanted, contrast, 1.0), source, change.guidance)
    passes = 4 if change.auto else 3
    done = 0

    def progress(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
        nonlocal done
        report.step("", done, passes * inverted)
        done += 1

    clean = model.encode(image)
    noised = invert_ddim(source, clean, part, progress, iterations=1)
    x = torch.cat([noised, *_variants(model, noised, clean, part[0], change.variants - 1, generator)])
    before = model.decode(sample_ddim(source, x, part, progress))
    drift = change.drift
    if change.auto:
        plain = sample_ddim(guided, noised, part, progress)
        drift = replace(drift, delta=_missing(model, clean, plain, contrast, change, drift, part))
    after = model.decode(
        sample_ddim(
            guided,
            drift.added_to(x, part[0].sigma) if drift.start else x,
            part,
            progress,
            per_step(drift, steps),
        )
    )
    each = (after.clamp(0, 1) - before.clamp(0, 1))[:, 0].cpu()
    return Edit(
        before[0, 0].clamp(0, 1).cpu().numpy(),
        each.mean(0).numpy(),
        (each.std(0) if len(each) > 1 else torch.zeros_like(each[0])).numpy(),
        drift.channels,
    )


def raw_delta(model: BrainLDM, units: float, drift: Drift, steps: list[Step]) -> tuple[float, ...]:
    """δ per channel that moves every channel's mean by ``units`` standard deviations between subjects."""
    return tuple(
        to_delta(torch.full_like(model.spread, units), model.spread, _response(model, drift, steps)).tolist()
    )


def drifting(model: BrainLDM, units: float, count: int) -> BrainLDM:
    """The model with a drift of its noise that moves, in place of its own, what ``count`` steps draw by ``units``
    standard deviations of every channel's mean between subjects."""
    change = sampler_response(sample_dpmpp_2m, model.steps(count), model.spread, math.prod(model.latent_shape[1:]))
    other = copy.copy(model)
    other.drift = Drift(tuple(to_delta(torch.full_like(model.spread, units), model.spread, change).tolist()))
    return other


def _response(model: BrainLDM, drift: Drift, steps: list[Step]) -> torch.Tensor:
    return response(drift, steps, model.spread, math.prod(model.latent_shape[1:]))


def _missing(
    model: BrainLDM,
    clean: torch.Tensor,
    plain: torch.Tensor,
    contrast: str,
    change: Change,
    drift: Drift,
    steps: list[Step],
) -> tuple[float, ...]:
    """δ for what the edit without drift lacks to the shift of the channel means that the Gaussian model expects."""
    expected = (model.expected(change.wanted, contrast) - model.expected(change.own, contrast)).mean((1, 2, 3))
    target = clean.mean((2, 3, 4))[0] + expected
    return auto_delta(plain.mean((2, 3, 4)), target, _response(model, drift, steps))


def _variants(
    model: BrainLDM, noised: torch.Tensor, clean: torch.Tensor, step: Step, count: int, generator: torch.Generator
) -> list[torch.Tensor]:
    """The inverted latent with part of its noise exchanged; the model's own drift stays."""
    kept = step.alpha * clean + step.sigma * model.drift.added_to(torch.zeros_like(clean))
    noise = (noised - kept) / step.sigma
    fresh = [torch.randn(noise.shape, generator=generator).to(noise) for _ in range(count)]
    return [kept + step.sigma * (math.sqrt(1 - FRESH) * noise + math.sqrt(FRESH) * one) for one in fresh]
