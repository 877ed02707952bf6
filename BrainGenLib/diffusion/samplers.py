"""Samplers: plain functions of (denoiser, x, steps), as in k-diffusion.

``denoiser(x, step)`` gives the estimate of the clean z, so every sampler works with every parametrisation. ``x``
belongs to ``steps[0]``, the result to ``steps[-1]``. ``callback(index, x, z)`` is called before each update with the
current x and the current estimate; it reports progress, makes previews, and may raise to stop.
``after_update(index, x)`` gives what to go on with in place of the x that belongs to ``steps[index + 1]``: drift, or
anything else that acts between updates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch

from BrainGenLib.diffusion.schedules import CLEAN, Denoiser, Step

Callback = Callable[[int, torch.Tensor, torch.Tensor], None]
AfterUpdate = Callable[[int, torch.Tensor], torch.Tensor]
Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(x, times) to what the network predicts; times (N,) are whole numbers (int64) where the steps' are."""


def velocity_denoiser(network: Network) -> Denoiser:
    """Wrap a network that predicts v = α·ε - σ·z: the clean estimate is z = α·x - σ·v, where α² + σ² = 1."""

    def denoise(x: torch.Tensor, step: Step) -> torch.Tensor:
        return step.alpha * x - step.sigma * network(x, _times(x, step))

    return denoise


def epsilon_denoiser(network: Network) -> Denoiser:
    """Wrap a network that predicts ε: the clean estimate is z = (x - σ·ε)/α.

    The denoiser raises ValueError at pure noise, where ε says nothing about z.
    """

    def denoise(x: torch.Tensor, step: Step) -> torch.Tensor:
        if step.alpha == 0:
            raise ValueError(
                "A network that predicts noise cannot start from pure noise; use the steps of its training."
            )
        return (x - step.sigma * network(x, _times(x, step))) / step.alpha

    return denoise


def clean_denoiser(network: Network) -> Denoiser:
    """Wrap a network that predicts z."""
    return lambda x, step: network(x, _times(x, step))


def flow_denoiser(network: Network) -> Denoiser:
    """Wrap a network that predicts z - ε, MONAI's velocity of rectified flow: the clean estimate is x + t·(z - ε)."""
    return lambda x, step: x + step.sigma * network(x, _times(x, step))


def _times(x: torch.Tensor, step: Step) -> torch.Tensor:
    return torch.full((x.shape[0],), step.time, device=x.device)


def nothing(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
    """The callback that does nothing."""


def unchanged(index: int, x: torch.Tensor) -> torch.Tensor:
    """The ``after_update`` that does nothing."""
    return x


def sample_ddim(
    denoiser: Denoiser,
    x: torch.Tensor,
    steps: Sequence[Step],
    callback: Callback = nothing,
    after_update: AfterUpdate = unchanged,
) -> torch.Tensor:
    """Deterministic DDIM (Song et al. 2021, arXiv 2010.02502, eq. 12 with η = 0)."""
    for index, (now, after) in enumerate(itertools.pairwise(steps)):
        z = denoiser(x, now)
        callback(index, x, z)
        x = after_update(index, _ddim(x, z, now, after))
    return x


def _ddim(x: torch.Tensor, z: torch.Tensor, now: Step, after: Step) -> torch.Tensor:
    if after == CLEAN:
        # No copies of what may be hundreds of megabytes.
        return z
    noise = (x - now.alpha * z) / now.sigma
    return after.alpha * z + after.sigma * noise


def invert_ddim(
    denoiser: Denoiser,
    z: torch.Tensor,
    steps: Sequence[Step],
    callback: Callback = nothing,
    before_update: AfterUpdate = unchanged,
    *,
    iterations: int = 0,
) -> torch.Tensor:
    """The x of ``steps[0]`` from which :func:`sample_ddim` along the same steps returns ``z``.

    Without iterations it is the usual approximation, that ε is the same at both ends of an update (Song et al. 2021,
    section 4.3; Pix2Pix-Zero, Parmar et al. 2023, arXiv 2302.03027), taken at the cleaner end. Each iteration calls
    the denoiser once more and brings the update of the guess closer to the x that it has to give, as in AIDI (Pan et
    al. 2023, arXiv 2309.04907) and ReNoise (Garibi et al. 2024, arXiv 2403.14602). Their iteration stands still at
    pure noise (α = 0) and is slow near it, so the correction is scaled by the slope of the update (:func:`_slope`):
    for Gaussian data of any covariance it converges, between inner steps with the factor tanh(h/2), h being the
    difference in log(α/σ).

    Args:
        z: the clean latent.
        steps: the steps of sampling, noisiest first.
        callback: called with the index of the update that is about to be undone, the x after it and its estimate.
        before_update: takes back what sampling's ``after_update(index, x)`` added to that x.
        iterations: of the fixed point, per step.
    """
    x = z
    for index, (now, after) in reversed(list(enumerate(itertools.pairwise(steps)))):
        goal = before_update(index, x)
        # At the clean end there is no noise to estimate: there it is taken at the noisier one.
        known = after if after.sigma > 0 else now
        estimate = denoiser(goal, known)
        callback(index, goal, estimate)
        noise = (goal - known.alpha * estimate) / known.sigma
        x = now.alpha / after.alpha * (goal - after.sigma * noise) + now.sigma * noise
        for _ in range(iterations):
            x = x - (_ddim(x, denoiser(x, now), now, after) - goal) / _slope(now, after)
    return x


def _slope(now: Step, after: Step) -> float:
    """What to expect of the derivative of a DDIM update.

    For Gaussian data it lies between σ'/σ (directions without variance) and α'/α (with much), and is the former at
    pure noise. At the last update it is the latter, but for directions in which the data vary less than the noise.
    """
    if now.alpha == 0:
        return after.sigma / now.sigma
    if after.sigma == 0:
        return after.alpha / now.alpha
    return (after.sigma / now.sigma + after.alpha / now.alpha) / 2


def sample_ddpm(
    denoiser: Denoiser,
    x: torch.Tensor,
    steps: Sequence[Step],
    callback: Callback = nothing,
    after_update: AfterUpdate = unchanged,
    *,
    generator: torch.Generator,
) -> torch.Tensor:
    """Ancestral sampling with the variance of the posterior q(x' | x, z) (Ho et al. 2020, arXiv 2006.11239, eq. 7).

    Written for any α and σ (Kingma et al. 2021, arXiv 2107.00630, appendix A.2), so that steps may be skipped. That
    variance leaves out what the estimate of z does not know: the fewer the steps, the less varied the samples.

    Args:
        generator: of the fresh noise, which is drawn on its device; a seed gives the same on every device of ``x``.
    """
    for index, (now, after) in enumerate(itertools.pairwise(steps)):
        z = denoiser(x, now)
        callback(index, x, z)
        kept = (now.alpha / now.sigma) * (after.sigma / after.alpha)
        x = kept * (after.sigma / now.sigma) * x + (1 - kept**2) * after.alpha * z
        if after.sigma > 0:
            noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
            x = x + after.sigma * math.sqrt(1 - kept**2) * noise.to(x.device)
        x = after_update(index, x)
    return x


def sample_dpmpp_2m(
    denoiser: Denoiser,
    x: torch.Tensor,
    steps: Sequence[Step],
    callback: Callback = nothing,
    after_update: AfterUpdate = unchanged,
) -> torch.Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2), multistep, second order, data prediction.

    λ = log(α/σ) is -∞ at pure noise and +∞ at the end: the update from and to there is the first-order one, which is
    also what the algorithm prescribes for its first and (in few steps) last update.
    """
    before: tuple[torch.Tensor, float] | None = None
    for index, (now, after) in enumerate(itertools.pairwise(steps)):
        z = denoiser(x, now)
        callback(index, x, z)
        h = _log_snr(after) - _log_snr(now)
        corrected = z
        if before is not None and math.isfinite(h) and math.isfinite(before[1]):
            r = before[1] / h
            corrected = z + (z - before[0]) / (2 * r)
        x = (after.sigma / now.sigma) * x + after.alpha * -math.expm1(-h) * corrected
        x = after_update(index, x)
        before = (z, h)
    return x


def _log_snr(step: Step) -> float:
    if step.alpha == 0:
        return -math.inf
    if step.sigma == 0:
        return math.inf
    return math.log(step.alpha / step.sigma)
