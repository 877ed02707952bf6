"""Rectified flow (Liu et al. 2022, arXiv 2209.03003): x_t = (1 - t)·z + t·ε, and a network that predicts v = z - ε.

With α = 1 - t and σ = t the clean estimate is z = x + t·v, and DDIM's update is exactly Euler's x + v·(t - t'), so
the samplers of :mod:`BrainGenLib.diffusion.samplers` serve flows as they are.

MONAI's ``RFlowScheduler`` does something else: it rounds times to half precision and the next time down to a whole
one, so that its time steps add up to more than 1 (1.010 at 30 steps, 1.09 at 300). :func:`sample_as_monai` does it on
purpose, to give the bits that NV-Generate gives.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from BrainGenLib.diffusion.samplers import Callback, nothing
from BrainGenLib.diffusion.schedules import CLEAN, Denoiser, Step

TIMES = 1000
"""What t = 1 is to the network."""

Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(x, times) to v; times (N,) are real numbers from 0 to TIMES."""

_BASE = 32**3  # positions of a latent at which steps are evenly spaced


def steps(count: int, positions: int) -> list[Step]:
    """``count`` steps from pure noise, then :data:`CLEAN`: t = r·s / (1 + (r - 1)·s) for s = 1, 1 - 1/count, ….

    The larger the latent, the more steps lie near the noise (Esser et al. 2024, arXiv 2403.03206, section 5.3.2);
    r = ∛(positions / 32³), as in MONAI's training.

    Args:
        count: of steps.
        positions: of the latent, the product of its spatial shape.
    """
    ratio = (positions / _BASE) ** (1 / 3)
    even = [1 - index / count for index in range(count)]
    times = [ratio * s / (1 + (ratio - 1) * s) for s in even]
    return [*(Step(TIMES * t, 1 - t, t) for t in times), CLEAN]


def flow_denoiser(velocity: Velocity) -> Denoiser:
    """Wrap a network that predicts v = z - ε: the clean estimate is z = x + σ·v."""

    def denoise(x: torch.Tensor, step: Step) -> torch.Tensor:
        return x + step.sigma * velocity(x, torch.full((len(x),), step.time, device=x.device))

    return denoise


def sample_as_monai(
    velocity: Velocity, x: torch.Tensor, count: int, scheduler: dict, callback: Callback = nothing
) -> torch.Tensor:
    """Sample as NV-Generate does, to the bit, by MONAI's ``RFlowScheduler``.

    Args:
        velocity: the network.
        x: noise (N, C, …).
        count: of steps.
        scheduler: arguments of ``RFlowScheduler``.
        callback: as for every sampler.
    """
    from monai.networks.schedulers import RFlowScheduler

    rule = RFlowScheduler(**scheduler)
    rule.set_timesteps(count, input_img_size_numel=x[0, 0].numel())
    following = torch.cat([rule.timesteps[1:], torch.zeros(1, dtype=rule.timesteps.dtype)])
    for index, (now, after) in enumerate(zip(rule.timesteps, following, strict=True)):
        v = velocity(x, torch.full((len(x),), float(now), device=x.device))
        x, z = rule.step(v, now, x, after)
        callback(index, x, z)
    return x
