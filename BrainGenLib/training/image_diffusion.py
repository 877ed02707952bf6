"""Recipe: diffusion of image latents, conditioned on contrast, person, volumes and loads (bundle ``brain-ldm``).

A Gaussian model of each contrast is fitted to the latents in closed form, and the U-Net learns the rest: loss in
units of the Gaussian model's error, moving average, conditions dropped for guidance. The recipe ``image-broad``
trains the same on painted images alone: what this one starts from, and what fine-tuning with Latent Drifting is
compared on (its situation is a broad model and few scans).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.drift import Drift, Variant, training_pair
from BrainGenLib.methods.brain_ldm import CONDITIONS, PERSON, BrainLDM
from BrainGenLib.networks.gaussian import power_spectrum
from BrainGenLib.networks.image_autoencoder import STRIDE
from BrainGenLib.networks.image_diffusion import ImageDenoiser
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training.field_diffusion import slices
from BrainGenLib.training.image_latents import Encoder, Latents, encode_all, part
from BrainGenLib.training.image_material import ImageMaterial, Picture, loads, tensor_of
from BrainGenLib.training.run import Run, autocast, begun_with, pick_device, size_for
from BrainGenLib.training.sources import CONTRASTS

GRID = tuple(n // STRIDE for n in GRID_2MM.shape)
BATCH = {"gpu": 32, "cpu": 4}
STEPS = {"gpu": 30_000, "cpu": 4000}
DECAY = {"gpu": 0.999, "cpu": 0.998}
RATE = {"gpu": 1e-3, "cpu": 2e-3}
REAL = 0.75
"""Share of scans in a batch, unless all is painted."""
DROPOUT = 0.15
SMOOTH = (*PERSON, "painted")
"""Conditions that the Gaussian model knows."""
COMPONENTS = 4
MEASURED = 500
"""Images of a contrast that its spectrum is measured on."""
UNET = {"gpu": (64, 96, 128), "cpu": (32, 32, 48)}
WATCH_EVERY = 1000
WATCHED: tuple[tuple[str, dict[str, float]], ...] = (
    ("T1w", {"age": 25.0}),
    ("T1w", {"age": 80.0}),
    ("T2w", {}),
    ("FLAIR", {"wmh": 20.0}),
    ("PDw", {}),
    ("T1ce", {}),
)
"""What the mosaic of samples shows."""
SAMPLED = 15
"""Steps of its samples."""


@dataclass
class Examples:
    """What a denoiser learns from, on its device: standard latents ``z`` (n, C, …), number of the contrast (n,),
    standard conditions and which are known (n, K)."""

    z: torch.Tensor
    contrast: torch.Tensor
    conditions: torch.Tensor
    known: torch.Tensor


def train(
    cache: Path,
    out: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
    broad: bool = False,
) -> None:
    """Train in ``out`` (resumed if it exists) until ``steps`` or ``minutes``.

    The run folders ``image-autoencoder`` and, unless ``broad``, ``image-broad`` must lie beside ``out``.
    """
    where = pick_device(device)
    size = size_for(where)
    total = steps or STEPS[size]
    encoder = Encoder(cache, out.parent / "image-autoencoder", where)
    coder, material = encoder.coder, encoder.material
    latents = encode_all(encoder, out.parent / "image-latents", size)
    if broad:
        latents = part(latents, latents.painted)
    denoiser = denoiser_for(latents, UNET[size], out)
    fit(denoiser, latents)
    if not broad and not (out / "state.pt").is_file():
        start = torch.load(out.parent / "image-broad" / "state.pt", map_location="cpu", weights_only=True)
        average = {k.removeprefix("module."): v for k, v in start["averages"]["network"].items()}
        denoiser.unet.load_state_dict({k[5:]: v for k, v in average.items() if k.startswith("unet.")})
    denoiser.to(where).unet.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    examples = examples_of(denoiser, latents)
    # A model of painted images knows nothing of where scans lie.
    unseen = None if broad else examples_of(denoiser, encoder.rows(ImageMaterial(cache, "test").scans))
    schedule = schedules.cosine()
    optimizer = torch.optim.AdamW(denoiser.unet.parameters(), lr=RATE[size], weight_decay=1e-4)
    run = Run(
        out, {"network": denoiser}, {"network": optimizer}, averaged=("network",), decay=DECAY[size], minutes=minutes
    )
    facts = describe(material, latents, examples.z.cpu())
    (out / "facts.json").write_text(json.dumps(facts, indent=1), "utf-8")
    weights = torch.from_numpy(chances(latents)).to(where)
    watched = [(contrast, loads(asked, material.bank.maximum)) for contrast, asked in WATCHED]
    watch = Watch(material.scans, watched, "T1w")
    for step in run.steps(total):
        generator = torch.Generator(where).manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = RATE[size] * min(1, (step + 1) / 100, 1.02 - run.progress(total))
        pick = torch.multinomial(weights, BATCH[size], replacement=True, generator=generator)
        _, weighted = errors(denoiser, schedule, examples, pick, generator, coder.importance)
        loss = weighted.mean()
        descend(loss, optimizer)
        run.update_averages()
        run.log(loss=loss.detach())
        if (step + 1) % WATCH_EVERY == 0:
            averaged = cast(ImageDenoiser, run.average("network"))
            model = BrainLDM(coder, averaged, CONTRASTS, torch.ones(1), {}, where.type, painted=broad)
            if unseen is not None:
                run.record(held_out=error_on(averaged, schedule, unseen, coder.importance))
            run.record(**watch.look(model, run))


def errors(
    denoiser: ImageDenoiser,
    schedule: schedules.Schedule,
    examples: Examples,
    pick: torch.Tensor,
    generator: torch.Generator,
    importance: torch.Tensor,
    drift: Drift = Drift(),
    variant: Variant = "V3",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared errors of the velocity of noised examples, per number of the latent; plain, and in units of what the
    Gaussian model leaves, so that no time dominates.

    Args:
        pick: which examples, (batch,).
        generator: of times, noise and of what is left out; on the device of the examples.
        importance: weights of the channels of the second, 1 on average: most of an image is in the first of them.
        drift, variant: of :func:`BrainGenLib.diffusion.drift.training_pair`; where all is background nothing drifts,
            as there is no noise.

    Returns:
        Both of shape (batch,).
    """
    z = examples.z[pick]
    where = z.device
    # More often high noise, where anatomy is decided.
    times = (len(schedule) * torch.rand(len(pick), generator=generator, device=where).sqrt()).long()
    noise = torch.randn(z.shape, generator=generator, device=where) * denoiser.inside
    told = examples.known[pick] * kept(len(pick), generator)
    alpha, sigma = schedule.coefficients(times, z)
    x, target = (part * denoiser.inside for part in training_pair(z, noise, alpha, sigma, "v", drift, variant))
    with autocast(where):
        found, scale = denoiser.estimate(
            x, alpha.flatten(), sigma.flatten(), examples.contrast[pick], examples.conditions[pick], told
        )
    # An error of the velocity is one of z, divided by σ.
    error = alpha * x - found.float() - sigma * target
    numbers = denoiser.spread.numel()
    plain = (error / sigma.clamp_min(1e-3)).square().flatten(1).sum(1) / numbers
    weighted = importance.view(-1, 1, 1, 1) * (error / scale).square()
    return plain, weighted.flatten(1).sum(1) / numbers


def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step down, no longer than gradients of norm 1 take it."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()


def denoiser_for(latents: Latents, unet: Sequence[int], out: Path) -> ImageDenoiser:
    """That of the run ``out``, or a new one whose cells are those that hold some brain in some image."""
    brain = torch.from_numpy(latents.brain.max(0)).float()[None, None]
    cells, half_cells = (
        (torch.nn.functional.avg_pool3d(brain, side) > 0.02).flatten().nonzero()[:, 0] for side in (1, 2)
    )
    args = {
        "latent": latents.z.shape[1],
        "grid": GRID,
        "cells": len(cells),
        "half_cells": len(half_cells),
        "contrasts": len(CONTRASTS),
        "directions": len(SMOOTH),
        "conditions": len(CONDITIONS),
        "components": COMPONENTS,
        "unet_channels": unet,
    }
    denoiser = ImageDenoiser(**begun_with(out, args))
    denoiser.index.copy_(cells)
    denoiser.half_index.copy_(half_cells)
    return denoiser


def fit(denoiser: ImageDenoiser, latents: Latents) -> None:
    """Fit means, spreads and the Gaussian model of every contrast into ``denoiser``."""
    conditions, known = torch.from_numpy(latents.conditions), torch.from_numpy(latents.known)
    for i in range(len(PERSON)):
        values = conditions[known[:, i] > 0, i]
        if len(values) > 1:
            denoiser.centre[i], denoiser.scale[i] = values.mean(), values.std().clamp_min(1e-3)
    standard = denoiser.standard(conditions) * known
    contrast = torch.from_numpy(latents.contrast)
    real = torch.from_numpy(~latents.painted)
    code = torch.from_numpy(latents.z).flatten(2)[..., denoiser.index.long()].float()
    present = contrast.unique().tolist()
    for c in present:
        own = contrast == c
        # The mean of scans; painted images differ from it by a direction of their own.
        denoiser.mean[c] = code[own & real if (own & real).any() else own].mean(0)
    about = torch.zeros(denoiser.spread.shape)
    for c in present:
        about += (code[contrast == c] - denoiser.mean[c]).square().sum(0)
    denoiser.spread.copy_((about / len(code)).sqrt().clamp_min(0.02))
    z = denoiser.standardise(torch.from_numpy(latents.z).float(), contrast)
    for c in present:
        fit_modes(denoiser, c, z[contrast == c], standard[contrast == c, : len(SMOOTH)])


def fit_modes(denoiser: ImageDenoiser, contrast: int, z: torch.Tensor, conditions: torch.Tensor) -> None:
    """Modes of one contrast: regression on the conditions first, principal components of what is left next."""
    coarse = torch.nn.functional.avg_pool3d(z, 2).flatten(2)[..., denoiser.half_index.long()]
    vectors = coarse.flatten(1)
    # A little ridge: of some contrasts no scan is painted, or every patient is of one age.
    gram = conditions.T @ conditions + 1e-2 * len(conditions) * torch.eye(conditions.shape[1])
    slopes = torch.linalg.solve(gram, conditions.T @ vectors)
    _, s, v = torch.svd_lowrank(vectors - conditions @ slopes, q=COMPONENTS, niter=4)
    modes = torch.cat([slopes, v.T * (s / len(vectors) ** 0.5)[:, None]])
    # Fewer images than modes leave some of them zero.
    denoiser.modes[contrast, : len(modes)] = modes.unflatten(1, coarse.shape[1:])
    # A component may be nearly one of the slopes: in single precision their large coefficients would not cancel.
    fine, values = denoiser.modes_of(contrast).double(), z.flatten(1).double()
    coefficients = torch.linalg.lstsq(fine.T, values.T).solution
    left = (values - coefficients.T @ fine).float().view_as(z) * denoiser.inside
    some = left[:: -(-len(left) // MEASURED)]
    denoiser.spectrum[contrast] = power_spectrum(list(some), [denoiser.inside[0, 0] > 0] * len(some))


def examples_of(denoiser: ImageDenoiser, latents: Latents) -> Examples:
    """Latents as a fitted denoiser, on whose device they go, takes them."""
    where = denoiser.spread.device
    z, contrast, conditions, known = (
        torch.from_numpy(values).to(where)
        for values in (latents.z, latents.contrast, latents.conditions, latents.known)
    )
    return Examples(denoiser.standardise(z.float(), contrast), contrast, denoiser.standard(conditions) * known, known)


@torch.no_grad()
def error_on(
    denoiser: ImageDenoiser, schedule: schedules.Schedule, examples: Examples, importance: torch.Tensor
) -> float:
    """Mean error on examples, the same times and noise at every call, in units of the Gaussian model's."""
    where = examples.z.device
    generator = torch.Generator(where).manual_seed(0)
    every = torch.arange(len(examples.z), device=where)
    found = [errors(denoiser, schedule, examples, pick, generator, importance)[1] for pick in every.split(16)]
    return float(torch.cat(found).mean())


def chances(latents: Latents) -> np.ndarray:
    """How often each image comes: scans of rare contrasts more often than they are, painted ones the rest."""
    weights = np.zeros(len(latents.contrast))
    real = ~latents.painted
    for c in np.unique(latents.contrast[real]):
        own = real & (latents.contrast == c)
        weights[own] = own.sum() ** -0.5
    if real.any():
        weights[real] *= REAL / weights[real].sum()
        weights[latents.painted] = (1 - REAL) / max(latents.painted.sum(), 1)
    else:
        weights[:] = 1
    return weights


def kept(count: int, generator: torch.Generator) -> torch.Tensor:
    """1 where a condition is given (n, K): each of the person's is dropped by itself, the loads together."""
    keep = (torch.rand(count, len(CONDITIONS), generator=generator, device=generator.device) > DROPOUT).float()
    first = len(SMOOTH)
    keep[:, len(PERSON) : first] = 1
    keep[:, first:] = keep[:, first : first + 1]
    return keep


def describe(material: ImageMaterial, latents: Latents, z: torch.Tensor) -> dict[str, Any]:
    """What the bundle says of its conditions: ranges, and how many scans of each contrast show them; and the numbers
    that drift and ageing need."""
    conditions: dict[str, dict[str, Any]] = {}
    for name in (*PERSON, *material.bank.available):
        values: dict[str, dict[str, list[float]]] = {}
        for scan in material.scans:
            value = scan.conditions.get(name, 0.0)
            if value > 0 or (name in PERSON and name in scan.conditions):
                values.setdefault(scan.contrast, {}).setdefault(scan.dataset, []).append(value)
        each = {contrast: list(chain.from_iterable(found.values())) for contrast, found in values.items()}
        every = list(chain.from_iterable(each.values()))
        conditions[name] = {
            "scans": {contrast: len(found) for contrast, found in each.items()},
            "within": {contrast: within(list(found.values())) for contrast, found in values.items()},
            "quantiles": np.percentile(every, (1, 25, 50, 75, 99)).tolist() if every else [],
        }
    adults = [scan.conditions for scan in material.scans if {"age", "ventricles"} <= scan.conditions.keys()]
    ages = np.array([known["age"] for known in adults])
    ageing = {}
    for name in ("ventricles", "brain"):
        logarithms = np.log([known[name] for known in adults])
        ageing[name] = float(np.polyfit(ages, logarithms, 1)[0]) if len(set(ages)) > 1 else 0.0
    # Between scans of one contrast; that of the most frequent is the best known.
    real = ~latents.painted if (~latents.painted).any() else latents.painted
    common = np.bincount(latents.contrast[real]).argmax()
    means = z[torch.from_numpy(real & (latents.contrast == common))].mean((2, 3, 4))
    return {
        "scans": len(material.scans),
        "contrasts": sorted({scan.contrast for scan in material.scans}),
        "millilitres": material.bank.maximum,
        "conditions": conditions,
        "ageing": ageing,
        "channel_spread": means.std(0).tolist(),
    }


def within(groups: Sequence[Sequence[float]]) -> float:
    """Share of the variance of numbers that is not between their groups: if it is small, what goes with the numbers
    cannot be separated from what goes with the groups, such as scanners."""
    every = np.concatenate([np.asarray(group, float) for group in groups])
    left = np.concatenate([np.asarray(group, float) - np.mean(group) for group in groups])
    return float(left.var() / every.var()) if every.var() > 0 else 0.0


class Watch:
    """Looks at samples during training: a mosaic, and whether they come closer to a scan than scans do.

    Args:
        scans: of at least two subjects in ``contrast``.
        watched: what the mosaic shows: contrasts, and conditions with loads.
        contrast: whose samples and scans are compared.
    """

    def __init__(
        self, scans: Sequence[Picture], watched: Sequence[tuple[str, dict[str, float]]], contrast: str
    ) -> None:
        self._watched, self._contrast = watched, contrast
        own = [scan for scan in scans if scan.contrast == contrast]
        self._scans = torch.cat([_coarse(tensor_of([scan])) for scan in own])
        self._cases = [scan.case for scan in own]

    @torch.no_grad()
    def look(self, model: BrainLDM, run: Run) -> dict[str, float]:
        """Largest correlation of samples with a scan, and of scans with another; the mosaic goes to the run."""
        columns, samples = [], []
        for seed, (contrast, asked) in enumerate(self._watched):
            noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed))
            z = model.sample(noise.to(model.device), asked, contrast, 1.0, SAMPLED)
            image = model.decode(z).clamp(0, 1)
            columns.append(slices(image[0, 0]))
            if contrast == self._contrast:
                samples.append(image.cpu())
        run.picture("samples", np.concatenate(columns, 1))
        near = [float(_correlation(_coarse(sample), self._scans).max()) for sample in samples]
        between = []
        for i in range(0, len(self._scans), 10):
            others = torch.tensor([case != self._cases[i] for case in self._cases])
            between.append(float(_correlation(self._scans[i : i + 1], self._scans[others]).max()))
        return {"nearest": float(np.mean(near)), "nearest_of_scans": float(np.mean(between))}


def _coarse(image: torch.Tensor) -> torch.Tensor:
    """What is compared: the image at 4 mm, (N, voxels)."""
    return torch.nn.functional.avg_pool3d(image, 2).flatten(1)


def _correlation(one: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Of one row with every other, beyond the mean of the others."""
    mean = others.mean(0)
    a, b = one - mean, others - mean
    return (b @ a[0]) / (b.norm(dim=1) * a.norm()).clamp_min(1e-6)
