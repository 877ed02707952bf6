"""Guidance: functions that make a denoiser of denoisers."""

from __future__ import annotations

import torch

from BrainGenLib.diffusion.schedules import Denoiser, Step


def classifier_free(conditional: Denoiser, unconditional: Denoiser, scale: float | torch.Tensor) -> Denoiser:
    """z = z_u + s·(z_c - z_u) (Ho & Salimans 2022, arXiv 2207.12598); 1 is the plain conditional model, 0 the other.

    At 0 and 1 only one of the two is evaluated. A tensor that multiplies z has a scale for each item of the batch.
    """
    if not isinstance(scale, torch.Tensor) and scale in (0, 1):
        return conditional if scale else unconditional

    def guided(x: torch.Tensor, step: Step) -> torch.Tensor:
        z = unconditional(x, step)
        return z + scale * (conditional(x, step) - z)

    return guided
