"""Counterfactuals of a scan by DDIM inversion, other conditions, and latent drift (Yeganeh et al., CVPR 2025, arXiv
2412.20651, with the inversion of Pix2Pix-Zero, arXiv 2302.03027).

What is brought back to the scan is a change, not an image: both the scan's own conditions and the wanted ones are
sampled from the same inverted noise, and the difference of the two images is all that is used. What the autoencoder
blurs and the inversion misses is the same in both, and cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from BrainGenLib.diffusion.drift import Drift, per_step
from BrainGenLib.diffusion.drift_choice import auto_delta, response, to_delta
from BrainGenLib.diffusion.guidance import classifier_free
from BrainGenLib.diffusion.samplers import AfterUpdate, Callback, invert_ddim, sample_ddim
from BrainGenLib.diffusion.schedules import Denoiser, Step
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
    model: BrainLDM,
    image: torch.Tensor,
    contrast: str,
    changes: Sequence[Change],
    generator: torch.Generator,
    report: Reporter,
) -> list[Edit]:
    """Change an image, in one or several ways at once: it is inverted once, and what is inverted to the same strength
    is sampled as one batch.

    Args:
        image: (1, 1, R, A, S) on GRID_2MM, 0 outside of the brain and 1 at its 99.5th percentile.
        changes: of the same own conditions, count and variants.
        generator: of the variants' noise, which is the same for all changes.
        report: receives every step.

    Raises:
        Cancelled: ``report`` says so.
    """
    own, count, variants = changes[0].own, changes[0].count, changes[0].variants
    steps = model.steps(count)
    groups: dict[int, list[int]] = {}
    for number, change in enumerate(changes):
        groups.setdefault(max(1, round(change.strength * count)), []).append(number)
    longest = max(groups)
    size = max(1, model.batch // variants)
    together = [
        (inverted, group[first : first + size])
        for inverted, group in groups.items()
        for first in range(0, len(group), size)
    ]
    # A batch is a pass, and so is what is drawn under the own conditions, without drift, and the inversion.
    total = longest + sum(groups) + sum((1 + changes[some[0]].auto) * inverted for inverted, some in together)
    done = 0

    def progress(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
        nonlocal done
        report.step("", done, total)
        done += 1

    source = model.denoiser(own, contrast, 1.0)
    clean = model.encode(image)
    noised = _inverted(source, clean, steps[count - longest :], progress)
    fresh = [torch.randn(clean.shape, generator=generator).to(clean) for _ in range(variants - 1)]
    before: dict[int, torch.Tensor] = {}
    starts: dict[int, torch.Tensor] = {}
    edits: dict[int, Edit] = {}
    for inverted, some in together:
        part = steps[count - inverted :]
        if inverted not in starts:
            mine = noised[inverted]
            starts[inverted] = torch.cat([mine, *_variants(model, mine, clean, part[0], fresh)])
            before[inverted] = _images(model, sample_ddim(source, starts[inverted], part, progress))
        asked = [changes[number] for number in some]
        drifts = [change.drift for change in asked]
        if asked[0].auto:
            denoiser = _guided(model, own, contrast, asked, 1)
            plain = sample_ddim(denoiser, noised[inverted].expand(len(some), *model.latent_shape), part, progress)
            drifts = [
                replace(one.drift, delta=_missing(model, clean, z[None], contrast, one, part))
                for one, z in zip(asked, plain, strict=True)
            ]
        x = torch.cat(
            [one.added_to(starts[inverted], part[0].sigma) if one.start else starts[inverted] for one in drifts]
        )
        denoiser = _guided(model, own, contrast, asked, variants)
        after = sample_ddim(denoiser, x, part, progress, _each([per_step(one, steps) for one in drifts]))
        for number, drift, z in zip(some, drifts, after.split(variants), strict=True):
            each = _images(model, z) - before[inverted]
            edits[number] = Edit(
                before[inverted][0].numpy(),
                each.mean(0).numpy(),
                (each.std(0) if variants > 1 else torch.zeros_like(each[0])).numpy(),
                drift.channels,
            )
    return [edits[number] for number in range(len(changes))]


def _inverted(
    source: Denoiser, clean: torch.Tensor, part: Sequence[Step], progress: Callback
) -> dict[int, torch.Tensor]:
    """The noised latent after each number of inverted steps: what is inverted further passes it on its way."""
    found = {}
    x = clean
    for index in reversed(range(len(part) - 1)):
        x = invert_ddim(source, x, part[index : index + 2], progress, iterations=1)
        found[len(part) - 1 - index] = x
    return found


def _guided(
    model: BrainLDM, own: Mapping[str, float], contrast: str, asked: Sequence[Change], variants: int
) -> Denoiser:
    """The denoiser of a batch: for each change so many latents, from the own conditions towards the wanted ones."""
    wanted = [change.wanted for change in asked for _ in range(variants)]
    guidance = [change.guidance for change in asked for _ in range(variants)]
    source = model.denoiser(own, contrast, 1.0)
    return classifier_free(model.denoiser(wanted, contrast, 1.0), source, model.scale(guidance))


def _each(updates: Sequence[AfterUpdate]) -> AfterUpdate:
    """Updates of the equal parts of a batch, as one."""

    def update(index: int, x: torch.Tensor) -> torch.Tensor:
        parts = x.split(len(x) // len(updates))
        return torch.cat([one(index, part) for one, part in zip(updates, parts, strict=True)])

    return update


def _images(model: BrainLDM, z: torch.Tensor) -> torch.Tensor:
    """Images (N, R, A, S) of latents, decoded one by one: decoders take the most memory."""
    return torch.stack([model.decode(one)[0, 0].clamp(0, 1).cpu() for one in z.split(1)])


@torch.no_grad()
def expected_change(model: BrainLDM, image: torch.Tensor, contrast: str, change: Change) -> np.ndarray:
    """What moving the latent by what the model's Gaussian part expects adds to an image (1, 1, R, A, S): (R, A, S).

    The line in latent space from the own to the wanted conditions, as far as guidance says; takes no step of
    diffusion.
    """
    z = model.encode(image)
    shift = model.expected(change.wanted, contrast) - model.expected(change.own, contrast)
    moved, still = _images(model, torch.cat([z + change.guidance * shift, z]))
    return (moved - still).numpy()


def reached(
    model: BrainLDM, before: torch.Tensor, after: torch.Tensor, contrast: str, change: Change
) -> float | None:
    """How far an edit has come, by the model's own Gaussian part: its change of the log-likelihood ratio of the
    wanted to the own conditions, as a share of what the expected change makes. 0: not at all, 1: as expected; more:
    beyond.

    With d the difference of the expected latents and Σ their covariance under the wanted conditions it is
    dᵀΣ⁻¹(z' - z) / dᵀΣ⁻¹d: what varies between subjects anyway counts little, what is not asked for not at all.

    Args:
        before, after: images (1, 1, R, A, S), as of :func:`edit`.

    Returns:
        None if the Gaussian part expects no difference: nothing is asked for, or only what it does not know.
    """
    direction = model.expected(change.wanted, contrast) - model.expected(change.own, contrast)
    if not bool(direction.any()):
        return None
    weights = model.discriminant(direction, change.wanted, contrast)
    moved = model.encode(after)[0] - model.encode(before)[0]
    return float((weights * moved).sum() / (weights * direction).sum())


def raw_delta(model: BrainLDM, units: float, drift: Drift, steps: list[Step]) -> tuple[float, ...]:
    """δ per channel that moves every channel's mean by ``units`` standard deviations between subjects."""
    return tuple(
        to_delta(torch.full_like(model.spread, units), model.spread, _response(model, drift, steps)).tolist()
    )


def _response(model: BrainLDM, drift: Drift, steps: list[Step]) -> torch.Tensor:
    return response(drift, steps, model.spread, math.prod(model.latent_shape[1:]))


def _missing(
    model: BrainLDM, clean: torch.Tensor, plain: torch.Tensor, contrast: str, change: Change, steps: list[Step]
) -> tuple[float, ...]:
    """δ for what the edit without drift lacks to the shift of the channel means that the Gaussian model expects."""
    expected = (model.expected(change.wanted, contrast) - model.expected(change.own, contrast)).mean((1, 2, 3))
    target = clean.mean((2, 3, 4))[0] + expected
    return auto_delta(plain.mean((2, 3, 4)), target, _response(model, change.drift, steps))


def _variants(
    model: BrainLDM, noised: torch.Tensor, clean: torch.Tensor, step: Step, fresh: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """The inverted latent with part of its noise exchanged; the model's own drift stays."""
    kept = step.alpha * clean + step.sigma * model.drift.added_to(torch.zeros_like(clean))
    noise = (noised - kept) / step.sigma
    return [kept + step.sigma * (math.sqrt(1 - FRESH) * noise + math.sqrt(FRESH) * one) for one in fresh]
