"""What a bundle understands as rows of the page, and rows back as a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from BrainGenLib.browser.state import Choice, ConditionRow, CounterfactualState, GenerateState
from BrainGenLib.bundles import Condition
from BrainGenLib.requests import Counterfactual, Generate

_STEPS = 100


def rows(conditions: Iterable[Condition], given: bool) -> list[ConditionRow]:
    """A row for every condition, at its default, and whether that is asked for."""
    return [_row(condition, given) for condition in conditions]


def kept(rows: list[ConditionRow], before: Iterable[ConditionRow]) -> list[ConditionRow]:
    """Rows with the choices that were made in others of the same names, as far as they allow them."""
    chosen = {row.name: row for row in before if row.given}
    for row in rows:
        if row.name in chosen and row.minimum <= chosen[row.name].value <= row.maximum:
            row.given, row.value = True, chosen[row.name].value
    return rows


def offered(rows: Iterable[ConditionRow], contrasts: Sequence[str]) -> list[ConditionRow]:
    """Those that can be asked for in contrasts."""
    return [row for row in rows if not row.contrasts or set(contrasts) <= set(row.contrasts)]


def places(names: tuple[str, ...]) -> list[Choice]:
    """The names of :data:`BrainGenLib.requests.SIDES` or ``LOBES``, with one for anywhere."""
    return [Choice("anywhere", ""), *(Choice(name, name) for name in names)]


def generate_request(state: GenerateState, bundle: str, device: str, seed: int, style: str | None) -> Generate:
    """The request that the rows stand for; a pathology at its default is not asked for.

    Raises:
        BadInput: no contrast is chosen, …; :func:`BrainGenLib.requests.check` finds what the bundle cannot do.
    """
    from BrainGenLib import requests

    asked = [row for row in offered(state.pathologies, state.contrasts) if row.value > row.minimum]
    locations = {
        row.name: {"side": row.side or None, "lobe": row.lobe or None}
        for row in asked
        if row.locatable and (row.side or row.lobe)
    }
    request = requests.parse(
        {
            "verb": "generate",
            "bundle": bundle,
            "device": device,
            "seed": seed,
            "pathologies": {row.name: row.value for row in asked},
            "locations": locations,
            "anatomy": _given(state.anatomy, state.contrasts),
            "contrasts": state.contrasts,
            "style": style,
            "draft": state.live,
            **({"mass_effect": state.mass_effect} if state.labels else {}),
            **({"max_share": state.max_share} if state.donors else {}),
            "drift": state.drift if state.drifts and not state.own_drift else None,
        }
    )
    assert isinstance(request, Generate)
    return request


def counterfactual_request(
    state: CounterfactualState, device: str, seed: int, scan: str, segmentation: str | None
) -> Counterfactual:
    """The request that the section stands for.

    Raises:
        BadInput: nothing is wanted, …; :func:`BrainGenLib.requests.check` finds what the bundle cannot do.
    """
    from BrainGenLib import requests

    asked = {
        "verb": "counterfactual",
        "bundle": state.bundle,
        "device": device,
        "seed": seed,
        "scan": scan,
        "contrast": state.contrast or None,
        "wanted": _given(state.wanted, [state.contrast] if state.contrast else []),
        "segmentation": segmentation,
    }
    if state.diffusion:
        asked["known"] = _given(state.known, [])
        asked["drift"] = "auto" if state.auto_drift else state.drift
        asked["strength"], asked["guidance"], asked["variants"] = state.strength, state.guidance, state.variants
        asked["lesions"] = "diffusion" if state.left else "labels"
    request = requests.parse(asked)
    assert isinstance(request, Counterfactual)
    return request


def _given(rows: Iterable[ConditionRow], contrasts: Sequence[str]) -> dict[str, float]:
    return {row.name: row.value for row in offered(rows, contrasts) if row.given}


def _row(condition: Condition, given: bool) -> ConditionRow:
    return ConditionRow(
        name=condition.name,
        label=condition.label,
        unit=condition.short_unit,
        hint=f"{condition.minimum:g} to {condition.maximum:g} {condition.unit}. {condition.trained_on}".strip(),
        minimum=condition.minimum,
        maximum=condition.maximum,
        step=(condition.maximum - condition.minimum) / _STEPS,
        value=condition.default,
        millilitres=condition.millilitres or 0.0,
        locatable=condition.locatable,
        given=given,
        contrasts=condition.contrasts,
    )
