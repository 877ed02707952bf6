"""Noise schedules: x_t = α_t·z + σ_t·ε.

Of variance-preserving diffusion, α_t² + σ_t² = 1: networks are trained at integer times 0 … T-1. In this project's
models time T-1 is pure noise (zero terminal signal-to-noise ratio, Lin et al. 2024, arXiv 2305.08891), so that
sampling starts where training ended; in most public ones a little signal is left there (:func:`scaled_linear`).

Of rectified flow, α_t = 1 - t and σ_t = t: times are real numbers (:func:`rectified_flow`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch


class Step(NamedTuple):
    """One point of a trajectory: the time that the network is given, and the two coefficients there.

    The time is an ``int`` where networks are trained at whole times, and may index a table; a ``float`` in rectified
    flow.
    """

    time: float
    alpha: float
    sigma: float


CLEAN = Step(0, 1.0, 0.0)
"""Where every sampling trajectory ends."""

Denoiser = Callable[[torch.Tensor, Step], torch.Tensor]
"""(x, step) to the estimate of the clean z: what samplers see of a model, whatever the network predicts."""


class Schedule:
    """The coefficients at every training time.

    Args:
        alphas_cumprod: ᾱ_t = α_t², decreasing, shape (T,).
    """

    def __init__(self, alphas_cumprod: torch.Tensor) -> None:
        self.alpha = alphas_cumprod.sqrt()
        self.sigma = (1 - alphas_cumprod).sqrt()

    def __len__(self) -> int:
        return len(self.alpha)

    def at(self, time: int) -> Step:
        """The step of a training time."""
        return Step(time, float(self.alpha[time]), float(self.sigma[time]))

    def trailing(self, count: int) -> list[Step]:
        """``count`` steps from pure noise, then :data:`CLEAN`: t + 1 = T, T - T/count, … (Lin et al., table 2)."""
        times = [round(len(self) * (1 - index / count)) - 1 for index in range(count)]
        return [*(self.at(time) for time in times), CLEAN]

    def leading(self, count: int) -> list[Step]:
        """``count`` steps of ⌊T/count⌋ each, counted from time 0, then :data:`CLEAN` (Lin et al., table 2).

        They begin below T-1, at times where the network expects signal that noise does not have. It is what MONAI did
        before 1.6, so what the authors of its model zoo sampled with.
        """
        return [*(self.at(index * (len(self) // count)) for index in reversed(range(count))), CLEAN]

    def noised(self, z: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """x_t for a batch with a time each."""
        alpha, sigma = self.coefficients(times, z)
        return alpha * z + sigma * noise

    def velocity(self, z: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """v = α·ε - σ·z (Salimans & Ho 2022, arXiv 2202.00512)."""
        alpha, sigma = self.coefficients(times, z)
        return alpha * noise - sigma * z

    def min_snr_weight(self, times: torch.Tensor, gamma: float = 5.0) -> torch.Tensor:
        """Min-SNR-γ weight of a v-prediction loss: min(SNR, γ) / (SNR + 1) (Hang et al. 2023, arXiv 2303.09556)."""
        alpha, sigma = self.alpha.to(times.device)[times], self.sigma.to(times.device)[times]
        # With SNR = α²/σ² and α² + σ² = 1 this is min(α², γσ²), which is finite everywhere.
        return torch.minimum(alpha**2, gamma * sigma**2)

    def coefficients(self, times: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(α, σ) of a batch of times, shaped to multiply ``like``."""
        shape = (-1,) + (1,) * (like.ndim - 1)
        alpha = self.alpha.to(like.device)[times].view(shape)
        sigma = self.sigma.to(like.device)[times].view(shape)
        return alpha, sigma


def cosine(length: int = 1000) -> Schedule:
    """ᾱ_t = cos²(π/2 · (t + 1)/T): the cosine schedule without offset, whose last time is pure noise."""
    times = torch.arange(1, length + 1, dtype=torch.float64) / length
    alphas_cumprod = torch.cos(times * math.pi / 2) ** 2
    alphas_cumprod[-1] = 0.0
    return Schedule(alphas_cumprod.float())


def scaled_linear(
    length: int = 1000, beta_start: float = 0.0015, beta_end: float = 0.0195, *, zero_terminal_snr: bool = True
) -> Schedule:
    """√β linear, the schedule of latent diffusion (Rombach et al. 2022, arXiv 2112.10752).

    Args:
        length: T.
        beta_start, beta_end: first and last β. Public models: .0015 to .0205 (MONAI's UK Biobank brain), .0015 to
            .0195 (MONAI's BraTS), .00085 to .012 (Stable Diffusion).
        zero_terminal_snr: rescale so that the last time is pure noise (Lin et al., algorithm 1). A model that was
            trained without this must be sampled without it.
    """
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, length, dtype=torch.float64) ** 2
    root = torch.cumprod(1 - betas, 0).sqrt()
    if zero_terminal_snr:
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return Schedule((root**2).float())


def rectified_flow(count: int, length: int = 1000, shift: float = 1.0) -> list[Step]:
    """``count`` steps of rectified flow from pure noise, then :data:`CLEAN`: α = 1 - t, σ = t (Liu et al. 2023,
    arXiv 2209.03003). The deterministic DDIM update between them is Euler's.

    Args:
        length: the network is given t·length.
        shift: t = shift·t' / (1 + (shift - 1)·t') of evenly spaced t'; above 1, more of the steps are at high noise
            (Esser et al. 2024, arXiv 2403.03206, eq. 23). MONAI's ``timestep_transform`` takes the cube root of the
            number of latent positions over 32³.
    """
    even = [(count - index) / count for index in range(count)]
    times = [shift * t / (1 + (shift - 1) * t) for t in even]
    return [*(Step(length * t, 1 - t, t) for t in times), CLEAN]
