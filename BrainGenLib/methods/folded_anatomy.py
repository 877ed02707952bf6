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
from BrainGenLib.methods.exact_volumes import BRAIN, VENTRICLES, scale_for
from BrainGenLib.methods.shape_variation import random_displacement
from BrainGenLib.methods.ventricle_warp import VentricleWarp, moved
from BrainGenLib.spaces import GRID_1MM

STEPS = sum(len(level.noises) for level in (patch_diffusion.GUIDED, patch_diffusion.MIDDLE, patch_diffusion.FINE))
"""Reported to the callback of :func:`folded`."""


WARPS = 3
"""By which ventricles are brought to their volume, at most: one moves tissue by 6 mm, nearly always enough."""


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
    volumes: dict[str, float],
    generator: torch.Generator,
    callback: Callback,
    share: float = patch_diffusion.MAX_SHARE,
    age: float | None = None,
    device: str = "cpu",
) -> Folded:
    """Sample an anatomy with the sizes and places of a coarse one.

    Donors lie where the template has them, so a mosaic of them would be nearer to each than people are to each other:
    it is deformed at random, as people differ. Brain and ventricles are brought to their volumes by moving tissue:
    the whole is scaled, and ventricles grow or shrink within, as far as they can.

    Args:
        target: of :func:`coarse_target`.
        volumes: ``brain`` without fluid and lateral ``ventricles``, mL.
        callback: called before each of STEPS steps.
        share: of the brain where one donor may be used.
        age: years; donors near to it are used in more of the brain.
        device: that compares patches.
    """
    sampled = patch_diffusion.sample(
        people,
        generator,
        callback,
        guide=patch_diffusion.guide_to(target, people.levels),
        share=share,
        age=age,
        device=device,
    )
    image = None if sampled.image is None else np.where(sampled.classes > 0, sampled.image, np.float32(0))
    donor = (sampled.donor // 2).astype(np.int16)
    structures = donors.whole(sampled.classes, people.box)
    del sampled
    total = random_displacement(generator)
    # Ventricles take their room from the brain, so both together are scaled.
    deformed = topology.without_islands(displaced(structures, total))
    found = np.count_nonzero(np.isin(deformed, (*BRAIN, *VENTRICLES))) * GRID_1MM.spacing**3 / 1000
    scaled(total, scale_for(volumes["brain"], volumes["ventricles"], found))
    wanted = volumes["ventricles"]
    for _ in range(WARPS):
        # Without the islands that it will lose.
        warp = VentricleWarp(topology.without_islands(displaced(structures, total)), (structures, total))
        toward = warp.to(float(np.clip(wanted, warp.least, warp.most)))
        # The brain at p is the deformed one at p + toward, which is the sampled one further by the shape there.
        for axis, part in enumerate(total):
            total[axis] = toward[axis] + moved(part, toward, 1)
        if warp.least <= wanted <= warp.most:
            break
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


def scaled(displacement: np.ndarray, factor: float) -> None:
    """Let a displacement of GRID_1MM enlarge by a factor too, about the middle of the grid; in place."""
    for axis, (part, n) in enumerate(zip(displacement, GRID_1MM.shape, strict=True)):
        from_middle = np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)
        part /= factor
        part += (from_middle * np.float32(1 / factor - 1)).reshape([-1 if axis == a else 1 for a in range(3)])


def coarse_target(people: Donors, probabilities: torch.Tensor) -> torch.Tensor:
    """(C, X, Y, Z) shares of the channels at 4 mm, on the donors' part of the grid, of soft labels on GRID_2MM."""
    box = tuple(slice(part.start // 2, part.stop // 2) for part in people.box)
    inside = probabilities[(slice(None), *box)].float().cpu()
    shares = torch.stack([inside[list(members)].sum(0) for members in donors.groups()])
    return F.avg_pool3d(shares[None], 2)[0]
