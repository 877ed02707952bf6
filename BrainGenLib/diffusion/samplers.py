"""Samplers: plain functions of (denoiser, x, steps), as in k-diffusion.

``denoiser(x, step)`` gives the estimate of the clean z, so every sampler works with every parametrisation. ``x``
belongs to ``steps[0]``, the result to ``steps[-1]``. ``callback(index, x, z)`` is called before each update with the
current x and the current estimate; it reports progress, makes previews, and may raise to stop.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch

from BrainGenLib.diffusion.schedules import Denoiser, Step

Callback = Callable[[int, torch.Tensor, torch.Tensor], None]


def velocity_denoiser(network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Denoiser:
    """Wrap ``network(x, times)`` that predicts v = α·ε - σ·z: the clean estimate is z = α·x - σ·v."""

    def denoise(x: torch.Tensor, step: Step) -> torch.Tensor:
        times = torch.full((x.shape[0],), step.time, device=x.device, dtype=torch.long)
        return step.alpha * x - step.sigma * network(x, times)

    return denoise


def nothing(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
    """The callback that does nothing."""


def sample_ddim(
    denoiser: Denoiser, x: torch.Tensor, steps: Sequence[Step], callback: Callback = nothing
) -> torch.Tensor:
    """Deterministic DDIM (Song et al. 2021, arXiv 2010.02502, eq. 12 with η = 0)."""
    for index, (now, after) in enumerate(itertools.pairwise(steps)):
        z = denoiser(x, now)
        callback(index, x, z)
        noise = (x - now.alpha * z) / now.sigma
        x = after.alpha * z + after.sigma * noise
    return x


def sample_dpmpp_2m(
    denoiser: Denoiser, x: torch.Tensor, steps: Sequence[Step], callback: Callback = nothing
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
        before = (z, h)
    return x


def _log_snr(step: Step) -> float:
    if step.alpha == 0:
        return -math.inf
    if step.sigma == 0:
        return math.inf
    return math.log(step.alpha / step.sigma)
