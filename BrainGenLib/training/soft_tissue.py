"""Recipe: diffusion of soft tissue maps given labels, the last stage of the label model.

Before the first step the mean, the spread and the power spectrum of the maps are measured, which makes the network a
Gaussian model of them; training adds what is not Gaussian. It learns on boxes of real scans, mirrored and deformed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from BrainGenLib import anatomy, bundles
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods.folds import FINE
from BrainGenLib.methods.soft_tissue import BLUR, TISSUE_CLASSES, conditions, draw_tissue, shares_of
from BrainGenLib.networks.soft_tissue import LEAST_SPREAD, TissueDenoiser
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import label_augmentation as augment
from BrainGenLib.training import shared_bundle
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.field_diffusion import fit_gaussian, loss_of, rate_at
from BrainGenLib.training.label_material import deformed
from BrainGenLib.training.run import Run, load_averaged, pick_device, size_for
from BrainGenLib.training.soft_tissue_material import Brain, brains

ARGS: dict[str, Any] = {"classes": STRUCTURES, "channels": (16, 32, 64)}
BOX = {"gpu": (64, 64, 64), "cpu": (40, 48, 40)}
BATCH = {"gpu": 16, "cpu": 2}
STEPS = {"gpu": 12_000, "cpu": 5000}
DECAY = {"gpu": 0.999, "cpu": 0.995}
RATE = 3e-3
SHARP = 0.5
"""Share of boxes from scans of 1 mm."""
DEFORMED = 0.3
MEASURED_BOXES = 30
HEADING = "## Soft tissue"
CARD = """
A diffusion model of soft tissue maps at 2 mm (fluid 0, grey ½, white matter 1), given labels blurred to
{fwhm:.0f} mm: it draws the folds and sulci that codes of 8 mm cells leave open, and what differs within a structure.
{parameters:.1f} M parameters, {steps} training steps on the T1w scans of the label model's cases.

**Limits.** Folds are plausible, not anatomical: named sulci are where the coarse map puts them, or nowhere. The map
comes from T1w scans: what only other contrasts show is not in it.
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
    box, batch, total = BOX[size], BATCH[size], steps or STEPS[size]
    data = Cache(cache)
    material, held_out = brains(data, "train"), brains(data, "test")
    network = TissueDenoiser(**ARGS)
    if not (out / "state.pt").is_file():
        measure(network, material)
    # A fifth faster on a CPU.
    network.to(where).unet.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.unet.parameters(), lr=RATE, weight_decay=1e-4)
    run = Run(
        out, {"network": network}, {"network": optimizer}, averaged=("network",), decay=DECAY[size], minutes=minutes
    )
    for step in run.steps(total):
        rng, generator = np.random.default_rng(step), torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, total, RATE)
        pairs = [box_of(material, network.signals, box, rng, generator) for _ in range(batch)]
        tissue, given = (torch.stack(part) for part in zip(*pairs, strict=True))
        loss = loss_of(network, tissue, given, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.update_averages()
        run.log(loss=loss.detach())
        if (step + 1) % 500 == 0:
            run.record(**validate(cast(TissueDenoiser, run.average("network")), held_out, material, run))
    if run.step:
        run.record(**validate(cast(TissueDenoiser, run.average("network")), held_out, material, run))


def box_of(
    material: list[Brain],
    signals: torch.Tensor,
    box: tuple[int, ...],
    rng: np.random.Generator,
    generator: torch.Generator,
    whole: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft tissue (1, box) and conditions (CONDITIONS, box) of a random place in a random brain.

    ``whole`` leaves the brain undeformed.
    """
    sharp = [brain for brain in material if brain.sharp]
    coarse = [brain for brain in material if not brain.sharp]
    chosen = sharp if sharp and (not coarse or rng.random() < SHARP) else coarse
    brain = chosen[rng.integers(len(chosen))]
    structures, tissue = brain.structures, brain.tissue
    if rng.random() < 0.5:
        structures = np.array(anatomy.mirrored_classes(), np.uint8)[structures[::-1]]
        tissue = tissue[::-1]
    device = signals.device
    # Blurring needs the surroundings.
    margin = round(2.5 * BLUR[1])
    start = [int(rng.integers(n - b + 1)) for n, b in zip(GRID_2MM.shape, box, strict=True)]
    classes = torch.from_numpy(np.ascontiguousarray(structures)).to(device)
    values = torch.from_numpy(np.ascontiguousarray(tissue)).to(device).float()
    points = augment.identity([b + 2 * margin for b in box], [c - margin for c in start]).to(device)
    bent = not whole and rng.random() < DEFORMED
    if bent:
        points = deformed(points, generator)
    soft = augment.warp_soft(classes, STRUCTURES, points)
    # Interpolation blurs: what was deformed is not sharp.
    sigma = float(rng.uniform(*BLUR))
    given = conditions(soft, shares_of(soft, sigma), signals, sigma, sharp=brain.sharp and not bent)
    centre = (slice(None), *(slice(margin, margin + b) for b in box))
    moved = augment.sample_field(values[None], points)
    return moved[centre], given[centre]


def measure(network: TissueDenoiser, material: list[Brain]) -> None:
    """Set the typical signals, the regression of mean and spread, the spectrum and the tissues' intensities."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    few = [material[i] for i in np.linspace(0, len(material) - 1, min(len(material), 40)).astype(int)]
    for index in range(1, STRUCTURES):
        values = np.concatenate([brain.tissue[brain.structures == index] for brain in few]).astype(np.float32)
        network.signals[index] = float(np.median(values)) if values.size else 0.5
    for row, classes in enumerate(TISSUE_CLASSES):
        found = [brain.tissue[np.isin(brain.structures, classes)] for brain in few]
        values = np.concatenate(found).astype(np.float32)
        if values.size:
            network.tissue_means[row], network.tissue_spreads[row] = float(np.median(values)), float(values.std())
    network.tissue_spreads.clamp_min_(LEAST_SPREAD)
    boxes = [box_of(material, network.signals, GRID_2MM.shape, rng, generator, True) for _ in range(MEASURED_BOXES)]
    fit_gaussian(network, boxes)


@torch.no_grad()
def validate(network: TissueDenoiser, held_out: list[Brain], material: list[Brain], run: Run) -> dict[str, float]:
    """Maps of two held-out brains drawn from their blurred labels, beside the real ones.

    ``texture`` is the ratio of mean absolute differences between neighbours (drawn to real), ``nearest`` the highest
    correlation of a drawn map's fine part with that of a training case, ``between`` that of the real one with it.
    """
    device = network.signals.device
    ratios, drawn_near, real_near, pictures = [], [], [], []
    for brain in sorted(held_out, key=lambda brain: not brain.sharp)[:2]:
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(brain.structures).long(), STRUCTURES)
        soft = one_hot.movedim(-1, 0).float().to(device)
        given = conditions(soft, shares_of(soft, FINE), network.signals, FINE, sharp=brain.sharp)
        drawn = draw_tissue(network, given, torch.Generator().manual_seed(0), nothing).cpu().numpy()
        real = brain.tissue.astype(np.float32)
        inside = brain.structures > 0
        rough = [np.abs(np.diff(part, axis=0))[inside[1:] & inside[:-1]].mean() for part in (drawn, real)]
        ratios.append(rough[0] / rough[1])
        expected = network.expected(given[None])[0][0, 0].cpu().numpy()
        others = [other.tissue.astype(np.float32) for other in material]
        drawn_near.append(max(np.corrcoef((drawn - expected)[inside], (o - expected)[inside])[0, 1] for o in others))
        real_near.append(max(np.corrcoef((real - expected)[inside], (o - expected)[inside])[0, 1] for o in others))
        pictures.append(np.concatenate([slices(part) for part in (real, drawn, expected)], 1))
    run.picture("tissue", np.concatenate(pictures) / 1.2)
    return {
        "texture": float(np.mean(ratios)),
        "nearest": float(np.mean(drawn_near)),
        "between": float(np.mean(real_near)),
    }


def slices(tissue: np.ndarray) -> np.ndarray:
    """An axial and a coronal slice side by side."""
    views = [tissue[:, :, int(tissue.shape[2] * 0.6)], tissue[:, tissue.shape[1] // 2, :]]
    flat = [view.T[::-1] for view in views]
    height = max(view.shape[0] for view in flat)
    return np.concatenate([np.pad(view, ((0, height - view.shape[0]), (0, 0))) for view in flat], 1)


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the averaged network of a run into the bundle; all else in it stays.

    Raises:
        FileNotFoundError: the run has no checkpoint yet.
    """
    network = load_averaged(TissueDenoiser(**ARGS), run)
    steps = torch.load(run / "state.pt", map_location="cpu", weights_only=True)["step"]
    metadata = shared_bundle.metadata_of(bundle_folder)
    metadata.networks["soft_tissue"] = bundles.Network(
        target="BrainGenLib.networks.soft_tissue.TissueDenoiser", args=json.loads(json.dumps(ARGS))
    )
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    section = CARD.format(fwhm=2.355 * FINE * GRID_2MM.spacing, parameters=parameters, steps=steps)
    return shared_bundle.save(bundle_folder, metadata, {"soft_tissue": network}, f"{HEADING}\n{section}")
