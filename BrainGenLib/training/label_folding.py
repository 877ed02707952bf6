"""Recipe: diffusion of cortical tissues given their blurred shares, the last stage of the label model.

Learns on boxes of real label maps, deformed and mirrored, with the cross-entropy of the tissues at random noise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from BrainGenLib import bundles
from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.methods.label_folding import BLUR, SIGMA, TISSUE_CLASSES, draw_tissues, given_of, settled
from BrainGenLib.networks.label_folding import TISSUES, FoldDenoiser
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import label_augmentation as augment
from BrainGenLib.training import shared_bundle
from BrainGenLib.training.label_material import LabelMaterial, deformed
from BrainGenLib.training.run import Run, autocast, load_averaged, pick_device, size_for

ARGS: dict[str, Any] = {"channels": (32, 48, 64)}
BOX = {"gpu": (64, 64, 64), "cpu": (40, 48, 40)}
BATCH = {"gpu": 16, "cpu": 2}
STEPS = {"gpu": 12_000, "cpu": 3000}
DECAY = {"gpu": 0.999, "cpu": 0.99}
RATE = 1e-3
HEADING = "## Label folding"
CARD = """
A diffusion model of cerebral cortex, white matter and the fluid around them at 2 mm, given their shares blurred to
{fwhm:.0f} mm: the last stage of the label model, which draws the folds that codes of 8 mm cells leave open.
{parameters:.1f} M parameters, {steps} training steps on the label maps of the label model.

**Limits.** Folds are plausible, not anatomical: named sulci are where the coarse map puts them, or nowhere.
"""
# Of a class map: fluid, cortex, white matter, the rest of the brain, background.
GROUPS = np.array(
    [next((i for i, classes in enumerate(TISSUE_CLASSES) if index in classes), TISSUES) for index in range(256)],
    np.uint8,
)
GROUPS[0] = TISSUES + 1


def random_box(box: tuple[int, ...], generator: torch.Generator) -> list[int]:
    """First voxel of a training box."""
    return [
        int(torch.randint(0, n - b + 1, (), generator=generator)) for n, b in zip(GRID_2MM.shape, box, strict=True)
    ]


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
    material, held_out = LabelMaterial(cache), LabelMaterial(cache, split="test")
    network = FoldDenoiser(**ARGS).to(where)
    schedule = schedules.cosine()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-4)
    run = Run(
        out, {"network": network}, {"network": optimizer}, averaged=("network",), decay=DECAY[size], minutes=minutes
    )
    for step in run.steps(total):
        rng, generator = np.random.default_rng(step), torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50, 1.02 - step / total)
        pairs = [box_of(material, box, rng, generator, where) for _ in range(batch)]
        z, given = (torch.stack(part) for part in zip(*pairs, strict=True))
        shares = (z + 1) / 2
        inside = (shares.amax(1, keepdim=True) > 0).float()
        times = torch.randint(len(schedule), (batch,), generator=generator).to(where)
        noise = torch.randn(z.shape, generator=generator).to(where)
        x = schedule.noised(z, noise, times) * inside
        with autocast(where):
            logits = network(x, times, schedule.alpha.to(where)[times], schedule.sigma.to(where)[times], given)
        entropy = -(shares * logits.float().log_softmax(1)).sum(1)
        loss = entropy.sum() / inside.sum().clamp_min(1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.update_averages()
        run.log(loss=loss.detach())
        if (step + 1) % 250 == 0:
            run.record(**validate(cast(FoldDenoiser, run.average("network")), held_out, where, run))


def box_of(
    material: LabelMaterial,
    box: tuple[int, ...],
    rng: np.random.Generator,
    generator: torch.Generator,
    where: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tissues (TISSUES, box) in [-1, 1] and conditions (TISSUES + KNOWN, box) of a random place in a random brain."""
    structures, _ = material.cases[rng.integers(len(material.cases))]
    if rng.random() < 0.5:
        structures = structures[::-1]
    # Blurring needs the surroundings.
    margin = round(2.5 * BLUR[1])
    corner = [c - margin for c in random_box(box, generator)]
    points = augment.identity([b + 2 * margin for b in box], corner).to(where)
    groups = torch.from_numpy(GROUPS[structures]).to(where)
    shares = settled(augment.warp_soft(groups, TISSUES + 2, deformed(points, generator)))
    given = given_of(shares, float(rng.uniform(*BLUR)))
    centre = (slice(None), *(slice(margin, margin + b) for b in box))
    return 2 * shares[:TISSUES][centre] - 1, given[centre]


@torch.no_grad()
def validate(
    network: FoldDenoiser, material: LabelMaterial, where: torch.device, run: Run, brains: int = 3
) -> dict[str, float]:
    """Folds of held-out brains drawn from their blurred tissues, against the true and against the likeliest ones."""
    pictures, drawn_ratio, likeliest_ratio, changes = [], [], [], []
    for structures, _ in material.cases[:brains]:
        truth = torch.nn.functional.one_hot(torch.from_numpy(GROUPS[structures]).long(), TISSUES + 2)
        shares = truth.movedim(-1, 0).float().to(where)
        drawn = draw_tissues(network, shares, 0.0, torch.Generator().manual_seed(0), nothing)
        blurry = given_of(shares, SIGMA)[:TISSUES]
        region = shares[:TISSUES].sum(0) > 0
        maps = [torch.where(region, part.argmax(0), -1).cpu().numpy() for part in (shares[:TISSUES], drawn, blurry)]
        surfaces = [border(part) for part in maps]
        drawn_ratio.append(surfaces[1] / surfaces[0])
        likeliest_ratio.append(surfaces[2] / surfaces[0])
        volumes = [np.bincount(part[part >= 0], minlength=TISSUES) for part in maps[:2]]
        changes.append(np.abs(volumes[1] / volumes[0] - 1).max())
        pictures.append(np.concatenate([slices(part) for part in maps], 1))
    run.picture("folds", np.concatenate(pictures) / TISSUES)
    return {
        "surface": float(np.mean(drawn_ratio)),
        "surface_of_likeliest": float(np.mean(likeliest_ratio)),
        "volume_error": float(np.mean(changes)),
    }


def border(tissues: np.ndarray) -> int:
    """Faces between cortex and white matter."""
    count = 0
    for axis in range(3):
        one, other = (np.take(tissues, range(i, tissues.shape[axis] - 1 + i), axis) for i in (0, 1))
        count += int(((one == 1) & (other == 2) | (one == 2) & (other == 1)).sum())
    return count


def slices(tissues: np.ndarray) -> np.ndarray:
    """An axial and a coronal slice side by side, values 0 … TISSUES."""
    views = [tissues[:, :, int(tissues.shape[2] * 0.6)], tissues[:, tissues.shape[1] // 2, :]]
    flat = [view.T[::-1] + 1 for view in views]
    height = max(view.shape[0] for view in flat)
    return np.concatenate([np.pad(view, ((0, height - view.shape[0]), (0, 0))) for view in flat], 1)


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the averaged network of a run into the bundle; all else in it stays.

    Raises:
        FileNotFoundError: the run has no checkpoint yet.
    """
    network = load_averaged(FoldDenoiser(**ARGS), run)
    steps = torch.load(run / "state.pt", map_location="cpu", weights_only=True)["step"]
    metadata = shared_bundle.metadata_of(bundle_folder)
    metadata.networks["label_folding"] = bundles.Network(
        target="BrainGenLib.networks.label_folding.FoldDenoiser", args=json.loads(json.dumps(ARGS))
    )
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    section = CARD.format(fwhm=2.355 * SIGMA * GRID_2MM.spacing, parameters=parameters, steps=steps)
    return shared_bundle.save(bundle_folder, metadata, {"label_folding": network}, f"{HEADING}\n{section}")
