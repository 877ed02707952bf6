"""What a bundle understands as rows of the page, and rows back as a request."""

from __future__ import annotations

from BrainGenLib.browser.state import Choice, ConditionRow, GenerateState
from BrainGenLib.bundles import Condition, Metadata
from BrainGenLib.requests import Generate

_STEPS = 100


def rows(metadata: Metadata, kind: str) -> list[ConditionRow]:
    """A row for every condition of a kind, at its default."""
    return [_row(condition) for condition in metadata.conditions if condition.kind == kind]


def places(names: tuple[str, ...]) -> list[Choice]:
    """The names of :data:`BrainGenLib.requests.SIDES` or ``LOBES``, with one for anywhere."""
    return [Choice("anywhere", ""), *(Choice(name, name) for name in names)]


def generate_request(state: GenerateState, bundle: str, device: str, seed: int, style: str | None) -> Generate:
    """The request that the rows stand for; a pathology at its default is not asked for.

    Raises:
        BadInput: no contrast is chosen, …; :func:`BrainGenLib.requests.check` finds what the bundle cannot do.
    """
    from BrainGenLib import requests

    asked = [row for row in state.pathologies if row.value > row.minimum]
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
            "anatomy": {row.name: row.value for row in state.anatomy if row.given},
            "contrasts": state.contrasts,
            "style": style,
            "draft": state.live,
        }
    )
    assert isinstance(request, Generate)
    return request


def _row(condition: Condition) -> ConditionRow:
    return ConditionRow(
        name=condition.name,
        label=condition.label,
        unit=condition.unit,
        hint=f"{condition.minimum:g} to {condition.maximum:g} {condition.unit}. {condition.trained_on}".strip(),
        minimum=condition.minimum,
        maximum=condition.maximum,
        step=(condition.maximum - condition.minimum) / _STEPS,
        value=condition.default,
        millilitres=condition.millilitres or 0.0,
        locatable=condition.locatable,
        given=condition.kind == "pathology",
    )
