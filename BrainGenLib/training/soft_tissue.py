"""Recipe: diffusion of soft tissue maps given labels, the last stage of the label model.

Before the first step the mean, the spread and the power spectrum of the maps are measured, which makes the network a
Gaussian model of them; training adds what is not Gaussian. It learns on boxes of real scans, mirrored and deformed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from BrainGenLib import anatomy, bundles
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods.soft_tissue import BLUR, TEMPERATURE, TISSUE_CLASSES, conditions, draw_tissue, shares_of
from BrainGenLib.networks.soft_tissue import BRAIN, LEAST_SPREAD, TissueDenoiser
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import label_augmentation as augment
from BrainGenLib.training import shared_bundle
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.field_diffusion import Preset, fit_gaussian, likeness, mean_of, slices, some, train_field
from BrainGenLib.training.label_material import deformed
from BrainGenLib.training.run import Run, arguments_of, begun_with, load_averaged, pick_device, size_for
from BrainGenLib.training.soft_tissue_material import Brain, brains

ARGS: dict[str, dict[str, Any]] = {
    "gpu": {"classes": STRUCTURES, "channels": (24, 48, 64)},
    "cpu": {"classes": STRUCTURES, "channels": (16, 32, 64)},
}
BOX = {"gpu": (64, 64, 64), "cpu": (40, 48, 40)}
PRESETS = {
    "gpu": Preset(batch=16, steps=12_000, decay=0.999, check_every=1000),
    "cpu": Preset(batch=2, steps=5000, decay=0.995, check_every=500),
}
SHARP = 0.5
"""Share of boxes from scans of 1 mm."""
DEFORMED = 0.3
MEASURED_BOXES = 30
FINE = 1.0
"""Blur (2 mm voxels) of the labels that a map is drawn for, when it is judged."""
HEADING = "## Soft tissue"
CARD = """
A diffusion model of soft tissue maps at 2 mm (fluid 0, grey ½, white matter 1), given labels whose cerebral tissue is
blurred to {fwhm:.0f} mm: it adds sulci, and what differs within a structure. Of what a
draw holds beyond the expected map, {temperature} is kept.
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
    data = Cache(cache)
    material, held_out = brains(data, "train"), brains(data, "test")
    network = TissueDenoiser(**begun_with(out, ARGS[size])).to(where)
    if not (out / "state.pt").is_file():
        measure(network, material)
    train_field(
        network,
        lambda rng, generator: box_of(material, network.signals, BOX[size], rng, generator),
        lambda average, run: validate(cast(TissueDenoiser, average), held_out, material, run),
        out,
        PRESETS[size],
        where=where,
        minutes=minutes,
        steps=steps,
    )


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
    device = signals.device
    classes, values = torch.from_numpy(brain.structures).to(device), torch.from_numpy(brain.tissue).to(device).float()
    if rng.random() < 0.5:
        swap = torch.tensor(anatomy.mirrored_classes(), dtype=torch.uint8, device=device)
        classes, values = swap[classes.flip(0).long()], values.flip(0)
    # Blurring needs the surroundings.
    margin = round(2.5 * BLUR[1])
    start = [int(rng.integers(n - b + 1)) for n, b in zip(GRID_2MM.shape, box, strict=True)]
    points = augment.identity([b + 2 * margin for b in box], [c - margin for c in start], device)
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
    few = some(material, 40)
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
    """:func:`likeness` of maps that are drawn for two held-out brains from their blurred labels, and a picture."""
    device = network.signals.device
    found, pictures = [], []
    for brain in sorted(held_out, key=lambda brain: not brain.sharp)[:2]:
        classes = torch.from_numpy(brain.structures).to(device)
        soft = torch.stack([classes == index for index in range(STRUCTURES)]).float()
        given = conditions(soft, shares_of(soft, FINE), network.signals, FINE, sharp=brain.sharp)
        drawn = draw_tissue(network, given, torch.Generator().manual_seed(0), nothing)
        real = torch.from_numpy(brain.tissue).to(device).float()
        cases = (torch.from_numpy(case.tissue).to(device).float()[None] for case in material)
        expected = network.expected(given[None])[0][0, 0]
        found.append(likeness(drawn[None], real[None], expected[None], given[BRAIN] > 0, cases))
        pictures.append(np.concatenate([slices(view) for view in (real, drawn, expected)], 1))
    run.picture("tissue", np.concatenate(pictures) / 1.2)
    return mean_of(found)


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the averaged network of a run into the bundle; all else in it stays.

    Raises:
        FileNotFoundError: the run has no checkpoint yet.
    """
    args = arguments_of(run)
    network = load_averaged(TissueDenoiser(**args), run)
    steps = torch.load(run / "state.pt", map_location="cpu", weights_only=True)["step"]
    metadata = shared_bundle.metadata_of(bundle_folder)
    metadata.networks["soft_tissue"] = bundles.Network(
        target="BrainGenLib.networks.soft_tissue.TissueDenoiser", args=args
    )
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    section = CARD.format(
        fwhm=2.355 * FINE * GRID_2MM.spacing, parameters=parameters, steps=steps, temperature=TEMPERATURE
    )
    return shared_bundle.save(bundle_folder, metadata, {"soft_tissue": network}, f"{HEADING}\n{section}")
