"""The model of the bundle ``brain-ldm``: an autoencoder of 2 mm images and a diffusion of its latents, conditioned on
contrast, age, sex, volumes and loads (trained by ``braingen train image-diffusion``).

Inside, the diffusion's latents are standardised about the mean of each contrast. Outside they are standardised about
one mean of all: so that a latent can be decoded without knowing its contrast, and drift means the same in all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from BrainGenLib import anatomy
from BrainGenLib.bundles import Bundle, Metadata
from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.drift import Drift, started
from BrainGenLib.diffusion.drift_choice import sampler_response, to_delta
from BrainGenLib.diffusion.guidance import classifier_free
from BrainGenLib.diffusion.samplers import Callback, nothing, sample_dpmpp_2m, velocity_denoiser
from BrainGenLib.diffusion.schedules import Denoiser, Step
from BrainGenLib.lesions import PATHOLOGIES
from BrainGenLib.methods.image_model import ImageModel
from BrainGenLib.networks.age_judge import AgeJudge
from BrainGenLib.networks.gaussian import discriminant
from BrainGenLib.networks.image_autoencoder import ImageAutoencoder
from BrainGenLib.networks.image_diffusion import ImageDenoiser
from BrainGenLib.requests import Generate
from BrainGenLib.spaces import GRID_2MM

PERSON = ("age", "sex", "ventricles", "brain")
"""Years; 0 female, 1 male; mL in template space, lateral ventricles of both sides and brain without fluid."""
CONDITIONS = (*PERSON, "painted", *PATHOLOGIES)
"""Conditions of the diffusion, in this order; ``painted`` is 1 for the synthetic images of its pre-training."""

Conditions = Mapping[str, float] | Sequence[Mapping[str, float]]
"""Of all items of a batch, or of each."""

NO_DRIFT = Drift()


def told(conditions: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Conditions in the order of :data:`CONDITIONS`, as numbers of even spacing, and which are known; float32.

    Volumes become logarithms, and loads their cube root, which is a lesion's size in mm, so to speak.
    """
    values = np.zeros(len(CONDITIONS), np.float32)
    for i, name in enumerate(CONDITIONS):
        value = conditions.get(name, 0.0)
        if name in PATHOLOGIES:
            values[i] = max(value, 0.0) ** (1 / 3)
        elif name in ("ventricles", "brain"):
            values[i] = np.log(max(value, 1.0))
        else:
            values[i] = value
    return values, np.array([name in conditions for name in CONDITIONS], np.float32)


def volume_conditions(classes: np.ndarray, spacing: float) -> dict[str, float]:
    """The conditions that are volumes, in mL, of a class map in template space with voxels of ``spacing`` mm."""
    volumes = np.bincount(classes.ravel(), minlength=len(anatomy.labels())) * spacing**3 / 1000
    names = ("lateral ventricle", "inferior lateral ventricle")
    ventricles = [index for name in names for index in anatomy.classes_of(name=name)]
    fluid = {0, *anatomy.classes_of(tissue="csf")}
    brain = [index for index in range(len(anatomy.labels())) if index not in fluid]
    return {"ventricles": float(volumes[ventricles].sum()), "brain": float(volumes[brain].sum())}


@dataclass
class BrainLDM(ImageModel):
    """The networks of the bundle.

    Attributes:
        contrasts: names, in the order of the diffusion's numbers.
        spread: standard deviation between subjects of the mean of each channel of the latent (C,), for drift.
        ageing: what a year adds to the logarithm of a volume condition.
        painted: draw images such as the diffusion was pre-trained on, instead of scans.
        drift: of the noise that :meth:`sample` starts from; what the diffusion was fine-tuned with.
        judge: says how old a brain looks, if the bundle has one.
        centres: where the latents of each contrast lie (contrasts, C, …).
    """

    autoencoder: ImageAutoencoder
    diffusion: ImageDenoiser
    contrasts: Sequence[str]
    spread: torch.Tensor
    ageing: Mapping[str, float]
    device: str
    painted: bool = False
    drift: Drift = NO_DRIFT
    judge: AgeJudge | None = None
    # Half a gigabyte on their way through the networks.
    batch: ClassVar[int] = 32

    def __post_init__(self) -> None:
        self.latent_shape = (self.autoencoder.latent, *self.diffusion.grid)
        self.affine = GRID_2MM.affine
        self._schedule = schedules.cosine()
        with torch.no_grad():
            empty = torch.zeros(1, 1, *GRID_2MM.shape, device=self.device)
            self._background = self.autoencoder.encode(empty)
            spread, mean = self.diffusion.spread, self.diffusion.mean
            self._mean = self.diffusion.on_grid(mean.mean(0))[None]
            self._spread = self.diffusion.on_grid(spread)[None]
            self.centres = self.diffusion.on_grid((mean - mean.mean(0)) / spread)

    @classmethod
    def from_bundle(cls, bundle: Bundle, device: str) -> BrainLDM:
        autoencoder, diffusion = bundle.load("autoencoder", device), bundle.load("diffusion", device)
        assert isinstance(autoencoder, ImageAutoencoder)
        assert isinstance(diffusion, ImageDenoiser)
        judge = bundle.load("judge", device) if "judge" in bundle.metadata.networks else None
        assert judge is None or isinstance(judge, AgeJudge)
        numbers = bundle.metadata.parameters
        spread = torch.tensor(numbers["channel_spread"], device=device)
        drift = Drift(tuple(numbers["drift"])) if "drift" in numbers else NO_DRIFT
        return cls(
            autoencoder,
            diffusion,
            numbers["contrasts"],
            spread,
            numbers["ageing"],
            device,
            painted=numbers.get("painted", False),
            drift=drift,
            judge=judge,
        )

    def conditions_of(self, request: Generate, bundle: Metadata) -> dict[str, float]:
        """What is asked for; pathologies that are not are absent from the brain, all else is left to the model."""
        offered = {condition.name for condition in bundle.conditions if condition.kind == "pathology"}
        return {**request.anatomy, **dict.fromkeys(offered, 0.0), **request.pathologies}

    def steps(self, count: int) -> list[Step]:
        return self._schedule.trailing(count)

    def denoiser(self, conditions: Conditions, contrast: str, guidance: float | Sequence[float]) -> Denoiser:
        """As of :class:`ImageModel`; conditions and guidance may be those of each item of the batch."""
        with_conditions = self._plain(conditions, contrast)
        return classifier_free(with_conditions, self._plain({}, contrast), self.scale(guidance))

    def scale(self, guidance: float | Sequence[float]) -> float | torch.Tensor:
        """Guidance, of all items of a batch or of each, as ``classifier_free`` takes it."""
        if not isinstance(guidance, Sequence):
            return guidance
        # One number for all takes half the time where it is 1.
        each = torch.tensor(guidance, device=self.device).view(-1, 1, 1, 1, 1)
        return guidance[0] if len(set(guidance)) == 1 else each

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Images (N, 1, R, A, S) on GRID_2MM, 0 outside of the brain and 1 at its 99.5th percentile, to latents."""
        return self.standardised(self.autoencoder.encode(image))

    def standardised(self, code: torch.Tensor) -> torch.Tensor:
        """Latents of codes of the autoencoder (N, C, …)."""
        return (code - self._mean) / self._spread.clamp_min(1e-6) * self.diffusion.inside

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        code = torch.where(self.diffusion.inside > 0, z * self._spread + self._mean, self._background)
        return self.autoencoder.decode(code)

    def expected(self, conditions: Mapping[str, float], contrast: str) -> torch.Tensor:
        """The latent (C, …) that the Gaussian model expects under conditions."""
        number = self.contrasts.index(contrast)
        standard, _ = self.standard(conditions)
        first = self.diffusion.directions
        slopes = self.diffusion.modes_of(number)[:first]
        return self.centres[number] + (standard[0, :first] @ slopes).view(self.latent_shape)

    def discriminant(self, direction: torch.Tensor, conditions: Mapping[str, float], contrast: str) -> torch.Tensor:
        """What tells latents that lie apart by ``direction`` (C, …) from each other, under conditions: Σ⁻¹·direction
        of the Gaussian model, by which a latent is to be multiplied."""
        number = self.contrasts.index(contrast)
        modes = self.diffusion.modes_of(number)
        _, known = self.standard(conditions)
        first = self.diffusion.directions
        variance = torch.ones(len(modes), device=self.device)
        variance[:first] = 1 - known[0, :first]
        left = self.diffusion.remainder_of(number)
        return discriminant(direction.flatten(), modes, left, variance).view(self.latent_shape)

    def sample(
        self,
        x: torch.Tensor,
        conditions: Mapping[str, float],
        contrast: str,
        guidance: float,
        count: int,
        callback: Callback = nothing,
    ) -> torch.Tensor:
        denoiser = self.denoiser(conditions, contrast, guidance)
        return sample_dpmpp_2m(denoiser, started(x, self.drift), self.steps(count), callback)

    def sample_each(
        self,
        x: torch.Tensor,
        requests: Sequence[Generate],
        bundle: Metadata,
        count: int,
        callback: Callback = nothing,
    ) -> torch.Tensor:
        (contrast,) = requests[0].contrasts
        drifts = [
            self.drift if request.drift is None else self.drift_of(request.drift, count) for request in requests
        ]
        begun = torch.cat([started(one, drift) for one, drift in zip(x.split(1), drifts, strict=True)])
        conditions = [self.conditions_of(request, bundle) for request in requests]
        denoiser = self.denoiser(conditions, contrast, [request.guidance for request in requests])
        return sample_dpmpp_2m(denoiser, begun, self.steps(count), callback)

    def drift_of(self, units: float, count: int) -> Drift:
        """The drift that moves what :meth:`sample` draws in ``count`` steps by ``units`` standard deviations of every
        channel's mean between subjects."""
        change = sampler_response(sample_dpmpp_2m, self.steps(count), self.spread, math.prod(self.latent_shape[1:]))
        return Drift(tuple(to_delta(torch.full_like(self.spread, units), self.spread, change).tolist()))

    def _plain(self, conditions: Conditions, contrast: str) -> Denoiser:
        number = self.contrasts.index(contrast)
        standard, known = self.standard(conditions)
        centre = self.centres[number]
        index = torch.tensor([number], device=self.device)

        def velocity(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            alpha, sigma = self._schedule.alpha.to(x)[times], self._schedule.sigma.to(x)[times]
            count = len(x)
            return self.diffusion(
                x, alpha, sigma, index.expand(count), standard.expand(count, -1), known.expand(count, -1)
            )

        about_mean = velocity_denoiser(velocity)

        def denoise(x: torch.Tensor, step: Step) -> torch.Tensor:
            # x = α·(z + centre) + σ·ε: without the centre it is what the network knows, and where all is background
            # it has never been shown noise.
            return about_mean((x - step.alpha * centre) * self.diffusion.inside, step) + centre

        return denoise

    def standard(self, conditions: Conditions) -> tuple[torch.Tensor, torch.Tensor]:
        """Conditions as standard numbers, 0 where unknown, and which are known; (1, K) each, or (N, K)."""
        each = [conditions] if isinstance(conditions, Mapping) else conditions
        parts = zip(*(told({**one, "painted": float(self.painted)}) for one in each), strict=True)
        values, known = (torch.from_numpy(np.stack(part)).to(self.device) for part in parts)
        return self.diffusion.standard(values) * known, known
