"""Folds of the cortex: the tissues of a coarse label map drawn anew at 2 mm, given their blurred shares.

Deep structures, ventricles, cerebellum and the outline stay as they are; the sides too.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from BrainGenLib import anatomy
from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.samplers import Callback, sample_dpmpp_2m
from BrainGenLib.diffusion.schedules import Step
from BrainGenLib.methods.label_cleaning import IMPOSSIBLE
from BrainGenLib.networks.label_folding import MULTIPLE, TISSUES, FoldDenoiser

BLUR = (1.0, 2.5)
"""Smallest and largest standard deviation (2 mm voxels) of the blur in training."""
STEPS = 8
SIGMA = 1.75
"""Blur that folds are drawn for: finer detail of a decoded code is not to be trusted."""
DECODED_BLUR = 1.4
"""The part of that blur which decoded probabilities have of their own, being uncertain."""
SPECK = 8
"""Pieces of tissue of fewer voxels go to what surrounds them."""
DESPECKLE = 0.5
"""Blur of drawn maps (2 mm voxels): sheets of one voxel stay, as cortex and sulci are; stray voxels go."""
TISSUE_CLASSES = (
    anatomy.classes_of(name="extraventricular CSF"),
    anatomy.classes_of(name="cerebral cortex"),
    anatomy.classes_of(name="cerebral white matter"),
)


def shares_of(probabilities: torch.Tensor) -> torch.Tensor:
    """Shares (TISSUES + 2, …) of the tissues, of the rest of the brain and of background, of a soft map (S, …)."""
    tissues = torch.stack([probabilities[list(classes)].sum(0) for classes in TISSUE_CLASSES])
    background = probabilities[:1]
    rest = (1 - tissues.sum(0, keepdim=True) - background).clamp_min(0)
    return torch.cat([tissues, rest, background])


def settled(shares: torch.Tensor) -> torch.Tensor:
    """Shares (TISSUES + 2, …) in which every voxel is tissue, rest or background as a whole."""
    kind = torch.stack([shares[:TISSUES].sum(0), *shares[TISSUES:]]).argmax(0)
    tissues = torch.where(kind == 0, shares[:TISSUES] / shares[:TISSUES].sum(0).clamp_min(1e-6), 0.0)
    return torch.cat([tissues, torch.stack([kind == 1, kind == 2]).to(shares)])


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


def given_of(shares: torch.Tensor, sigma: float, already: float = 0.0) -> torch.Tensor:
    """The network's conditions (TISSUES + KNOWN, …): blurred tissues, what is known sharply, level of the blur.

    ``already`` is the blur that ``shares`` have.
    """
    level = torch.full_like(shares[:1], (sigma - sum(BLUR) / 2) / (BLUR[1] - BLUR[0]))
    return torch.cat([2 * blurred(shares[:TISSUES], math.sqrt(sigma**2 - already**2)) - 1, shares[TISSUES:], level])


@torch.inference_mode()
def draw_tissues(
    network: FoldDenoiser, shares: torch.Tensor, already: float, generator: torch.Generator, callback: Callback
) -> torch.Tensor:
    """Tissue shares (TISSUES, …) drawn for settled ``shares`` (TISSUES + 2, …), 0 where there are none.

    Args:
        already: blur that the shares have, voxels.
    """
    region = shares[:TISSUES].sum(0) > 0
    box = tuple(
        slice(int(low) // MULTIPLE * MULTIPLE, -(-(int(high) + 1) // MULTIPLE) * MULTIPLE)
        for low, high in zip(region.nonzero().min(0).values, region.nonzero().max(0).values, strict=True)
    )
    given = given_of(shares, SIGMA, already)[(slice(None), *box)][None]
    inside = region[box].to(given.dtype)
    noise = torch.randn((1, TISSUES, *inside.shape), generator=generator).to(given)

    def estimate(x: torch.Tensor, step: Step) -> torch.Tensor:
        time, alpha, sigma = (torch.tensor([value], device=x.device) for value in step)
        return 2 * network(x * inside, time, alpha, sigma, given).softmax(1) - 1

    z = sample_dpmpp_2m(estimate, noise, schedules.cosine().trailing(STEPS), callback)[0]
    drawn = torch.zeros_like(shares[:TISSUES])
    drawn[(slice(None), *box)] = ((z + 1) / 2).clamp(0, 1) * inside
    return drawn


def specks(shares: torch.Tensor) -> torch.Tensor:
    """Where (TISSUES, …) a tissue wins in a piece of fewer than SPECK voxels."""
    winner = np.where(shares.sum(0).cpu().numpy() > 0, shares.argmax(0).cpu().numpy(), -1)
    found = []
    for tissue in range(TISSUES):
        pieces, _ = ndimage.label(winner == tissue)
        small = np.bincount(pieces.ravel()) < SPECK
        small[0] = False
        found.append(small[pieces])
    return torch.from_numpy(np.stack(found)).to(shares.device)


def fold(
    network: FoldDenoiser, log_anatomy: torch.Tensor, generator: torch.Generator, callback: Callback
) -> torch.Tensor:
    """Log-scores of the structures (S, 2 mm grid) with tissues drawn by the network; the largest score wins.

    Args:
        log_anatomy: log-probabilities (S, …) on the network's device.
        callback: of the sampler.
    """
    shares = settled(shares_of(log_anatomy.softmax(0)))
    inside = shares[:TISSUES].sum(0) > 0
    drawn = blurred(draw_tissues(network, shares, DECODED_BLUR, generator, callback), DESPECKLE) * inside
    drawn = drawn * ~specks(drawn)
    # The best of the tissues gets what all had together, so that no other structure wins where tissue was.
    total = log_anatomy[[index for classes in TISSUE_CLASSES for index in classes]].logsumexp(0)
    scores = total + (drawn / drawn.amax(0).clamp_min(1e-6)).clamp_min(1e-3).log()
    out = log_anatomy.clone()
    left, right = (log_anatomy[_tissues_of(side)].logsumexp(0) for side in ("left", "right"))
    behind = {"left": left < right, "right": left >= right}
    for score, classes in zip(scores, TISSUE_CLASSES, strict=True):
        for index in classes:
            side = anatomy.labels()[index].side
            own = score.masked_fill(behind[side], IMPOSSIBLE) if side else score
            out[index] = torch.where(inside, own, log_anatomy[index])
    return out


def _tissues_of(side: str) -> list[int]:
    """Class indices of the tissues of one side."""
    return [index for classes in TISSUE_CLASSES for index in classes if anatomy.labels()[index].side == side]
