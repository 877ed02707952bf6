"""Lesions of a given brain made more or less: the label-exact way to a counterfactual (brainSPADE's renderer does the
rest).

Less of a lesion keeps its deepest voxels, and what is freed becomes the structure around it. More of it goes where
the label diffusion finds it likely, in this brain's own tissue, beside what is there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.diffusion.samplers import Callback
from BrainGenLib.lesions import PATHOLOGIES, split_lesions
from BrainGenLib.methods import brainspade3d
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.methods.lesion_loads import place_lesions
from BrainGenLib.spaces import GRID_1MM, GRID_2MM

GUIDANCE = 2.0


def with_loads(
    classes: np.ndarray,
    wanted: Mapping[str, float],
    model: brainspade3d.LabelModel,
    seed: int,
    progress: Callback,
) -> np.ndarray:
    """A class map with other loads.

    Args:
        classes: uint8 on GRID_1MM.
        wanted: pathology to mL; others stay as they are.
        model: says where lesions are likely; used only if one is to grow.
        seed: of the places.
        progress: receives each step of the label diffusion.
    """
    structures, lesions = split_lesions(classes)
    growing: dict[str, float] = {}
    for name, millilitres in wanted.items():
        number = PATHOLOGIES.index(name) + 1
        have = lesions == number
        count = round(millilitres * 1000 / GRID_1MM.spacing**3)
        if count <= have.sum():
            lesions[have & ~_deepest(have, count)] = 0
        else:
            growing[name] = millilitres - have.sum() * GRID_1MM.spacing**3 / 1000
    table = np.array([0, *(label.index for label in anatomy.lesions().values())], np.uint8)
    after = np.where(lesions > 0, table[lesions], structures).astype(np.uint8)
    if growing:
        _grow(after, growing, model, seed, progress)
    return after


def _deepest(mask: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` voxels of a mask that are furthest from its border."""
    out = np.zeros_like(mask)
    if count > 0:
        depth = np.where(mask, ndimage.distance_transform_edt(mask), 0)
        out.ravel()[np.argpartition(depth.ravel(), -count)[-count:]] = True
    return out & mask


def _grow(
    classes: np.ndarray,
    millilitres: Mapping[str, float],
    model: brainspade3d.LabelModel,
    seed: int,
    progress: Callback,
) -> None:
    everywhere = np.ones(GRID_2MM.shape, bool)
    volumes = {
        name: float(np.clip(value, *model.anatomy_range[name]))
        for name, value in volume_conditions(classes, GRID_1MM.spacing).items()
    }
    loads = {name: min(value / model.millilitres[name], 1.0) for name, value in millilitres.items()}
    logits = brainspade3d.draw_logits(
        model,
        loads,
        volumes,
        dict.fromkeys(PATHOLOGIES, everywhere),
        GUIDANCE,
        brainspade3d.STEPS,
        torch.Generator().manual_seed(seed),
        progress,
    )
    # Lesions that are there are no tissue to place another in.
    _, placed = place_lesions(
        logits.lesion[0].float().cpu().numpy(),
        classes[::2, ::2, ::2],
        dict(millilitres),
        dict.fromkeys(PATHOLOGIES, everywhere),
        np.random.default_rng(seed),
    )
    for name, where in placed.items():
        brainspade3d.refine_lesion(classes, name, where, round(millilitres[name] * 1000 / GRID_1MM.spacing**3))
