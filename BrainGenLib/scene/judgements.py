"""What was measured of a case while it was made, on its nodes: of a changed scan what flip and identity are computed
from and how old it looks, of a generated case how usual its volumes are for its age and sex, what its lesions
displace, and whose anatomy it has."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from BrainGenLib import sweeps
from BrainGenLib.case import Case

if TYPE_CHECKING:
    from BrainGenLib.scene.case_to_scene import CaseNodes

_AGES = 10, 100
_ATTRIBUTE = "BrainGen.judged"
_FIGURES = ("reached", "similarity", "looks_years_old", "remarks", "person", "mass_effect_mm", "attribution")


def note(node: Any, case: Case) -> None:
    """Keep on a node what was measured of its case, if anything was."""
    measured = {key: value for key, value in case.measurements.items() if key in _FIGURES}
    if measured:
        node.SetAttribute(_ATTRIBUTE, json.dumps(measured))


def noted(nodes: Iterable[Any]) -> dict[str, Any]:
    """What :func:`note` said of the nodes of one case."""
    found = (node.GetAttribute(_ATTRIBUTE) for node in nodes)
    return json.loads(next(filter(None, found), "{}"))


def said(nodes: CaseNodes) -> str:
    """What was measured of a case in a line; nothing if nothing was, or frame by frame."""
    measured = noted(nodes.present)
    if nodes.film:
        return ""
    of_generated = [
        say(measured[name])
        for name, say in (("person", _standing), ("mass_effect_mm", _displacement), ("attribution", _donors))
        if measured.get(name)
    ]
    remarks = [remark.rstrip(".") for remark in measured.get("remarks", [])]
    if of_generated:
        return ". ".join([*of_generated, *remarks])
    if "similarity" not in measured:
        return ""
    case = Case({}, None, np.eye(4), measured)
    parts = [f"identity {sweeps.identity(case):.2f}"]
    if (share := sweeps.flip(case)) is not None:
        parts.append(f"{share:.0%} of what was asked for as measured by {_judges(measured['reached'])}")
    if looks := measured.get("looks_years_old"):
        parts.append(f"looks {_years(looks['before'])}, then {_years(looks['after'])} years old")
    return ". ".join([", ".join(parts), *remarks])


def _standing(person: dict[str, Any]) -> str:
    """Which percentiles volumes have for an age and a sex, which may be anything between 0 (female) and 1."""
    sex = {0: ", female", 1: ", male"}.get(person["sex"], "")
    volumes = ", ".join(f"{name} at percentile {value:.0f}" for name, value in person["percentiles"].items())
    return f"{person['age']:.0f} years{sex}: {volumes}"


def _displacement(measured: dict[str, Any]) -> str:
    at_border = f"tissue moved {measured['obtained']:.1f} mm at the lesion ({measured['requested']:.1f} mm asked for)"
    if (shift := measured.get("midline_shift")) is None:
        return at_border
    return f"midline shifted {abs(shift):.1f} mm to the {'right' if shift > 0 else 'left'}, {at_border}"


def _donors(measured: dict[str, Any]) -> str:
    dice = measured["cortex_dice"]
    return (
        f"{measured['effective_donors']:.1f} effective donors, "
        f"largest region of one {measured['largest_region_ml']:.0f} mL, "
        f"cortex Dice with the nearest {dice['nearest']:.2f} (between people at most {dice['people_largest']:.2f})"
    )


def _judges(reached: Iterable[str]) -> str:
    """Who measured what was reached: models by name, and the segmenter of lesions, whose own misses it cannot see."""
    known = {"model": "the model itself", "age": "the age judge"}
    return " and ".join(dict.fromkeys(known.get(name, "the label map") for name in reached))


def _years(value: float) -> str:
    """An age; what a regression says beyond those that it can have seen is no number to show."""
    low, high = _AGES
    return f"under {low}" if value < low else f"over {high}" if value > high else f"{value:.0f}"
