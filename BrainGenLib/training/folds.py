"""Recipe: diffusion of cortical folding at 4 mm given coarse labels, the middle stage of the label model.

It learns on whole brains, mirrored and deformed. As the soft tissue does, it starts as a Gaussian model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional as F

from BrainGenLib import anatomy, bundles
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods.folds import BLUR, DECODED, DRAWN, conditions, halved
from BrainGenLib.methods.soft_tissue import draw, others, shares_of
from BrainGenLib.networks.soft_tissue import BRAIN, FoldDenoiser
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import label_augmentation as augment
from BrainGenLib.training import shared_bundle
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.field_diffusion import Pair, fit_gaussian, loss_of, rate_at
from BrainGenLib.training.label_material import deformed
from BrainGenLib.training.run import Run, load_averaged, pick_device, size_for
from BrainGenLib.training.soft_tissue import slices
from BrainGenLib.training.soft_tissue_material import brains

GRID = tuple(side // 2 for side in GRID_2MM.shape)
ARGS: dict[str, Any] = {"classes": STRUCTURES, "grid": GRID, "channels": (16, 32, 64)}
BATCH = {"gpu": 16, "cpu": 2}
STEPS = {"gpu": 12_000, "cpu": 2500}
DECAY = {"gpu": 0.999, "cpu": 0.99}
RATE = 3e-3
DEFORMED = 0.5
MEASURED = 40
HEADING = "## Folds"
CARD = """
A diffusion model of the shares of fluid, cortex and white matter at 4 mm, given an anatomy whose cerebral tissue is
blurred to {fwhm:.0f} mm, and the average of the training brains in template space: it says where gyri and sulci are,
of which a generated code knows nothing. {parameters:.1f} M parameters, {steps} training steps on the label maps of
the {brains} brains that also teach soft tissue.

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
    batch, total = BATCH[size], steps or STEPS[size]
    material, held_out = (coarse_brains(Cache(cache), split) for split in ("train", "test"))
    network = FoldDenoiser(**ARGS)
    if not (out / "state.pt").is_file():
        measure(network, material)
    # A fifth faster on a CPU.
    network.to(where).unet.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.unet.parameters(), lr=RATE, weight_decay=1e-4)
    run = Run(
        out, {"network": network}, {"network": optimizer}, averaged=("network",), decay=DECAY[size], minutes=minutes
    )
    (out / "brains.json").write_text(json.dumps(len(material)))
    for step in run.steps(total):
        rng, generator = np.random.default_rng(step), torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, total, RATE)
        pairs = [pair_of(network, material[rng.integers(len(material))], rng, generator) for _ in range(batch)]
        shares, given = (torch.stack(part) for part in zip(*pairs, strict=True))
        loss = loss_of(network, shares, given, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.update_averages()
        run.log(loss=loss.detach())
        if (step + 1) % 500 == 0:
            run.record(**validate(cast(FoldDenoiser, run.average("network")), held_out, material, run))
    if run.step:
        run.record(**validate(cast(FoldDenoiser, run.average("network")), held_out, material, run))


def coarse_brains(cache: Cache, split: str) -> list[torch.Tensor]:
    """Soft labels (STRUCTURES, 4 mm grid) of a split, uint8 with 255 for 1.

    Raises:
        ValueError: there is none.
    """
    return [coarse(brain.structures) for brain in brains(cache, split)]


def coarse(structures: np.ndarray) -> torch.Tensor:
    """Soft labels at 4 mm of labels at 2 mm, uint8 with 255 for 1."""
    classes = torch.from_numpy(np.ascontiguousarray(structures))
    maps = torch.stack([halved((classes == index)[None].float())[0] for index in range(STRUCTURES)])
    return (255 * maps).round().byte()


def pair_of(network: FoldDenoiser, brain: torch.Tensor, rng: np.random.Generator, generator: torch.Generator) -> Pair:
    """Shares of fluid and white matter and conditions of a brain, mirrored and deformed at random."""
    soft = brain.to(network.signals.device).float() / 255
    if rng.random() < 0.5:
        soft = mirrored(soft)
    if rng.random() < DEFORMED:
        points = deformed(augment.identity(GRID).to(soft.device) * 2 + 0.5, generator)
        soft = augment.sample_field(soft, points)
    return shares_and_conditions(network, soft, float(rng.uniform(*BLUR)))


def shares_and_conditions(network: FoldDenoiser, soft: torch.Tensor, sigma: float) -> Pair:
    """What is drawn of soft labels (STRUCTURES, …) and what is told of them with a blur of ``sigma``."""
    given = conditions(network, soft, sigma)
    return shares_of(soft, DRAWN)[[0, 2]] * given[BRAIN], given


def mirrored(soft: torch.Tensor) -> torch.Tensor:
    """Soft labels of the mirror image."""
    return soft[list(anatomy.mirrored_classes())[:STRUCTURES]].flip(1)


def measure(network: FoldDenoiser, material: list[torch.Tensor]) -> None:
    """Set the average brain, what tells structures apart, and the Gaussian model."""
    # Structures are told apart by their tissue; what else they differ in does not bear on folds.
    for label in anatomy.labels()[1:STRUCTURES]:
        network.signals[label.index] = {"csf": 0.0, "gm": 0.5, "deep_gm": 0.7}.get(label.tissue, 1.0)
    total, weight = torch.zeros_like(network.average), torch.zeros(GRID)
    for brain in material:
        soft = brain.float() / 255
        for side in (soft, mirrored(soft)):
            tissue = (side.argmax(0) > 0) & ~others(side)
            total += shares_of(side, DRAWN)[[0, 2]] * tissue
            weight += tissue
    network.average.copy_(total / weight.clamp_min(1))
    rng = np.random.default_rng(0)
    chosen = [material[i] for i in np.linspace(0, len(material) - 1, min(len(material), MEASURED)).astype(int)]
    fit_gaussian(
        network,
        [shares_and_conditions(network, brain.float() / 255, float(rng.uniform(*BLUR))) for brain in chosen],
    )


@torch.no_grad()
def validate(
    network: FoldDenoiser, held_out: list[torch.Tensor], material: list[torch.Tensor], run: Run
) -> dict[str, float]:
    """Shares of two held-out brains drawn from their blurred labels, beside the real ones.

    ``texture`` is the ratio of mean absolute differences between neighbours (drawn to real), ``nearest`` the highest
    correlation of what was drawn beyond the expectation with that of a training case, ``between`` that of the real.
    """
    device = network.signals.device
    ratios, pictures = [], []
    near: dict[str, list[float]] = {"nearest": [], "between": []}
    for brain in held_out[:2]:
        shares, given = shares_and_conditions(network, brain.to(device).float() / 255, DECODED)
        drawn = draw(network, given, torch.Generator().manual_seed(0), nothing)
        inside = given[BRAIN] > 0
        rough = [part.diff(dim=1).abs()[:, inside[1:] & inside[:-1]].mean() for part in (drawn, shares)]
        ratios.append(float(rough[0] / rough[1]))
        expected = network.expected(given[None])[0][0]
        cases = [shares_of(case.to(device).float() / 255, DRAWN)[[0, 2]] for case in material]
        for name, part in (("nearest", drawn), ("between", shares)):
            own = [(field - expected)[:, inside].flatten() for field in (part, *cases)]
            near[name].append(float(torch.corrcoef(torch.stack(own))[0, 1:].max()))
        maps = [(1 - part[0] + part[1]) / 2 * inside for part in (shares, drawn, expected)]
        pictures.append(np.concatenate([slices(part.cpu().numpy()) for part in maps], 1))
    picture = torch.from_numpy(np.concatenate(pictures))[None, None]
    run.picture("folds", F.interpolate(picture, scale_factor=2.0, mode="nearest")[0, 0].numpy())
    return {"texture": float(np.mean(ratios))} | {name: float(np.mean(found)) for name, found in near.items()}


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the averaged network of a run into the bundle; all else in it stays.

    Raises:
        FileNotFoundError: the run has no checkpoint yet.
    """
    network = load_averaged(FoldDenoiser(**ARGS), run)
    steps = torch.load(run / "state.pt", map_location="cpu", weights_only=True)["step"]
    metadata = shared_bundle.metadata_of(bundle_folder)
    metadata.networks["folds"] = bundles.Network(
        target="BrainGenLib.networks.soft_tissue.FoldDenoiser", args=json.loads(json.dumps(ARGS))
    )
    section = CARD.format(
        fwhm=2.355 * DECODED * 2 * GRID_2MM.spacing,
        parameters=sum(p.numel() for p in network.parameters()) / 1e6,
        steps=steps,
        brains=json.loads((run / "brains.json").read_text()),
    )
    return shared_bundle.save(bundle_folder, metadata, {"folds": network}, f"{HEADING}\n{section}")
