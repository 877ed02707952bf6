"""What the recipes of soft tissue and of folds share: the Gaussian model that they start as, and the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from BrainGenLib.diffusion import schedules
from BrainGenLib.networks.soft_tissue import BINS, BRAIN, CORNER, FieldDenoiser, features, radii
from BrainGenLib.training.run import autocast

Pair = tuple[torch.Tensor, torch.Tensor]
"""A field (outputs, …) and its conditions (C, …)."""


def standardised(network: FieldDenoiser, field: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Fields (N, outputs, …) in the units of the diffusion, 0 outside the brain."""
    mean, spread = network.expected(given)
    return (field - mean) / spread * given[:, BRAIN : BRAIN + 1]


def fit_gaussian(network: FieldDenoiser, pairs: Sequence[Pair]) -> None:
    """Set the regressions of mean and spread, and the spectra, to those of whole brains of one shape."""
    network.mean_weights.copy_(_regression(pairs))
    means = [network.expected(given[None])[0][0] for _, given in pairs]
    size = [(field - mean).abs() * (np.pi / 2) ** 0.5 for (field, _), mean in zip(pairs, means, strict=True)]
    network.spread_weights.copy_(_regression([(d, given) for d, (_, given) in zip(size, pairs, strict=True)]))
    shape = pairs[0][0].shape[1:]
    place = (radii(shape, torch.device("cpu")) / CORNER * (BINS - 1)).round().long().flatten()
    power, count = torch.zeros_like(network.spectrum), torch.zeros(BINS)
    for field, given in pairs:
        z = standardised(network, field[None], given[None])[0]
        found = torch.fft.rfftn(z, dim=(1, 2, 3)).abs().square() / (given[BRAIN] > 0).sum()
        power.index_add_(1, place, found.flatten(1))
        count.index_add_(0, place, torch.ones(len(place)))
    # Never zero: the loss is in units of it.
    network.spectrum.copy_((power / count.clamp_min(1)).clamp_min(1e-6))


def _regression(pairs: Sequence[Pair]) -> torch.Tensor:
    """Weights (outputs, features) of the least squares over all voxels of the brains."""
    gram, moment = torch.zeros(1), torch.zeros(1)
    for field, given in pairs:
        inside = given[BRAIN] > 0
        rows = features(given[None])[0][:, inside].double()
        gram, moment = gram + rows @ rows.T, moment + rows @ field[:, inside].double().T
    ridge = 1e-6 * torch.trace(gram) * torch.eye(len(gram))
    return torch.linalg.solve(gram + ridge, moment).T.float()


def loss_of(
    network: FieldDenoiser, field: torch.Tensor, given: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Denoising error of a batch, in units of what the Gaussian model would leave, so that no time dominates."""
    schedule, where = schedules.cosine(), field.device
    z = standardised(network, field, given)
    # Where folds go is decided at high noise; a map with little noise is easily cleaned.
    times = (len(schedule) * torch.rand(len(z), generator=generator).sqrt()).long().to(where)
    noise = torch.randn(z.shape, generator=generator).to(where)
    x, inside = schedule.noised(z, noise, times), given[:, BRAIN : BRAIN + 1]
    with autocast(where):
        estimate, scale = network(x, schedule.alpha.to(where)[times], schedule.sigma.to(where)[times], given)
    error = ((estimate.float() - z) / scale).square().mean(1, keepdim=True) * inside
    return error.sum() / inside.sum().clamp_min(1)


def rate_at(step: int, total: int, peak: float) -> float:
    """Learning rate: a short warm-up, then linear to nearly nothing, which sharpens folds more than more steps do."""
    return peak * min(1, (step + 1) / 50, 1.02 - step / total)
