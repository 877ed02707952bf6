"""Recipe: diffusion of label latents, conditioned on loads, anatomy and place (brainSPADE3D stage 1b).

Augmented brains are encoded once; their latents are standardised cell by cell, a Gaussian prior with the anatomy
conditions as its first directions is fitted in closed form, and the U-Net learns the rest: v-prediction, min-SNR
weights, moving average, conditions dropped in a fifth of the steps for classifier-free guidance.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional as F

from BrainGenLib import lesions
from BrainGenLib.bundles import Bundle
from BrainGenLib.diffusion import schedules
from BrainGenLib.evaluation.memorisation import between_cases, nearest_dice
from BrainGenLib.lesions import PATHOLOGIES, VOXEL_ML
from BrainGenLib.methods.brainspade3d import ANATOMY, LabelModel, anatomy_volumes, sample_labels
from BrainGenLib.networks.label_autoencoder import LATENT_STRIDE, LabelAutoencoder
from BrainGenLib.networks.label_diffusion import LabelDenoiser
from BrainGenLib.reporting import Silent
from BrainGenLib.requests import Generate, Location
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import label_augmentation as augment
from BrainGenLib.training import label_autoencoder, label_export
from BrainGenLib.training.label_material import LabelMaterial, deformed, soft_maps
from BrainGenLib.training.lesions import LesionBank
from BrainGenLib.training.pictures import mosaic
from BrainGenLib.training.run import Run, autocast, load_averaged, pick_device, size_for

# Augmented anatomies to encode, sets of lesions in each, and batch size.
BRAINS = {"gpu": 1500, "cpu": 100}
BATCH = {"gpu": 32, "cpu": 4}
LESION_VARIANTS = {"gpu": 3, "cpu": 2}
PIECE = 20
STEPS = 60_000
MODES = 14
GRID = tuple(n // LATENT_STRIDE for n in GRID_2MM.shape)
CONDITION_DROPOUT = 0.2
REGION_GIVEN = 0.5
# Share of the variance outside of the modes that the prior draws independently in each cell. Neighbours are in
# truth correlated (a gyrus spans several), so drawn in full it tears the cortex; the U-Net learns what is missing.
REMAINDER = 0.1
DECAY = label_autoencoder.DECAY


@dataclass
class Latents:
    """Encoded brains: ``z`` (n, C, …) float16; loads in mL (n, pathologies); anatomy in mL (n, conditions); the share
    of each pathology's volume in every place (n, pathologies, sides and lobes); foreground of the 8 mm grid."""

    z: np.ndarray
    loads: np.ndarray
    anatomy: np.ndarray
    places: np.ndarray
    foreground: np.ndarray


def places() -> list[Location]:
    """What a lesion's place can be named by, from the least to the most specific."""
    sides, names = ("left", "right"), lesions.LOBES
    return [
        Location(),
        *(Location(side=side) for side in sides),  # type: ignore[arg-type]
        *(Location(lobe=lobe) for lobe in names),  # type: ignore[arg-type]
        *(Location(side=side, lobe=lobe) for side, lobe in itertools.product(sides, names)),  # type: ignore[arg-type]
    ]


def to_cells(voxels: np.ndarray) -> np.ndarray:
    """Share of each latent cell that a bool map of the 2 mm grid covers, float32."""
    s = LATENT_STRIDE
    r, a, i = GRID
    return voxels.reshape(r, s, a, s, i, s).mean((1, 3, 5), dtype=np.float32)


@torch.no_grad()
def encode(
    material: LabelMaterial, network: LabelAutoencoder, out: Path, brains: int, variants: int, where: torch.device
) -> Latents:
    """Latents of ``brains`` augmented anatomies with ``variants`` sets of lesions each.

    Written in pieces to ``out``; those that exist are kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    regions = np.stack([lesions.region(place) for place in places()]).reshape(len(places()), -1).astype(np.float32)
    for first in range(0, brains, PIECE):
        path = out / f"latents-{first:05d}.npz"
        if path.is_file():
            continue
        rows: dict[str, list[np.ndarray]] = {name: [] for name in ("z", "loads", "anatomy", "places", "foreground")}
        for number in range(first, min(first + PIECE, brains)):
            rng, generator = np.random.default_rng(10**6 + number), torch.Generator().manual_seed(number)
            points = deformed(augment.identity().to(where), generator)
            structures, masks = material.brain(rng)
            soft_anatomy, soft_lesion = soft_maps(structures, masks, points)
            code, _ = network.anatomy_encoder(soft_anatomy[None])
            foreground = F.avg_pool3d(1 - soft_anatomy[None, :1], LATENT_STRIDE)[0, 0]
            volumes = anatomy_volumes(soft_anatomy.cpu().numpy())
            fresh = [material.soft_lesions(structures, points, rng) for _ in range(variants - 1)]
            soft_lesions = torch.stack([soft_lesion, *fresh])[:, 1:]
            for soft, lesion_code in zip(soft_lesions, network.lesion_encoder(soft_lesions)[0], strict=True):
                flat = soft.flatten(1).cpu().numpy()
                rows["z"].append(torch.cat([code[0], lesion_code]).cpu().numpy().astype(np.float16))
                rows["loads"].append(flat.sum(1) * VOXEL_ML)
                rows["anatomy"].append(np.array([volumes[name] for name in ANATOMY]))
                rows["places"].append(flat @ regions.T / np.maximum(flat.sum(1, keepdims=True), 1e-3))
                rows["foreground"].append(foreground.cpu().numpy().astype(np.float16))
        temporary = path.with_suffix(".part.npz")
        np.savez(temporary, **{name: np.stack(values) for name, values in rows.items()})  # type: ignore[arg-type]
        temporary.rename(path)
        print(f"encoded {first + PIECE} of {brains}", flush=True)
    pieces = [np.load(path) for path in sorted(out.glob("latents-?????.npz"))]
    return Latents(*(np.concatenate([piece[name] for piece in pieces]) for name in Latents.__annotations__))


def standardise(
    latents: Latents, denoiser: LabelDenoiser, maximum: dict[str, float], variants: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit mean and spread of the latents and the Gaussian prior into ``denoiser``.

    Returns:
        Standard latents (n, C, …), and conditions: loads, then standardised log-volumes (n, pathologies + anatomy).
    """
    split = denoiser.anatomy_channels
    z = torch.from_numpy(latents.z).float()
    index = denoiser.index
    mean = z.mean(0)
    spread = z.std(0)
    # The usual lesion code is that of "none"; its deviations are rare, so one spread for all cells.
    mean[split:] = z[:, split:].flatten(2).median(2).values.median(0).values.view(-1, 1, 1, 1)
    lesion = (z[:, split:] - mean[split:]).flatten(2)[..., index]
    spread[split:] = lesion.square().mean((0, 2)).sqrt().view(-1, 1, 1, 1)
    denoiser.mean.copy_(mean)
    denoiser.spread.copy_(spread.clamp_min(1e-3))
    z = denoiser.standardise(z)
    loads = torch.from_numpy(latents.loads).float() / torch.tensor([maximum.get(name, 1.0) for name in PATHOLOGIES])
    volumes = torch.from_numpy(latents.anatomy).float().log()
    denoiser.anatomy_mean.copy_(volumes.mean(0))
    denoiser.anatomy_spread.copy_(volumes.std(0))
    volumes = (volumes - volumes.mean(0)) / volumes.std(0)
    fit_prior(denoiser, z[::variants, :split].flatten(2)[..., index].flatten(1), volumes[::variants])
    return z, torch.cat([loads, volumes], 1)


def fit_prior(denoiser: LabelDenoiser, vectors: torch.Tensor, conditions: torch.Tensor) -> None:
    """Modes of the Gaussian prior: regression on the conditions first, principal components of what is left next."""
    prior = denoiser.prior
    slopes = torch.linalg.lstsq(conditions, vectors).solution
    rest = vectors - conditions @ slopes
    count = len(prior.modes) - len(slopes)
    _, s, v = torch.svd_lowrank(rest, q=count, niter=4)
    components = v.T * (s / len(rest) ** 0.5)[:, None]
    prior.modes.copy_(torch.cat([slopes, components]))
    left = rest.square().mean(0) - components.square().sum(0)
    prior.remainder.copy_(REMAINDER * left.clamp_min(0.02))


def train(
    cache: Path,
    out: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
    autoencoder: Path | None = None,
) -> None:
    """Train in ``out`` (resumed if it exists) until ``steps`` or ``minutes``.

    ``autoencoder`` is the run folder of that recipe, by default the folder ``label-autoencoder`` beside ``out``.
    """
    where = pick_device(device)
    size = size_for(where)
    batch = BATCH[size]
    coder = load_averaged(LabelAutoencoder(**label_autoencoder.ARGS), autoencoder or sibling(out)).to(where)
    material = LabelMaterial(cache)
    latents = encode(material, coder, out / "latents", BRAINS[size], LESION_VARIANTS[size], where)
    # Cells that hold some brain in some case.
    cells = np.flatnonzero(latents.foreground.max(0) > 0.02)
    denoiser = LabelDenoiser(**arguments(len(cells)))
    denoiser.index.copy_(torch.from_numpy(cells))
    z, conditions = (
        part.to(where) for part in standardise(latents, denoiser, material.bank.maximum, LESION_VARIANTS[size])
    )
    denoiser.to(where)
    shares = torch.from_numpy(latents.places).float()
    maps = torch.from_numpy(np.stack([to_cells(lesions.region(place)) for place in places()])).to(where)
    schedule = schedules.cosine()
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=5e-4, weight_decay=1e-4)
    run = Run(
        out,
        {"network": denoiser},
        {"network": optimizer},
        averaged=("network",),
        decay=DECAY[size],
        minutes=minutes,
    )
    facts = describe(latents, material.bank, conditions)
    (out / "facts.json").write_text(json.dumps(facts, indent=1), "utf-8")
    watch = Watch(material)
    for step in run.steps(steps or STEPS):
        generator = torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * min(1, (step + 1) / 100)
        pick = torch.randint(len(z), (batch,), generator=generator)
        times = torch.randint(len(schedule), (batch,), generator=generator).to(where)
        noise = torch.randn(z[pick].shape, generator=generator).to(where) * denoiser.inside
        # Loads and anatomy are dropped independently: guidance compares with "anatomy known, loads unknown".
        keep = (torch.rand(batch, 2, generator=generator) > CONDITION_DROPOUT).float().to(where)
        known = torch.cat([keep[:, :1].expand(-1, len(PATHOLOGIES)), keep[:, 1:].expand(-1, len(ANATOMY))], 1)
        regions = random_regions(shares[pick], maps, generator)
        regions = torch.where(keep[:, 0].view(-1, 1, 1, 1, 1) > 0, regions, 1.0)
        x = schedule.noised(z[pick], noise, times)
        alpha, sigma = schedule.alpha.to(where)[times], schedule.sigma.to(where)[times]
        with autocast(where):
            velocity = denoiser(x, times, alpha, sigma, conditions[pick], known, regions)
        error = (velocity.float() - schedule.velocity(z[pick], noise, times)).square()
        per_channel = error.flatten(2).sum(2) / len(cells)
        # Lesions are few voxels of a large grid: their channels get the same say as the anatomy's.
        split = denoiser.anatomy_channels
        anatomy_error, lesion_error = per_channel[:, :split].mean(1), per_channel[:, split:].mean(1)
        loss = (schedule.min_snr_weight(times) * (anatomy_error + lesion_error)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        run.update_averages()
        run.log(anatomy=anatomy_error.mean().detach(), lesion=lesion_error.mean().detach())
        if (step + 1) % 1000 == 0:
            run.record(
                **watch.look(label_model(coder, cast(LabelDenoiser, run.average("network")), facts, where.type), run)
            )


def random_regions(shares: torch.Tensor, maps: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Region channels (n, pathologies, …): anywhere, or a place that holds 95 % of the lesion."""
    specific = torch.zeros(shares.shape[:2], dtype=torch.long)
    for place in range(shares.shape[2]):
        specific[shares[..., place] > 0.95] = place
    # Half of the named places are any that contains the lesion, half the most specific one.
    admissible = (shares > 0.95).float() + 1e-3 * (torch.arange(shares.shape[2]) == 0)
    drawn = torch.multinomial(admissible.flatten(0, 1), 1, generator=generator).view(shares.shape[:2])
    chosen = torch.where(torch.rand(shares.shape[:2], generator=generator) < 0.5, drawn, specific)
    chosen[torch.rand(shares.shape[:2], generator=generator) > REGION_GIVEN] = 0
    return maps[chosen.to(maps.device)]


def sibling(run: Path) -> Path:
    """Where the autoencoder's run is searched for."""
    return run.parent / "label-autoencoder"


def arguments(cells: int) -> dict[str, Any]:
    """Arguments of the denoiser."""
    coder = LabelAutoencoder(**label_autoencoder.ARGS)
    return {
        "anatomy_channels": coder.anatomy_latent,
        "lesion_channels": coder.lesion_latent,
        "grid": GRID,
        "cells": cells,
        "pathologies": len(PATHOLOGIES),
        "anatomy": len(ANATOMY),
        "modes": MODES,
        "unet_channels": (32, 32, 48),
    }


def describe(latents: Latents, bank: LesionBank, conditions: torch.Tensor) -> dict[str, Any]:
    """What the bundle says of its conditions: volumes for load 1, quartiles of the real data, ranges, correlation."""
    marks = {}
    for name in bank.available:
        volumes = np.array([mask.volume(name) for mask in bank.masks[name]]) / bank.maximum[name]
        marks[name] = np.percentile(volumes, (25, 50, 75)).clip(0, 1).tolist()
    quantiles = np.percentile(latents.anatomy, (1, 25, 50, 75, 99), axis=0)
    standard = conditions[:, -len(ANATOMY) :]
    return {
        "millilitres": bank.maximum,
        "masks": {name: len(bank.masks[name]) for name in bank.available},
        "marks": marks,
        "anatomy": {name: quantiles[:, i].tolist() for i, name in enumerate(ANATOMY)},
        "correlation": float(np.corrcoef(standard.T.cpu())[0, 1]),
    }


def label_model(coder: LabelAutoencoder, denoiser: LabelDenoiser, facts: dict[str, Any], device: str) -> LabelModel:
    """The model as inference has it."""
    ranges = {name: (values[0], values[-1]) for name, values in facts["anatomy"].items()}
    return LabelModel(coder, denoiser, None, facts["millilitres"], ranges, facts["correlation"], device)


class Watch:
    """Looks at samples during training: a mosaic, and whether they come closer to a case than cases do."""

    def __init__(self, material: LabelMaterial) -> None:
        self._cases = [structures for structures, _ in material.cases]
        self._normal = between_cases(self._cases, 20, np.random.default_rng(0))
        self._pathologies = material.bank.available

    def look(self, model: LabelModel, run: Run, count: int = 4) -> dict[str, float]:
        """Nearest-case Dice of samples, and of real cases (mean and largest); the mosaic goes to the run."""
        samples = []
        for seed in range(count):
            asked = {} if seed == 0 else {self._pathologies[seed % len(self._pathologies)]: 0.3}
            samples.append(sample_labels(model, Generate(seed=seed, pathologies=asked), Silent()).classes_2mm)
        run.picture("samples", mosaic(samples))
        nearest = [nearest_dice(sample, self._cases) for sample in samples]
        return {
            "nearest_dice": float(np.mean(nearest)),
            "nearest_dice_of_cases": float(self._normal.mean()),
            "nearest_dice_of_cases_largest": float(self._normal.max()),
        }


def export(run: Path, bundle_folder: Path, autoencoder: Path | None = None) -> Bundle:
    """Write the averaged denoiser of a run, the autoencoder that it was trained on, and the conditions.

    Raises:
        FileNotFoundError: a run has no checkpoint yet.
    """
    coder_run = autoencoder or sibling(run)
    state = torch.load(run / "state.pt", map_location="cpu", weights_only=True)
    args = arguments(len(state["modules"]["network"]["index"]))
    networks = {
        "label_autoencoder": load_averaged(LabelAutoencoder(**label_autoencoder.ARGS), coder_run),
        "label_diffusion": load_averaged(LabelDenoiser(**args), run),
    }
    coder_steps = torch.load(coder_run / "state.pt", map_location="cpu", weights_only=True)["step"]
    return label_export.write(
        bundle_folder,
        networks,
        {"label_autoencoder": label_autoencoder.ARGS, "label_diffusion": args},
        {"label_autoencoder": coder_steps, "label_diffusion": state["step"]},
        json.loads((run / "facts.json").read_text(encoding="utf-8")),
    )
