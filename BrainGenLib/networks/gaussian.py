"""The best estimate of Gaussian data from noise, in closed form: what denoisers here start as."""

from __future__ import annotations

from collections.abc import Sequence

import torch

BINS = 32
"""Of a power spectrum, from 0 to the corner of the frequency cube."""
CORNER = 0.75**0.5


def posterior_mean(
    y: torch.Tensor,
    a: torch.Tensor,
    s: torch.Tensor,
    modes: torch.Tensor,
    remainder: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    only_modes: bool = False,
) -> torch.Tensor:
    """E[z | y] for z = Σ_k c_k m_k + r and y = a·z + s·ε.

    Args:
        y: (size,).
        a, s: coefficients of the noise, scalars.
        modes: m_k (count, size).
        remainder: variance of r (size,), independent numbers.
        mean, variance: of the coefficients c (count,), independent; variance 0 is a coefficient that is known.
        only_modes: leave the estimate of r out.
    """
    noise = a**2 * remainder + s**2
    residual = y - a * (mean @ modes)
    weighted = modes / noise
    scale = variance.sqrt()
    # Posterior of the coefficients (Woodbury); scaling both sides by √variance admits variance 0.
    precision = torch.eye(len(modes), device=y.device) + a**2 * scale[:, None] * (weighted @ modes.T) * scale
    shift = scale * torch.linalg.solve(precision, scale * (a * (weighted @ residual)))
    explained = shift @ modes
    likely = mean @ modes + explained
    return likely if only_modes else likely + (a * remainder / noise) * (residual - a * explained)


def discriminant(
    direction: torch.Tensor, modes: torch.Tensor, remainder: torch.Tensor, variance: torch.Tensor
) -> torch.Tensor:
    """Σ⁻¹·direction for the covariance Σ of z = Σ_k c_k m_k + r (Fisher's linear discriminant).

    Args:
        direction: (size,).
        modes, remainder, variance: as of :func:`posterior_mean`.
    """
    scale = variance.sqrt()
    weighted = direction / remainder
    # Woodbury, as above.
    precision = (
        torch.eye(len(modes), device=direction.device) + scale[:, None] * ((modes / remainder) @ modes.T) * scale
    )
    explained = scale * torch.linalg.solve(precision, scale * (modes @ weighted))
    return weighted - (explained @ modes) / remainder


def radii(shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """|frequency| in cycles per voxel of every coefficient of ``rfftn`` over three axes."""
    axes = [torch.fft.fftfreq(shape[0]), torch.fft.fftfreq(shape[1]), torch.fft.rfftfreq(shape[2])]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt().to(device)


def power_at(spectrum: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A spectrum (…, BINS) at the coefficients of ``rfftn`` over three axes of that shape."""
    place = radii(shape, spectrum.device) / CORNER * (BINS - 1)
    low = place.long().clamp_max(BINS - 2)
    return torch.lerp(spectrum[..., low], spectrum[..., low + 1], place - low)


def wiener(
    x: torch.Tensor, power: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """E[z | x] for a stationary Gaussian field z of that power and x = α·z + σ·ε, and its standard error.

    Args:
        x: (N, C, R, A, S), 0 outside of where the field is.
        power: (C or N, C, coefficients of rfftn), 1 on average for a field of unit variance.
        alpha, sigma: (N,).

    Returns:
        The estimate, and the error by channel (N, C, 1, 1, 1).
    """
    a, s = (value.view(-1, 1, 1, 1, 1) for value in (alpha, sigma))
    noisy = a * a * power + s * s
    with torch.autocast(x.device.type, enabled=False):
        coefficients = torch.fft.rfftn(x.float(), dim=(2, 3, 4))
        guess = torch.fft.irfftn(coefficients * (a * power / noisy), s=x.shape[2:], dim=(2, 3, 4))
    return guess, (power * s * s / noisy).mean((2, 3, 4), keepdim=True).sqrt()


def power_spectrum(fields: Sequence[torch.Tensor], inside: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean power of fields (C, …) per frequency bin (C, BINS), 1 on average for white noise of unit variance.

    Args:
        fields: of one shape, 0 where ``inside`` (bool, …) is not.
    """
    shape = fields[0].shape[1:]
    place = (radii(shape, torch.device("cpu")) / CORNER * (BINS - 1)).round().long().flatten()
    power, count = torch.zeros(len(fields[0]), BINS), torch.zeros(BINS)
    for field, mask in zip(fields, inside, strict=True):
        found = torch.fft.rfftn(field, dim=(1, 2, 3)).abs().square() / mask.sum()
        power.index_add_(1, place, found.flatten(1))
        count.index_add_(0, place, torch.ones(len(place)))
    # Never zero: the loss is in units of it.
    return (power / count.clamp_min(1)).clamp_min(1e-6)
