"""``braingen counterfactual``: a scan, changed."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from BrainGenLib import bundles, participants, requests
from BrainGenLib.cli.console import Device, Json, Server, contrast_of, guarded, named_numbers, remark
from BrainGenLib.cli.synthesis import Bundle, LesionAs, Out, Seed, check, name_of, named, several, to_dataset
from BrainGenLib.errors import BadInput

Wanted = Annotated[list[str], several("--set", "NAME=VALUE, what should change, e.g. age=80 or wmh=0")]
Known = Annotated[
    list[str],
    several("--known", "NAME=VALUE, what is so in the scan, e.g. age=60; age and sex of a BIDS tree are read"),
]
LesionsAt = Annotated[Path | None, typer.Option(help="Where the scan's lesions are: label map or mask.")]
DriftUnits = Annotated[
    str | None, typer.Option(help="auto, or standard deviations of the latent's means between subjects.")
]
LesionsBy = Annotated[
    str | None,
    typer.Option(help="labels: rendered exactly; diffusion: as the model changes them.", show_default="labels"),
]
_DEFAULTS = {name: field.default for name, field in requests.Counterfactual.model_fields.items()}


def counterfactual(
    *,
    scan: Annotated[Path, typer.Argument(help="Scan of a contrast of the bundle, whole head or skull-stripped.")],
    out: Out,
    wanted: Wanted,
    known: Known,
    contrast: Annotated[str | None, typer.Option(help="Of the scan.", show_default="recognised")] = None,
    drift: DriftUnits = "0",
    drift_step: Annotated[str, typer.Option(help="Drift per step too: none, literal, normalised.")] = "none",
    strength: Annotated[float, typer.Option(help="Share of the noise to invert to, 0.1 to 1.")] = _DEFAULTS[
        "strength"
    ],
    guidance: Annotated[float, typer.Option(help="1: to what is asked for; more: beyond. 0 to 10.")] = _DEFAULTS[
        "guidance"
    ],
    steps: Annotated[int, typer.Option(help="Of the sampler, 2 to 1000.")] = _DEFAULTS["steps"],
    variants: Annotated[int, typer.Option(help="Of the noise, for the uncertainty, 1 to 16.")] = 1,
    segmentation: LesionsAt = None,
    lesion_as: LesionAs = None,
    lesions: LesionsBy = None,
    seed: Seed = None,
    bundle: Bundle = _DEFAULTS["bundle"],
    device: Device = "auto",
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Show what a scan would look like with other conditions, in its own grid, with what was changed."""
    with guarded(as_json):
        inputs = named(scan=scan, segmentation=segmentation)
        request: dict[str, Any] = {
            "verb": "counterfactual",
            "bundle": bundle,
            "device": device,
            "seed": secrets.randbelow(2**32) if seed is None else seed,
            "scan": name_of(inputs, scan),
            "contrast": None if contrast is None else contrast_of(contrast),
            "known": known_of(scan, bundle, known, server, as_json),
            "wanted": named_numbers(wanted, "--set"),
            "drift": drift_of(drift or "0"),
            "drift_step": drift_step,
            "strength": strength,
            "guidance": guidance,
            "steps": steps,
            "variants": variants,
            "lesions": lesions or _DEFAULTS["lesions"],
            "segmentation": name_of(inputs, segmentation),
            "lesion_as": lesion_as,
        }
        parsed = requests.parse(request)
        check(parsed, inputs, server)
        to_dataset([parsed], inputs, out, server, as_json)


def known_of(scan: Path, bundle: str, known: list[str], server: str | None, as_json: bool) -> dict[str, Any]:
    """What ``--known`` gives, and for what it does not give the BIDS tree around the scan, which is reported.

    Raises:
        BadInput: one of them is not understood, or there is no such bundle.
    """
    by_hand = named_numbers(known, "--known")
    # A server gets of a person what the command line gives.
    if server is not None:
        return dict(by_hand)
    person, notes = _person(scan, bundle, without=set(by_hand))
    for note in notes:
        remark(note, as_json)
    return {**person, **by_hand}


def _person(scan: Path, bundle: str, without: Collection[str] = ()) -> tuple[dict[str, float], list[str]]:
    """What the BIDS tree around a scan holds of the person, as far as the bundle knows it, and remarks."""
    metadata = bundles.find(bundle).metadata
    ranges = {condition.name: condition for condition in metadata.conditions}
    names = [name for name in ("age", "sex") if name in ranges and name not in without]
    if not metadata.family or not names:
        return {}, []
    person = participants.person_on(scan)
    values = {"age": person.age, "sex": None if person.sex is None else participants.SEXES[person.sex]}
    found = {name: value for name in names if (value := values[name]) is not None}
    notes = [
        f"The {doubt.column} {doubt.value!r} {doubt.reason}, so it is not used; --known gives {' and '.join(names)}."
        for doubt in person.doubts
        if doubt.column in (*names, "participant_id")
    ]
    written = {"age": f"age {person.age:g}" if person.age is not None else "", "sex": f"sex {person.sex}"}
    if found:
        notes.append(f"From {person.source}: {', '.join(written[name] for name in found)}.")
    # To a model, a person older than all of its training data is as old as the oldest.
    known: dict[str, float] = {
        name: min(max(value, ranges[name].minimum), ranges[name].maximum) for name, value in found.items()
    }
    if "age" in known and known["age"] != found["age"]:
        notes.append(
            f"{bundle} was trained on ages from {ranges['age'].minimum:g} to {ranges['age'].maximum:g}: "
            f"{found['age']:g} counts as {known['age']:g}."
        )
    return known, notes


def drift_of(text: str) -> float | str:
    """What ``--drift`` says: ``auto`` or a number.

    Raises:
        BadInput: it is neither.
    """
    try:
        return text if text == "auto" else float(text)
    except ValueError as error:
        raise BadInput(f"--drift {text!r} is not understood: write auto, or a number such as 0.5.") from error
