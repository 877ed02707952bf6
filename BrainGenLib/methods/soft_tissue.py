"""Soft tissue of a brain, drawn by diffusion given its labels; and hard tissue labels that follow it.

The second stage of a cascade (Ho et al. 2022, arXiv 2106.15282): labels say where structures are, more or less
finely; the map says how every 2 mm voxel mixes fluid (0), grey (½) and white matter (1).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch.nn import functional as F

from BrainGenLib import anatomy
from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.samplers import Callback, sample_dpmpp_2m
from BrainGenLib.diffusion.schedules import Step
from BrainGenLib.lesions import STRUCTURES, split_lesions
from BrainGenLib.networks.largest import largest
from BrainGenLib.networks.soft_tissue import BRAIN, MULTIPLE, FieldDenoiser, TissueDenoiser

BLUR = (0.5, 2.5)
"""Smallest and largest standard deviation (2 mm voxels) of the blur of labels in training."""
STEPS = 4
TEMPERATURE = 0.7
"""Share of what a drawn map holds beyond the expected one. All of it is specks rather than sheets as long as networks
are trained for hours, not days; and part of it is the noise of scans, which the renderer adds as well."""
GIVEN = 0.7
"""Blur that maps of given segmentations are drawn for: their borders are to be kept."""
RANGE = (-0.25, 1.5)
"""Of a map's values: fluid and white matter vary, too."""
TISSUE_CLASSES = (
    anatomy.classes_of(name="extraventricular CSF"),
    anatomy.classes_of(name="cerebral cortex"),
    anatomy.classes_of(name="cerebral white matter"),
)


@functools.cache
def _tissue_indices(device: torch.device) -> tuple[torch.Tensor, ...]:
    """:data:`TISSUE_CLASSES` on a device: lists would be sent there at every use, and waited for."""
    with torch.inference_mode(False):
        return tuple(torch.tensor(classes, device=device) for classes in TISSUE_CLASSES)


def blurred(volume: torch.Tensor, sigma: float) -> torch.Tensor:
    """A (C, …) volume smoothed by a Gaussian of ``sigma`` voxels, zero beyond its faces."""
    radius = math.ceil(2.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=volume.device) / sigma) ** 2)
    kernel /= kernel.sum()
    out = volume[:, None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = len(kernel), radius
        out = F.conv3d(out, kernel.view(shape), padding=padding)
    return out[:, 0]


def shares_of(probabilities: torch.Tensor, sigma: float, already: float = 0.0) -> torch.Tensor:
    """Shares (3, …) of fluid, cortex and white matter in cerebral tissue, blurred; 0 where none is near.

    Args:
        probabilities: soft labels (STRUCTURES, …).
        sigma: blur in voxels; ``already`` is what the probabilities have.
    """
    groups = _tissue_indices(probabilities.device)
    shares = torch.stack([probabilities.index_select(0, classes).sum(0) for classes in groups])
    shares = shares * ~others(probabilities)
    if sigma > already:
        shares = blurred(shares, math.sqrt(sigma**2 - already**2))
    return shares / shares.sum(0).clamp_min(1e-6)


def others(probabilities: torch.Tensor) -> torch.Tensor:
    """Where a brain (STRUCTURES, …) is mostly none of fluid, cortex and white matter."""
    classes = torch.cat(_tissue_indices(probabilities.device))
    rest = probabilities.index_select(0, classes).sum(0) < 0.5 * (1 - probabilities[0])
    return rest & (largest(probabilities) > 0)


def conditions(
    probabilities: torch.Tensor,
    shares: torch.Tensor,
    signals: torch.Tensor,
    sigma: float,
    already: float = 0.0,
    sharp: bool = True,
) -> torch.Tensor:
    """What the network is conditioned on (CONDITIONS, …) of soft labels (STRUCTURES, …).

    Args:
        shares: of :func:`shares_of`, blurred by ``sigma`` voxels.
        signals: typical value of every structure.
        already: blur that the probabilities have.
        sharp: whether the map is to look like one of a 1 mm scan, not of a 2 mm one.
    """
    inside, rest = largest(probabilities) > 0, others(probabilities)
    # What is none of the tissues is known as it is, whatever the blur.
    groups = _tissue_indices(probabilities.device)
    known = probabilities.index_fill(0, torch.cat(groups), 0)
    known[0] = 0
    rest_signal = torch.einsum("s...,s->...", known, signals) / known.sum(0).clamp_min(1e-6)
    rim = blurred(inside[None].to(probabilities), math.sqrt(sigma**2 - already**2))[0]
    tissue = shares * (inside & ~rest)
    typical = torch.stack([signals[classes].mean() for classes in groups])
    signal = torch.where(rest, rest_signal, torch.einsum("t...,t->...", tissue, typical))
    level = torch.full_like(rim, (sigma - sum(BLUR) / 2) / (BLUR[1] - BLUR[0]))
    rows = [rim, inside, rest, level, torch.full_like(rim, float(sharp))]
    return torch.stack([signal, *tissue, *(part.to(signal) for part in rows)])


@torch.inference_mode()
def draw(
    network: FieldDenoiser,
    given: torch.Tensor,
    generator: torch.Generator,
    callback: Callback,
    *,
    steps: int,
    temperature: float = 1.0,
    guidance: float = 0.0,
) -> torch.Tensor:
    """A field (outputs, …) for conditions (CONDITIONS, …), 0 where :data:`BRAIN` is 0.

    Args:
        steps: of the sampler.
        temperature: 1 draws from the model, 0 gives its expectation, between them lies what lies between the two.
        guidance: of :meth:`FieldDenoiser.forward`.

    Raises:
        ValueError: there is no brain.
    """
    inside = given[BRAIN] > 0
    if not inside.any():
        raise ValueError("There is no brain to draw tissue in.")
    found = inside.nonzero()
    box = tuple(slice(int(low), int(high) + 1) for low, high in zip(found.amin(0), found.amax(0), strict=True))
    part = given[(slice(None), *box)][None]
    size = part.shape[2:]
    padding = [value for side in reversed(size) for value in (0, -side % MULTIPLE)]
    part = F.pad(part, padding)
    # Drawn on the CPU, so that a seed gives the same map on every device.
    noise = torch.randn((1, len(network.spectrum), *part.shape[2:]), generator=generator).to(given)

    def estimate(x: torch.Tensor, step: Step) -> torch.Tensor:
        alpha, sigma = (torch.tensor([value], device=x.device) for value in (step.alpha, step.sigma))
        return network(x, alpha, sigma, part, guidance)[0]

    estimates = []

    def watched(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
        callback(index, x, z)
        estimates.append(z)

    z = sample_dpmpp_2m(estimate, noise, schedules.cosine().trailing(steps), watched)
    # The first estimate was made of noise alone: it is what is expected, as far as guidance goes.
    z = torch.lerp(estimates[0], z, temperature)
    mean, spread = network.expected(part)
    drawn = given.new_zeros(z.shape[1], *given.shape[1:])
    drawn[(slice(None), *box)] = (mean + spread * z)[0, :, : size[0], : size[1], : size[2]]
    return drawn * inside


def draw_tissue(
    network: TissueDenoiser,
    given: torch.Tensor,
    generator: torch.Generator,
    callback: Callback,
    guidance: float = 0.0,
) -> torch.Tensor:
    """A soft tissue map (…) for conditions (CONDITIONS, …), 0 outside the brain.

    Raises:
        ValueError: there is no brain.
    """
    drawn = draw(network, given, generator, callback, steps=STEPS, temperature=TEMPERATURE, guidance=guidance)
    return drawn[0].clamp(*RANGE)


def tissue_of_classes(
    network: TissueDenoiser, classes: np.ndarray, generator: torch.Generator, callback: Callback
) -> torch.Tensor:
    """A soft tissue map (⌈R/2⌉, ⌈A/2⌉, ⌈S/2⌉) for a class map at 1 mm (R, A, S); lesions are left out.

    Raises:
        ValueError: there is no brain.
    """
    device = network.signals.device
    even = np.pad(split_lesions(classes)[0], [(0, side % 2) for side in classes.shape])
    structures = torch.from_numpy(even).to(device)
    probabilities = torch.stack(
        [F.avg_pool3d((structures == index)[None].float(), 2)[0] for index in range(STRUCTURES)]
    )
    given = conditions(probabilities, shares_of(probabilities, GIVEN, 0.3), network.signals, GIVEN, 0.3)
    return draw_tissue(network, given, generator, callback)
