"""Latent drift: a constant δ in the noise, which moves what a diffusion model draws (Yeganeh et al., CVPR 2025,
arXiv 2412.20651).

δ is a signed scalar in the paper; here it may also be one number per latent channel. It can act in three places: in
the forward process of fine-tuning (:func:`training_pair`), in the noise that sampling starts from (:func:`started`),
and after each update of sampling (:func:`per_step`, the paper's eq. 4). How large it should be:
:mod:`BrainGenLib.diffusion.drift_choice`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from BrainGenLib.diffusion.samplers import AfterUpdate, unchanged
from BrainGenLib.diffusion.schedules import Step
from BrainGenLib.errors import BadInput

PerStep = Literal["none", "literal", "normalised"]
Variant = Literal["V1", "V2", "V3"]
Prediction = Literal["eps", "v", "x0", "flow"]
"""What a network predicts: ε, v = α·ε - σ·z, z, or z - ε (rectified flow, with MONAI's sign)."""

REFERENCE_STEPS = 50
"""Of a trajectory of this many steps, normalised drift per step is the literal one."""


@dataclass(frozen=True)
class Drift:
    """How sampling drifts.

    Args:
        delta: δ, or one for each latent channel, in units of the noise's standard deviation.
        start: add δ to the noise that sampling starts from.
        step: what to add after each update: nothing; δ, as the paper's eq. 4 has it, whose effect grows with the
            number of steps; or δ·:data:`REFERENCE_STEPS`/steps, whose effect hardly depends on it.

    Raises:
        BadInput: δ is not finite, or ``step`` is none of the three.
    """

    delta: float | tuple[float, ...] = 0.0
    start: bool = True
    step: PerStep = "none"

    def __post_init__(self) -> None:
        if not self.channels or not all(math.isfinite(value) for value in self.channels):
            raise BadInput(f"A drift of {self.delta} is not a number; give one, or one for each latent channel.")
        if self.step not in get_args(PerStep):
            raise BadInput(f"Drift per step is one of {', '.join(get_args(PerStep))}, not {self.step!r}.")

    def __neg__(self) -> Drift:
        """The drift that takes this one back."""
        delta = tuple(-value for value in self.channels) if isinstance(self.delta, tuple) else -self.delta
        return Drift(delta, self.start, self.step)

    @property
    def channels(self) -> tuple[float, ...]:
        """δ of each channel; a single one holds for all."""
        return self.delta if isinstance(self.delta, tuple) else (self.delta,)

    def added_to(self, x: torch.Tensor, share: float = 1.0) -> torch.Tensor:
        """x + share·δ for latents (N, C, …); x itself where δ is 0.

        Raises:
            BadInput: δ has another number of channels than x.
        """
        if not any(self.channels):
            return x
        if len(self.channels) not in (1, x.shape[1]):
            raise BadInput(
                f"The drift has {len(self.channels)} channels and the latent {x.shape[1]}; "
                f"give one number, or {x.shape[1]}."
            )
        delta = torch.tensor(self.channels, dtype=x.dtype, device=x.device)
        return x + share * delta.view(-1, *(1,) * (x.ndim - 2))


def started(noise: torch.Tensor, drift: Drift) -> torch.Tensor:
    """The x that sampling starts from: z_T = ε + δ.

    For deterministic samplers. Fresh noise has no drift: from pure noise, ancestral sampling forgets it at once.
    """
    return drift.added_to(noise) if drift.start else noise


def per_step(drift: Drift, steps: Sequence[Step]) -> AfterUpdate:
    """The ``after_update`` of a sampler that drifts at each step; ``per_step(-drift, steps)`` as ``before_update`` of
    an inversion takes it back.

    Args:
        steps: the whole trajectory from pure noise, also if sampling begins part of the way along it.
    """
    if drift.step == "none":
        return unchanged
    share = 1.0 if drift.step == "literal" else REFERENCE_STEPS / (len(steps) - 1)
    return lambda index, x: drift.added_to(x, share)


def training_pair(
    z: torch.Tensor,
    noise: torch.Tensor,
    alpha: torch.Tensor,
    sigma: torch.Tensor,
    prediction: Prediction,
    drift: Drift,
    variant: Variant = "V3",
) -> tuple[torch.Tensor, torch.Tensor]:
    """The noised latent and the target of fine-tuning with drift; of ``drift`` only δ counts.

    V3 is the paper's: "added to the target z_T of the forward process", the noise is ε + δ in both. The others are
    found in re-implementations and serve for comparison: V1 shifts the noise, V2 the noised latent, and the target
    knows nothing of it, so that the estimate of z is wrong in plain sampling: by σδ/α (V1) or δ/α (V2) of a network
    that predicts ε, by ασδ or αδ if v, by tδ or δ if rectified flow, and by nothing if z.

    Args:
        z, noise: latents and standard normal noise (N, C, …).
        alpha, sigma: coefficients of the batch's times, shaped to multiply ``z``: of
            :meth:`~BrainGenLib.diffusion.schedules.Schedule.coefficients`, or 1 - t and t of rectified flow.
        prediction: what the network predicts.
    """
    shifted = drift.added_to(noise)
    if variant == "V2":
        x = drift.added_to(alpha * z + sigma * noise)
    else:
        x = alpha * z + sigma * shifted
    told = shifted if variant == "V3" else noise
    if prediction == "eps":
        return x, told
    if prediction == "v":
        return x, alpha * told - sigma * z
    if prediction == "flow":
        return x, z - told
    return x, z
