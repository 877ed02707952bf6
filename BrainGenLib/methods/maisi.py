"""MAISI-v2 (Zhao et al. 2025, arXiv 2508.05772), as NVIDIA's NV-Generate MR brain has it: a KL autoencoder, and a
rectified flow of its latents, conditioned on the contrast as a class and the spacing in mm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from BrainGenLib import spaces
from BrainGenLib.bundles import Bundle
from BrainGenLib.diffusion import rectified_flow, schedules
from BrainGenLib.diffusion.samplers import Callback, Network, flow_denoiser, nothing
from BrainGenLib.diffusion.schedules import Denoiser, Step
from BrainGenLib.methods.image_model import ImageModel

_NO_CLASS = 0  # what a tenth of the training was given instead of its class
_WINDOW = 80  # positions of a latent along an axis that are decoded at once


@dataclass
class Maisi(ImageModel):
    """The networks of a bundle and the numbers that they need.

    Attributes:
        scale_factor: what latents of the autoencoder were multiplied by for the flow; the checkpoint states it.
        class_labels: contrast to the class of a whole head and of a brain alone.
        compat: ``exact`` integrates the flow as it is; ``monai`` gives the bits of NV-Generate (see
            :mod:`BrainGenLib.diffusion.rectified_flow`).
        scheduler: arguments of MONAI's ``RFlowScheduler``, for ``monai``.
    """

    autoencoder: Any
    unet: Any
    scale_factor: float
    class_labels: dict[str, list[int]]
    compat: Literal["exact", "monai"]
    scheduler: dict[str, Any]
    latent_shape: tuple[int, ...]
    affine: np.ndarray
    device: str

    @classmethod
    def from_bundle(cls, bundle: Bundle, device: str) -> Maisi:
        numbers = bundle.metadata.parameters
        return cls(
            bundle.load("autoencoder", device),
            bundle.load("diffusion", device),
            numbers["scale_factor"],
            numbers["class_labels"],
            numbers["compat"],
            numbers["scheduler"],
            tuple(numbers["latent_shape"]),
            np.array(numbers["affine"]),
            device,
        )

    def steps(self, count: int) -> list[Step]:
        # MONAI's timestep_transform: the larger the latent, the more steps lie near the noise.
        return schedules.rectified_flow(count, shift=(math.prod(self.latent_shape[1:]) / 32**3) ** (1 / 3))

    def denoiser(self, conditions: Mapping[str, float], contrast: str, guidance: float) -> Denoiser:
        return flow_denoiser(self.velocity(conditions, contrast, guidance))

    def velocity(self, conditions: Mapping[str, float], contrast: str, guidance: float) -> Network:
        """The flow for conditions; guided as by :func:`BrainGenLib.diffusion.guidance.classifier_free`, in one
        batch."""
        label = self.class_labels[contrast][round(conditions["skull_stripped"])]
        # In hundredths of a mm, as in training.
        spacing = 100 * torch.tensor([spaces.voxel_size(self.affine)], device=self.device)

        def predict(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            classes = torch.full((len(x),), label, device=x.device)
            if guidance != 1:
                x, times = torch.cat([x, x]), torch.cat([times, times])
                classes = torch.cat([classes, torch.full_like(classes, _NO_CLASS)])
            with torch.autocast("cuda", enabled=x.is_cuda):
                v = self.unet(x, times, class_labels=classes, spacing_tensor=spacing.expand(len(x), -1))
            if guidance != 1:
                conditional, unconditional = v.chunk(2)
                v = unconditional + guidance * (conditional - unconditional)
            return v.float()

        return predict

    def sample(
        self,
        x: torch.Tensor,
        conditions: Mapping[str, float],
        contrast: str,
        guidance: float,
        count: int,
        callback: Callback = nothing,
    ) -> torch.Tensor:
        if self.compat == "monai":
            velocity = self.velocity(conditions, contrast, guidance)
            return rectified_flow.sample_as_monai(velocity, x, count, self.scheduler, callback)
        return super().sample(x, conditions, contrast, guidance, count, callback)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        from monai.inferers import SlidingWindowInferer

        with torch.autocast("cuda", enabled=z.is_cuda):
            if z[0, 0].numel() <= _WINDOW**3:
                return self.autoencoder.decode_stage_2_outputs(z / self.scale_factor).float()
            window = [min(_WINDOW, side) for side in z.shape[2:]]
            inferer: Any = SlidingWindowInferer(window, sw_batch_size=1, overlap=0.4, mode="gaussian")
            return inferer(z / self.scale_factor, self.autoencoder.decode_stage_2_outputs).float()
