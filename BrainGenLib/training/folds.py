"""Recipe: diffusion of cortical folding at 4 mm given coarse labels, the middle stage of the label model.

It learns on whole brains, mirrored and deformed. As the soft tissue does, it starts as a Gaussian model.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from BrainGenLib import anatomy, bundles
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods.folds import BLUR, DECODED, GUIDANCE, STEPS, conditions, halved, tissue
from BrainGenLib.methods.soft_tissue import draw, shares_of
from BrainGenLib.networks.soft_tissue import BRAIN, MULTIPLE, FoldDenoiser
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import label_augmentation as augment
from BrainGenLib.training import shared_bundle
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.field_diffusion import (
    Pair,
    Preset,
    fit_gaussian,
    likeness,
    mean_of,
    slices,
    some,
    train_field,
)
from BrainGenLib.training.label_material import deformed
from BrainGenLib.training.run import Run, arguments_of, begun_with, load_averaged, pick_device, size_for
from BrainGenLib.training.soft_tissue_material import brains
from BrainGenLib.training.tissues import typical_values

GRID = tuple(side // 2 for side in GRID_2MM.shape)
ARGS: dict[str, dict[str, Any]] = {
    "gpu": {"classes": STRUCTURES, "grid": GRID, "channels": (32, 48, 64)},
    "cpu": {"classes": STRUCTURES, "grid": GRID, "channels": (16, 32, 64)},
}
PRESETS = {
    "gpu": Preset(batch=16, steps=12_000, decay=0.999, check_every=1000),
    "cpu": Preset(batch=2, steps=2500, decay=0.99, check_every=500),
}
DEFORMED = 0.5
MEASURED = 40
HEADING = "## Folds"
CARD = """
A diffusion model of the shares of fluid, cortex and white matter at 4 mm, given an anatomy whose cerebral tissue is
blurred to {fwhm:.0f} mm, and the average of the training brains in template space: it says where gyri and sulci are,
of which a generated code knows nothing. {parameters:.1f} M parameters, {steps} training steps on the label maps of
the brains that also teach soft tissue.

Labels of 2 mm scans hold hardly any fluid inside of sulci: generated anatomies get the conditions of brains scanned
at 1 mm.

**Limits.** Main sulci lie where they do on average; all others are plausible, not anatomical.
"""


def train(
    cache: Path,
    out: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
) -> None:
    """Train in ``out`` (resumed if it exists) until ``steps`` or ``minutes``."""
    where = pick_device(device)
    size = size_for(where)
    data = Cache(cache)
    found = brains(data, "train")
    parts = (found, brains(data, "test"))
    material, held_out = ([coarse(brain.structures, where) for brain in part] for part in parts)
    network = FoldDenoiser(**begun_with(out, ARGS[size])).to(where)
    if not (out / "state.pt").is_file():
        measure(network, material, [brain.sharp for brain in found])
    box = around(material)
    train_field(
        network,
        lambda rng, generator: pair_of(network, material[rng.integers(len(material))], box, rng, generator),
        lambda average, run: validate(cast(FoldDenoiser, average), held_out, material, run),
        out,
        PRESETS[size],
        where=where,
        minutes=minutes,
        steps=steps,
    )


def coarse(structures: np.ndarray, device: torch.device | None = None) -> torch.Tensor:
    """Soft labels at 4 mm of labels at 2 mm, uint8 with 255 for 1."""
    classes = torch.from_numpy(np.ascontiguousarray(structures)).to(device=device)
    maps = torch.stack([halved((classes == index)[None].float())[0] for index in range(STRUCTURES)])
    return (255 * maps).round().byte()


def around(material: list[torch.Tensor]) -> tuple[slice, ...]:
    """The box that holds all brains (STRUCTURES, …) and their mirror images, its sides multiples of MULTIPLE."""
    inside = torch.zeros(GRID, dtype=torch.bool, device=material[0].device)
    for brain in material:
        inside |= brain[1:].amax(0) > 0
    found = (inside | inside.flip(0)).nonzero()
    box = []
    for low, high, side in zip(found.amin(0).tolist(), found.amax(0).tolist(), GRID, strict=True):
        size = min(-(-(high + 1 - low) // MULTIPLE) * MULTIPLE, side)
        start = min(max((low + high + 1 - size) // 2, 0), side - size)
        box.append(slice(start, start + size))
    return tuple(box)


def pair_of(
    network: FoldDenoiser,
    brain: torch.Tensor,
    box: tuple[slice, ...],
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Pair:
    """Shares of fluid and white matter and conditions in a box of a brain, mirrored and deformed at random."""
    soft = brain.float() / 255
    if rng.random() < 0.5:
        soft = mirrored(soft)
    if rng.random() < DEFORMED:
        points = deformed(augment.identity(GRID, device=soft.device) * 2 + 0.5, generator)
        soft = augment.sample_field(soft, points)
    shares, given = shares_and_conditions(network, soft, float(rng.uniform(*BLUR)))
    return shares[(slice(None), *box)], given[(slice(None), *box)]


def shares_and_conditions(network: FoldDenoiser, soft: torch.Tensor, sigma: float) -> Pair:
    """Shares to be sampled of soft labels (STRUCTURES, …), and those given, with a blur of ``sigma``."""
    given = conditions(network, soft, sigma)
    return shares_of(soft, 0)[[0, 2]] * given[BRAIN], given


def mirrored(soft: torch.Tensor) -> torch.Tensor:
    """Soft labels of the mirror image."""
    return soft[list(anatomy.mirrored_classes())[:STRUCTURES]].flip(1)


def measure(network: FoldDenoiser, material: list[torch.Tensor], sharp: list[bool]) -> None:
    """Set the average brain, what brains of 1 mm (``sharp``) are told with, what tells structures apart, and the
    Gaussian model."""
    # Structures differ by their tissue; what else they differ in does not bear on folds.
    network.signals.copy_(torch.from_numpy(typical_values()[:STRUCTURES]))
    network.average.copy_(mean_shares(material, 0))
    network.told.copy_(mean_shares(list(itertools.compress(material, sharp)), DECODED))
    rng = np.random.default_rng(0)
    pairs = [
        shares_and_conditions(network, brain.float() / 255, float(rng.uniform(*BLUR)))
        for brain in some(material, MEASURED)
    ]
    fit_gaussian(network, pairs)


def mean_shares(material: list[torch.Tensor], sigma: float) -> torch.Tensor:
    """Mean shares of fluid and white matter (2, …) of brains and their mirror images, blurred by ``sigma`` voxels."""
    total, weight = torch.zeros(2, *GRID), torch.zeros(GRID)
    for brain in material:
        soft = brain.float() / 255
        for side in (soft, mirrored(soft)):
            inside = tissue(side)
            total += (shares_of(side, sigma)[[0, 2]] * inside).cpu()
            weight += inside.cpu()
    return total / weight.clamp_min(1)


@torch.no_grad()
def validate(
    network: FoldDenoiser, held_out: list[torch.Tensor], material: list[torch.Tensor], run: Run
) -> dict[str, float]:
    """:func:`likeness` of shares that are drawn for two held-out brains from their blurred labels, and a picture."""
    device = network.signals.device
    found, pictures = [], []
    for brain in held_out[:2]:
        shares, given = shares_and_conditions(network, brain.to(device).float() / 255, DECODED)
        drawn = draw(network, given, torch.Generator().manual_seed(0), nothing, steps=STEPS, guidance=GUIDANCE)
        expected, inside = network.expected(given[None])[0][0], given[BRAIN] > 0
        cases = (shares_of(case.to(device).float() / 255, 0)[[0, 2]] for case in material)
        found.append(likeness(drawn, shares, expected, inside, cases))
        maps = [(1 - part[0] + part[1]) / 2 * inside for part in (shares, drawn, expected)]
        pictures.append(np.concatenate([slices(part) for part in maps], 1))
    run.picture("folds", np.concatenate(pictures).repeat(2, 0).repeat(2, 1))
    return mean_of(found)


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the averaged network of a run into the bundle; all else in it stays.

    Raises:
        FileNotFoundError: the run has no checkpoint yet.
    """
    args = arguments_of(run)
    network = load_averaged(FoldDenoiser(**args), run)
    steps = torch.load(run / "state.pt", map_location="cpu", weights_only=True)["step"]
    metadata = shared_bundle.metadata_of(bundle_folder)
    metadata.networks["folds"] = bundles.Network(target="BrainGenLib.networks.soft_tissue.FoldDenoiser", args=args)
    section = CARD.format(
        fwhm=2.355 * DECODED * 2 * GRID_2MM.spacing,
        parameters=sum(p.numel() for p in network.parameters()) / 1e6,
        steps=steps,
    )
    return shared_bundle.save(bundle_folder, metadata, {"folds": network}, f"{HEADING}\n{section}")
