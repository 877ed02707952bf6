"""Rectified flow as MONAI's ``RFlowScheduler`` integrates it, for the bits that NV-Generate gives.

It rounds times to half precision and the next time down to a whole one, so that its time steps add up to more than
1 (1.010 at 30 steps, 1.09 at 300). :func:`BrainGenLib.diffusion.schedules.rectified_flow` with any sampler does not.
"""

from __future__ import annotations

import torch

from BrainGenLib.diffusion.samplers import Callback, Network, nothing


def sample_as_monai(
    velocity: Network, x: torch.Tensor, count: int, scheduler: dict, callback: Callback = nothing
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
