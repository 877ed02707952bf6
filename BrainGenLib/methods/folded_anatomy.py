"""A generated anatomy at 1 mm: patch diffusion guided by a coarse label map, then tidied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from BrainGenLib import donors
from BrainGenLib.diffusion.samplers import Callback
from BrainGenLib.donors import Donors
from BrainGenLib.label_resampling import displaced
from BrainGenLib.methods import patch_diffusion, topology
from BrainGenLib.methods.shape_variation import random_displacement
from BrainGenLib.methods.ventricle_warp import VentricleWarp, moved

STEPS = sum(len(level.noises) for level in (patch_diffusion.GUIDED, patch_diffusion.MIDDLE, patch_diffusion.FINE))
"""Reported to the callback of :func:`folded`."""


@dataclass
class Folded:
    """What was sampled, on GRID_1MM.

    Attributes:
        structures: uint8 classes without lesions.
        image: float32, in the values of the donors' images, 0 outside the brain; None without scans.
        donor: int16, row of the nearest donor, -1 outside the brain.
    """

    structures: np.ndarray
    image: np.ndarray | None
    donor: np.ndarray


def folded(
    people: Donors,
    target: torch.Tensor,
    ventricles: float,
    generator: torch.Generator,
    callback: Callback,
    share: float = patch_diffusion.MAX_SHARE,
    device: str = "cpu",
) -> Folded:
    """Sample an anatomy with the sizes and places of a coarse one.

    Donors lie where the template has them, so a mosaic of them would be nearer to each than people are to each other:
    it is deformed at random, as people differ. Ventricles are brought to their volume by moving tissue, as far as it
    can be moved.

    Args:
        target: of :func:`coarse_target`.
        ventricles: volume of the lateral ventricles, mL.
        callback: called before each of STEPS steps.
        share: of the brain where one donor may be used.
        device: that compares patches.
    """
    sampled = patch_diffusion.sample(
        people,
        generator,
        callback,
        guide=patch_diffusion.guide_to(target, people.levels),
        start=target,
        share=share,
        device=device,
    )
    image = None if sampled.image is None else np.where(sampled.classes > 0, sampled.image, np.float32(0))
    donor = (sampled.donor // 2).astype(np.int16)
    structures = donors.whole(sampled.classes, people.box)
    del sampled
    total = random_displacement(generator)
    warp = VentricleWarp(displaced(structures, total))
    toward = warp.to(float(np.clip(ventricles, warp.least, warp.most)))
    # The brain at p is the deformed one at p + toward, which is the sampled one further by the shape there.
    for axis, part in enumerate(total):
        total[axis] = toward[axis] + moved(part, toward, 1)
    # Not before: nearest voxels of what moved are islands and handles anew.
    structures = topology.without_handles(topology.without_islands(displaced(structures, total)))
    inside = structures > 0
    corner = np.array([[side.start] for side in people.box])
    points = np.stack(np.nonzero(inside)) - corner + total[:, inside]

    def filled(volume: np.ndarray, order: int, background: float) -> np.ndarray:
        out = np.full(structures.shape, background, volume.dtype)
        found = ndimage.map_coordinates(volume, points, order=order, mode="nearest")
        # Cubic interpolation may overshoot.
        out[inside] = found.clip(volume.min(), volume.max())
        return out

    return Folded(structures, None if image is None else filled(image, 3, 0), filled(donor, 0, -1))


def coarse_target(people: Donors, probabilities: torch.Tensor) -> torch.Tensor:
    """(C, X, Y, Z) shares of the channels at 4 mm, on the donors' part of the grid, of soft labels on GRID_2MM."""
    box = tuple(slice(part.start // 2, part.stop // 2) for part in people.box)
    inside = probabilities[(slice(None), *box)].float().cpu()
    shares = torch.stack([inside[list(members)].sum(0) for members in donors.groups()])
    return F.avg_pool3d(shares[None], 2)[0]
