"""Brain imaging generation with latent diffusion models (Pinaya et al. 2022, arXiv 2209.07162), as MONAI's model zoo
has it: a KL autoencoder, and a U-Net that predicts the noise of its latents.

Conditions, each scaled to 0 to 1 over its range, are given twice: as context of the cross-attention, and as planes
beside the latent. The zoo's BraTS model has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from BrainGenLib.bundles import Bundle, Condition
from BrainGenLib.diffusion.samplers import epsilon_denoiser
from BrainGenLib.diffusion.schedules import Denoiser, Schedule, Step
from BrainGenLib.methods.image_model import ImageModel


@dataclass
class LatentDiffusion(ImageModel):
    """The networks of a bundle and the numbers that they need.

    Attributes:
        conditions: in the order in which the network was trained on them.
        scale_factor: what latents of the autoencoder were multiplied by for the diffusion.
    """

    autoencoder: Any
    unet: Any
    schedule: Schedule
    conditions: list[Condition]
    scale_factor: float
    latent_shape: tuple[int, ...]
    affine: np.ndarray
    device: str

    @classmethod
    def from_bundle(cls, bundle: Bundle, device: str) -> LatentDiffusion:
        from monai.networks.schedulers import DDIMScheduler

        numbers = bundle.metadata.parameters
        return cls(
            bundle.load("autoencoder", device),
            bundle.load("diffusion", device),
            # Of MONAI's scheduler only the betas are used: they end short of pure noise, as the network was trained.
            Schedule(DDIMScheduler(**numbers["scheduler"]).alphas_cumprod),
            bundle.metadata.conditions,
            numbers["scale_factor"],
            tuple(numbers["latent_shape"]),
            np.array(numbers["affine"]),
            device,
        )

    def steps(self, count: int) -> list[Step]:
        # Trailing, where MONAI 1.5 begins at time 980 of 1000 and MONAI 1.6 tells the network other times than it
        # steps by.
        return self.schedule.trailing(count)

    def denoiser(self, conditions: Mapping[str, float], contrast: str, guidance: float) -> Denoiser:
        shares = [(conditions[one.name] - one.minimum) / (one.maximum - one.minimum) for one in self.conditions]
        vector = torch.tensor([[shares]], device=self.device) if shares else None

        def noise(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            context, given = None, x
            if vector is not None:
                context = vector.expand(len(x), -1, -1)
                planes = context.transpose(1, 2)[..., None, None].expand(-1, -1, *x.shape[2:])
                given = torch.cat([x, planes], 1)
            return self.unet(given, timesteps=times, context=context)

        return epsilon_denoiser(noise)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", enabled=z.is_cuda):
            return self.autoencoder.decode_stage_2_outputs(z / self.scale_factor).float()
