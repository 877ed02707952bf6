"""``braingen sweep``: a series of cases that differ in one number."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from BrainGenLib import requests
from BrainGenLib.cli.changing import DriftUnits, Known, LesionsAt, LesionsBy, Wanted, drift_of, known_of
from BrainGenLib.cli.console import Device, Json, Server, contrast_of, guarded, named_numbers
from BrainGenLib.cli.synthesis import (
    Anatomy,
    LesionAs,
    Lobe,
    Out,
    Pathology,
    Seed,
    Side,
    Style,
    brain,
    name_of,
    named,
    several,
    to_dataset,
)
from BrainGenLib.errors import BadInput
from BrainGenLib.sweeps import spaced

_DEFAULT = requests.Counterfactual.model_fields["bundle"].default


def sweep(
    *,
    out: Out,
    over: Annotated[
        str,
        typer.Option(
            help="NAME=START:STOP:COUNT or NAME=VALUE,VALUE,…: drift, strength, guidance, mass_effect or a condition."
        ),
    ],
    scan: Annotated[Path | None, typer.Option(help="To be changed; without it brains are generated.")] = None,
    wanted: Wanted,
    known: Known,
    pathology: Pathology,
    side: Side,
    lobe: Lobe,
    anatomy: Anatomy,
    contrast: Annotated[list[str], several("--contrast", "T1w, FLAIR, …; of a scan it is recognised")],
    style: Style = None,
    mass_effect: Annotated[float | None, typer.Option(help="As of generate.")] = None,
    segmentation: LesionsAt = None,
    lesion_as: LesionAs = None,
    lesions: LesionsBy = None,
    drift: DriftUnits = None,
    drift_step: Annotated[str | None, typer.Option(help="As of counterfactual.")] = None,
    strength: Annotated[float | None, typer.Option(help="As of counterfactual.")] = None,
    guidance: Annotated[float | None, typer.Option(help="As of counterfactual or generate.")] = None,
    steps: Annotated[int | None, typer.Option(help="As of counterfactual or generate.")] = None,
    variants: Annotated[int | None, typer.Option(help="As of counterfactual.")] = None,
    seed: Seed = None,
    bundle: Annotated[
        str | None, typer.Option(help="Model.", show_default="brain-ldm for a scan, else brainspade3d")
    ] = None,
    device: Device = "auto",
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Make a series of cases over drift, strength, guidance, age, a load …: a film, as sessions of one subject."""
    with guarded(as_json):
        contrast = [contrast_of(one) for one in contrast]
        inputs = named(scan=scan, style=style, segmentation=segmentation)
        name, values = _series(over)
        for_scans = {
            "--set": wanted,
            "--known": known,
            "--segmentation": segmentation,
            "--lesion-as": lesion_as,
            "--lesions": lesions,
            "--drift-step": drift_step,
            "--strength": strength,
            "--variants": variants,
        }
        for_brains = {
            "--pathology": pathology,
            "--side": side,
            "--lobe": lobe,
            "--anatomy": anatomy,
            "--style": style,
            "--mass-effect": mass_effect is not None,
        }
        if misplaced := [option for option, value in (for_scans if scan is None else for_brains).items() if value]:
            kind = "scans; give --scan" if scan is None else "generated brains; leave it or --scan out"
            raise BadInput(f"{misplaced[0]} is of {kind}.")
        if scan is not None and len(contrast) > 1:
            raise BadInput("A scan has one contrast; give --contrast once.")
        own: dict[str, Any]
        if scan is None:
            own = {
                "verb": "generate",
                "contrasts": contrast or None,
                "style": name_of(inputs, style),
                "mass_effect": mass_effect,
                **brain(pathology, side, lobe, anatomy),
            }
        else:
            own = {
                "verb": "counterfactual",
                "scan": name_of(inputs, scan),
                "contrast": next(iter(contrast), None),
                "known": known_of(scan, bundle or _DEFAULT, known, server, as_json),
                "wanted": named_numbers(wanted, "--set"),
                "segmentation": name_of(inputs, segmentation),
                "lesion_as": lesion_as,
                "drift_step": drift_step,
                "strength": strength,
                "variants": variants,
                "lesions": lesions,
            }
        common = {
            "bundle": bundle,
            "device": device,
            "seed": secrets.randbelow(2**32) if seed is None else seed,
            "drift": None if drift is None else drift_of(drift),
            "guidance": guidance,
            "steps": steps,
        }
        # What is not said is what the request has by itself.
        given = {key: value for key, value in {**common, **own}.items() if value is not None}
        request = requests.parse({"verb": "sweep", "of": given, "over": name, "values": values})
        to_dataset([request], inputs, out, server, as_json)


def _series(text: str) -> tuple[str, list[float]]:
    """``age=20:80:7`` or ``age=20,50,80`` to a name and values."""
    name, _, series = text.partition("=")
    try:
        if series.startswith("+"):
            raise ValueError("values are absolute")
        if ":" in series:
            start, stop, count = series.split(":")
            return name, spaced(float(start), float(stop), int(count))
        return name, [float(value) for value in series.split(",")]
    except ValueError as error:
        raise BadInput(
            f"--over {text!r} is not understood: write NAME=START:STOP:COUNT, e.g. age=20:80:7, or NAME=VALUE,VALUE,…"
        ) from error
