"""Recipe: fine-tuning of an image model on a few scans of one's own, with or without Latent Drifting.

The bundle's autoencoder and its Gaussian model of each contrast stay as they are; of its U-Net a scheme trains what
it may (:mod:`BrainGenLib.training.schemes`). What comes out draws, for the contrasts of the scans, brains such as
theirs. With drift, noise has a mean of δ in training and when the new bundle draws (docs/latent-drifting.md).
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from pydantic import BaseModel

from BrainGenLib import bundles
from BrainGenLib.bundles import Bundle
from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.drift import Drift, Variant
from BrainGenLib.diffusion.drift_choice import DriftCurve
from BrainGenLib.errors import BadInput
from BrainGenLib.methods.brain_ldm import BrainLDM
from BrainGenLib.networks.image_diffusion import ImageDenoiser
from BrainGenLib.training import finetuning_drift, finetuning_export, schemes
from BrainGenLib.training.finetuning_material import (
    commonest,
    conditions_of,
    encoded,
    example,
    joined,
    load,
    save,
    scans_of,
)
from BrainGenLib.training.image_diffusion import Examples, Watch, descend, errors
from BrainGenLib.training.image_material import Picture, tensor_of
from BrainGenLib.training.run import Run, pick_device, size_for
from BrainGenLib.training.schemes import SCHEMES, Scheme

BATCH = {"gpu": 16, "cpu": 4}
STEPS = {"gpu": 2000, "cpu": 400}
DECAY = 0.99
RATE: dict[str, float] = {
    "basic": 1e-4,
    "textual-inversion": 5e-3,
    "dreambooth": 1e-4,
    "custom-diffusion": 5e-4,
    "lora": 1e-3,
}
PRIOR = {"gpu": 200, "cpu": 48}
"""Images of the frozen model that DreamBooth keeps drawing like."""
PRIOR_STEPS = 15
PRIOR_WEIGHT = 1.0
WATCHED = 4
WATCH_EVERY = 200


class Plan(BaseModel):
    """What a run does; its folder cannot be used for another.

    Attributes:
        data: folder of the scans.
        base: SHA-256 of the bundle that it starts from.
        drift: ``0``, ``auto`` or a number, as asked for.
    """

    name: str
    data: str
    base: str
    scheme: Scheme
    drift: str
    variant: Variant


class Chosen(BaseModel):
    """The drift of a run: δ by channel, with that of the base; and the curve if it was searched for."""

    delta: tuple[float, ...]
    curve: DriftCurve | None = None


def train(
    data: Path,
    out: Path,
    *,
    bundle: str = "brain-ldm",
    name: str,
    scheme: str = "basic",
    drift: str = "0",
    variant: str = "V3",
    folder: Path | None = None,
    device: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
) -> Bundle:
    """Fine-tune a bundle in ``out`` (resumed if it exists) until ``steps`` or ``minutes``, and write the new one.

    Args:
        data: BIDS folder of scans, or a training cache of them.
        bundle: which to start from.
        name: of the new bundle.
        drift: ``0``, ``auto``, or standard deviations of the latent's channel means between subjects.
        variant: of drift in training; see :func:`BrainGenLib.diffusion.drift.training_pair`.
        folder: where bundles go; None is the user's.

    Raises:
        BadInput: a name or the data cannot be used, or ``out`` holds a run with another plan.
    """
    base = bundles.find(bundle)
    place = (folder or bundles.user_folder()) / name
    plan = _plan(data, base, out, place, name, scheme, drift, variant)
    where = pick_device(device)
    size = size_for(where)
    model = BrainLDM.from_bundle(base, str(where))
    scans = scans_of(data, out, base.metadata, str(where))
    out.mkdir(parents=True, exist_ok=True)
    (out / "plan.json").write_text(plan.model_dump_json(indent=1), "utf-8")
    examples = encoded(scans, model, base.metadata, size, out / "latents.npz")
    chosen = _drift(plan, model, scans, base, out / "drift.json")
    total = steps or STEPS[size]
    prior = None
    if plan.scheme == "dreambooth":
        prior = prior_of(model, scans, base.metadata, PRIOR[size], out / "prior.npz")
    tuned, done = tune(
        model,
        scans,
        examples,
        prior,
        base.metadata,
        out,
        plan.scheme,
        Drift(chosen.delta),
        plan.variant,
        total,
        minutes,
    )
    return finetuning_export.write(place, base, tuned, plan.scheme, plan.variant, chosen, scans, done)


def tune(
    model: BrainLDM,
    scans: list[Picture],
    examples: Examples,
    prior: Examples | None,
    metadata: bundles.Metadata,
    out: Path,
    scheme: Scheme,
    drift: Drift,
    variant: Variant,
    total: int,
    minutes: float | None = None,
) -> tuple[BrainLDM, int]:
    """The training itself, in the run folder ``out`` (resumed if it exists).

    Args:
        examples: of the scans; the scans themselves are what samples are compared with.
        prior: of :func:`prior_of`, for DreamBooth.
        metadata: of the model's bundle.
        drift: δ in all.

    Returns:
        The model with averaged weights and the drift, and how many steps it has had.
    """
    where = torch.device(model.device)
    size = size_for(where)
    denoiser = copy.deepcopy(model.diffusion).cpu()
    trained = schemes.adapt(denoiser.unet, scheme)
    token = schemes.token_of(denoiser.unet)
    denoiser.to(where)
    rate = RATE[scheme]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    run = Run(out, {"network": denoiser}, {"network": optimizer}, averaged=("network",), decay=DECAY, minutes=minutes)
    schedule, importance = schedules.cosine(), model.autoencoder.importance
    contrast = commonest(scans)
    own = [scan for scan in scans if scan.contrast == contrast]
    watch = Watch(own, [(contrast, conditions_of(scan, metadata)) for scan in own[:WATCHED]], contrast)
    for step in run.steps(total):
        generator = torch.Generator(where).manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 20, 1.02 - run.progress(total))
        pick = torch.randint(len(examples.z), (BATCH[size],), generator=generator, device=where)
        per_case, weighted = errors(denoiser, schedule, examples, pick, generator, importance, drift, variant)
        loss = weighted.mean()
        scalars: dict[str, Any] = {"error": per_case.mean().detach(), "loss": loss.detach()}
        if prior is not None:
            assert token is not None
            # What the frozen model draws is drawn without the word, and from noise as the frozen model knows it.
            token.said = False
            pick = torch.randint(len(prior.z), (BATCH[size],), generator=generator, device=where)
            kept = errors(denoiser, schedule, prior, pick, generator, importance, model.drift)[1].mean()
            token.said = True
            loss = loss + PRIOR_WEIGHT * kept
            scalars["prior"] = kept.detach()
        descend(loss, optimizer)
        run.update_averages()
        run.log(**scalars)
        if (step + 1) % WATCH_EVERY == 0:
            run.record(**watch.look(with_diffusion(model, cast(ImageDenoiser, run.average("network")), drift), run))
    average = cast(ImageDenoiser, copy.deepcopy(run.average("network"))).eval().requires_grad_(False)
    schemes.merge(average.unet)
    return with_diffusion(model, average, drift), run.step


@torch.no_grad()
def prior_of(
    model: BrainLDM, scans: list[Picture], metadata: bundles.Metadata, count: int, path: Path | None
) -> Examples:
    """What the model draws before it is tuned, with contrasts and conditions of the scans: the prior to preserve."""
    if path is not None and path.is_file():
        return load(path, model.device)
    rows = []
    for seed in range(count):
        scan = scans[seed % len(scans)]
        conditions = conditions_of(scan, metadata)
        noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed)).to(model.device)
        z = model.sample(noise, conditions, scan.contrast, 1.0, PRIOR_STEPS)
        rows.append(example(z, scan.contrast, conditions, model))
    found = joined(rows)
    if path is not None:
        save(found, path)
    return found


def drift_for(asked: str, model: BrainLDM, scans: list[Picture], metadata: bundles.Metadata) -> Chosen:
    """δ in all: that of the model, which may have been tuned with drift before, and what is asked for beside it."""
    curve = None
    if asked == "auto":
        with torch.no_grad():
            z = torch.cat([model.encode(tensor_of([scan]).to(model.device)) for scan in scans])
        conditions = [conditions_of(scan, metadata) for scan in scans]
        added, curve = finetuning_drift.choose(model, z, [scan.contrast for scan in scans], conditions)
    elif units := float(asked):
        added = model.drift_of(units, int(metadata.parameters["steps"]))
    else:
        added = Drift(0.0)
    own, extra = (drift.channels * (len(model.spread) // len(drift.channels)) for drift in (model.drift, added))
    total = tuple(one + other for one, other in zip(own, extra, strict=True))
    return Chosen(delta=total, curve=curve)


def _drift(plan: Plan, model: BrainLDM, scans: list[Picture], base: Bundle, path: Path) -> Chosen:
    if not path.is_file():
        path.write_text(drift_for(plan.drift, model, scans, base.metadata).model_dump_json(indent=1), "utf-8")
    return Chosen.model_validate_json(path.read_text(encoding="utf-8"))


def with_diffusion(model: BrainLDM, diffusion: ImageDenoiser, drift: Drift) -> BrainLDM:
    """The model with another diffusion of the same latents, and drift."""
    other = copy.copy(model)
    other.diffusion, other.drift = diffusion, drift
    return other


def _plan(data: Path, base: Bundle, out: Path, place: Path, name: str, scheme: str, drift: str, variant: str) -> Plan:
    """What is asked for, checked."""
    if base.metadata.family != "brain-ldm":
        raise BadInput(f"Bundle {base.name} cannot be fine-tuned; only those of the family brain-ldm can.")
    if scheme not in SCHEMES:
        raise BadInput(f"There is no scheme {scheme!r}; there are: {', '.join(SCHEMES)}.")
    if variant not in get_args(Variant):
        raise BadInput(f"There is no variant {variant!r} of drift; there are: {', '.join(get_args(Variant))}.")
    if not _is_drift(drift):
        raise BadInput(f"A drift of {drift!r} is not understood: give 0, auto, or a number such as 0.5.")
    if not re.fullmatch(bundles.NAME, name):
        raise BadInput(f"{name!r} cannot be the name of a bundle; use small letters, digits, dots and dashes.")
    plan = Plan(
        name=name,
        data=str(data.resolve()),
        base=base.sha256,
        scheme=cast(Scheme, scheme),
        drift=drift,
        variant=cast(Literal["V1", "V2", "V3"], variant),
    )
    held = out / "plan.json"
    before = Plan.model_validate_json(held.read_text(encoding="utf-8")) if held.is_file() else None
    if before is not None and before != plan:
        differing = [key for key in Plan.model_fields if getattr(before, key) != getattr(plan, key)]
        raise BadInput(
            f"{out} holds a run with another {' and '.join(differing)}; go on with the same, or use another folder."
        )
    if before is None and (name in bundles.available() or place.exists()):
        raise BadInput(f"There is a bundle {name!r} already; choose another name.")
    return plan


def _is_drift(text: str) -> bool:
    try:
        return text == "auto" or abs(float(text)) <= 10
    except ValueError:
        return False
