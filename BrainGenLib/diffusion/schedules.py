"""Noise schedules of variance-preserving diffusion: x_t = α_t·z + σ_t·ε with α_t² + σ_t² = 1.

Networks are trained at integer times 0 … T-1; time T-1 is pure noise (zero terminal signal-to-noise ratio, Lin et al.
2024, arXiv 2305.08891), so that sampling starts where training ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch


class Step(NamedTuple):
    """One point of a trajectory: the time that the network is told, and the two coefficients there.

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


def scaled_linear(length: int = 1000, beta_start: float = 0.0015, beta_end: float = 0.0195) -> Schedule:
    """√β linear (the schedule of latent diffusion), rescaled to zero terminal SNR (Lin et al., algorithm 1)."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, length, dtype=torch.float64) ** 2
    root = torch.cumprod(1 - betas, 0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return Schedule((root**2).float())
