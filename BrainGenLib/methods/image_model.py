"""Models that draw an image without labels: what each of them offers, and a case from it.

Sampling, latent drifting, inversion and likelihoods need a denoiser, the steps that it knows, and a decoder; how a
model is conditioned, scheduled and scaled is its own business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch

from BrainGenLib import spaces
from BrainGenLib.bundles import Bundle, Metadata
from BrainGenLib.case import Case
from BrainGenLib.diffusion.samplers import Callback, nothing, sample_ddim
from BrainGenLib.diffusion.schedules import Denoiser, Step
from BrainGenLib.reporting import Reporter
from BrainGenLib.requests import Generate


class ImageModel(ABC):
    """A latent model of images of one grid.

    Attributes:
        latent_shape: (channels, R, A, S) of the latent, R, A and S in the order of the model's own axes.
        affine: 4×4 voxel-to-world matrix of what :meth:`decode` gives, mm.
        device: where the networks are.
        batch: how many latents :meth:`sample_each` takes at once.
    """

    latent_shape: tuple[int, ...]
    affine: np.ndarray
    device: str
    batch: ClassVar[int] = 1

    @classmethod
    @abstractmethod
    def from_bundle(cls, bundle: Bundle, device: str) -> ImageModel:
        """Load the networks ``autoencoder`` and ``diffusion`` of a bundle."""

    def conditions_of(self, request: Generate, bundle: Metadata) -> dict[str, float]:
        """What to tell the model: all conditions of its bundle, as asked for, or else its defaults."""
        return {
            condition.name: request.anatomy.get(condition.name, condition.default) for condition in bundle.conditions
        }

    @abstractmethod
    def steps(self, count: int) -> list[Step]:
        """``count`` steps of the model's schedule from noise, and the clean end."""

    @abstractmethod
    def denoiser(self, conditions: Mapping[str, float], contrast: str, guidance: float) -> Denoiser:
        """The denoiser for conditions in the units of the bundle; ``guidance`` is of
        :func:`BrainGenLib.diffusion.guidance.classifier_free`, and has no meaning to a model that was never trained
        without its conditions."""

    @abstractmethod
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Latents (N, C, …) to float32 images (N, 1, …), about 0 to 1; differentiable, not clipped."""

    def sample(
        self,
        x: torch.Tensor,
        conditions: Mapping[str, float],
        contrast: str,
        guidance: float,
        count: int,
        callback: Callback = nothing,
    ) -> torch.Tensor:
        """Latents (N, C, …) from noise of that shape, as the model's publisher samples it."""
        return sample_ddim(self.denoiser(conditions, contrast, guidance), x, self.steps(count), callback)

    def sample_each(
        self,
        x: torch.Tensor,
        requests: Sequence[Generate],
        bundle: Metadata,
        count: int,
        callback: Callback = nothing,
    ) -> torch.Tensor:
        """Latents (N, C, …) from noise, each as a request of its own asks for, of one contrast."""
        (request,) = requests
        (contrast,) = request.contrasts
        return self.sample(x, self.conditions_of(request, bundle), contrast, request.guidance, count, callback)


def draw(model: ImageModel, requests: Sequence[Generate], bundle: Metadata, report: Reporter) -> list[Case]:
    """Images as cases without labels; the same request gives the same image, but for rounding where models take
    several at once.

    ``measurements`` hold the conditions that were used, the 0.5 and 99.5 percentile of what was decoded before it was
    clipped to 0 to 1 (far from that something is wrong with the scale of the latents), and whether the skull is left
    out.

    Args:
        requests: that differ in conditions, guidance and drift alone: all begin from the same noise.

    Raises:
        Cancelled: ``report`` says so, at the latest after one sampler step.
    """
    count = requests[0].steps or int(bundle.parameters["steps"])
    (contrast,) = requests[0].contrasts
    generator = torch.Generator().manual_seed(requests[0].seed)
    noise = torch.randn((1, *model.latent_shape), generator=generator).to(model.device)
    # Less than all of it draws images nearer to the average: what a short training has not learnt shows less.
    noise = noise * float(bundle.parameters.get("temperature", 1.0))
    together = [requests[first : first + model.batch] for first in range(0, len(requests), model.batch)]
    cases: list[Case] = []
    for number, some in enumerate(together):

        def progress(index: int, x: torch.Tensor, z: torch.Tensor, done: int = number * count) -> None:
            report.step("sampling", done + index, len(together) * count)

        z = model.sample_each(noise.expand(len(some), *model.latent_shape), some, bundle, count, progress)
        for request, latent in zip(some, z, strict=True):
            report.step("decoding", len(cases), len(requests))
            # One by one: decoders take the most memory.
            decoded = model.decode(latent[None])[0, 0].cpu().numpy()
            image, affine = spaces.canonical(decoded, model.affine)
            conditions = model.conditions_of(request, bundle)
            case = Case({contrast: np.clip(image, 0, 1)}, None, affine)
            case.measurements = {
                "conditions": conditions,
                "decoded_percentiles": np.percentile(decoded, (0.5, 99.5)).tolist(),
                "skull_stripped": bool(round(conditions.get("skull_stripped", bundle.parameters["skull_stripped"]))),
            }
            cases.append(case)
    return cases
