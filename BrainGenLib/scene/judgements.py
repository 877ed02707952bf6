"""How a changed scan was judged when it was made, on its nodes: what flip and identity are computed from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from BrainGenLib.case import Case

_ATTRIBUTE, _FIGURES = "BrainGen.judged", ("reached", "similarity")


def note(node: Any, case: Case) -> None:
    """Say of a node how its case was judged, if it was."""
    measured = {key: value for key, value in case.measurements.items() if key in _FIGURES}
    if measured:
        node.SetAttribute(_ATTRIBUTE, json.dumps(measured))


def noted(nodes: Iterable[Any]) -> dict[str, Any]:
    """What :func:`note` said of the nodes of one case."""
    found = (node.GetAttribute(_ATTRIBUTE) for node in nodes)
    return json.loads(next(filter(None, found), "{}"))
