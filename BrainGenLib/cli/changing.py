"""``braingen counterfactual``: a scan, changed."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from BrainGenLib import bundles, participants, requests
from BrainGenLib.cli.console import Device, Json, Server, guarded, named_values
from BrainGenLib.cli.synthesis import Bundle, Out, Seed, check, name_of, named, several, to_dataset
from BrainGenLib.errors import BadInput

Wanted = Annotated[list[str], several("--set", "NAME=VALUE, what should be otherwise, e.g. age=80 or wmh=0")]
Known = Annotated[
    list[str],
    several("--known", "NAME=VALUE, what is so in the scan, e.g. age=60; age and sex of a BIDS tree are read"),
]
LesionsAt = Annotated[Path | None, typer.Option(help="Where the scan's lesions are (labels of BrainGen).")]
DriftUnits = Annotated[
    str | None, typer.Option(help="auto, or standard deviations of the latent's means between subjects.")
]
LesionsBy = Annotated[
    str | None,
    typer.Option(help="labels: drawn exactly; diffusion: as the model changes them.", show_default="labels"),
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
            "contrast": contrast,
            "known": known_of(scan, bundle, known, server),
            "wanted": named_values(wanted, "--set"),
            "drift": drift_of(drift or "0"),
            "drift_step": drift_step,
            "strength": strength,
            "guidance": guidance,
            "steps": steps,
            "variants": variants,
            "lesions": lesions or _DEFAULTS["lesions"],
            "segmentation": name_of(inputs, segmentation),
        }
        parsed = requests.parse(request)
        check(parsed, inputs, server)
        to_dataset([parsed], inputs, out, server, as_json)


def known_of(scan: Path, bundle: str, known: list[str], server: str | None) -> dict[str, Any]:
    """What ``--known`` says, and for what it does not say the BIDS tree around the scan.

    Raises:
        BadInput: one of them is not understood, or there is no such bundle.
    """
    # What a server is told of a person, is told by hand.
    person = _person(scan, bundle) if server is None else {}
    return {**person, **named_values(known, "--known")}


def _person(scan: Path, bundle: str) -> dict[str, float]:
    """What the BIDS tree around a scan says of the person, as far as the bundle understands it."""
    metadata = bundles.find(bundle).metadata
    if not metadata.family:
        return {}
    try:
        found = participants.conditions_of(scan)
    except ValueError as error:
        raise BadInput(str(error)) from error
    # Somebody older than anybody in the training data is as old as the oldest to the model.
    ranges = {condition.name: condition for condition in metadata.conditions}
    return {
        name: min(max(value, ranges[name].minimum), ranges[name].maximum)
        for name, value in found.items()
        if name in ranges
    }


def drift_of(text: str) -> float | str:
    """What ``--drift`` says: ``auto`` or a number.

    Raises:
        BadInput: it is neither.
    """
    try:
        return text if text == "auto" else float(text)
    except ValueError as error:
        raise BadInput(f"--drift {text!r} is not understood: write auto, or a number such as 0.5.") from error
