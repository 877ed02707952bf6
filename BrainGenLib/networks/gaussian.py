"""The best estimate of Gaussian data from noise, in closed form: what denoisers here start as."""

from __future__ import annotations

import torch


def posterior_mean(
    y: torch.Tensor,
    a: torch.Tensor,
    s: torch.Tensor,
    modes: torch.Tensor,
    remainder: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
) -> torch.Tensor:
    """E[z | y] for z = Σ_k c_k m_k + r and y = a·z + s·ε.

    Args:
        y: (size,).
        a, s: coefficients of the noise, scalars.
        modes: m_k (count, size).
        remainder: variance of r (size,), independent numbers.
        mean, variance: of the coefficients c (count,), independent; variance 0 is a coefficient that is known.
    """
    noise = a**2 * remainder + s**2
    residual = y - a * (mean @ modes)
    weighted = modes / noise
    scale = variance.sqrt()
    # Posterior of the coefficients (Woodbury); scaling both sides by √variance admits variance 0.
    precision = torch.eye(len(modes), device=y.device) + a**2 * scale[:, None] * (weighted @ modes.T) * scale
    shift = scale * torch.linalg.solve(precision, scale * (a * (weighted @ residual)))
    explained = shift @ modes
    return mean @ modes + explained + (a * remainder / noise) * (residual - a * explained)
