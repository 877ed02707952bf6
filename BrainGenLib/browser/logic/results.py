"""Results: the cases of the scene, shown, compared and deleted."""

from __future__ import annotations

import json
from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.logic.run import RunLogic
from BrainGenLib.browser.logic.views import PREVIEW, ViewsLogic
from BrainGenLib.browser.state import CaseRow, ResultsState
from BrainGenLib.scene import judgements
from BrainGenLib.scene.case_to_scene import MARK, SYNTHETIC, CaseNodes
from BrainGenLib.scene.cases import case_names, nodes_of, remove_case
from BrainGenLib.scene.changes import before
from BrainGenLib.scene.showing import bounds_of


class ResultsLogic:
    def __init__(self, server: Any, scene: Any, run: RunLogic, views: ViewsLogic) -> None:
        self._scene, self._views = scene, views
        self._typed: TypedState[ResultsState] = TypedState(server.state, ResultsState)
        run.on_case = self._arrived

    async def show(self, name: str, contrast: str | None = None) -> None:
        """Show a case: all of it, a changed scan beside what it was; or in a contrast, where the slices stand."""
        nodes = nodes_of(self._scene, name)
        if contrast is None and before(nodes) is not None:
            await self._views.show_change(nodes, bounds_of(nodes).mean(1))
        else:
            self._views.show(nodes, bounds_of(nodes).mean(1) if contrast is None else None, contrast)

    async def compare(self) -> None:
        """Show the two chosen cases side by side."""
        first, second = (nodes_of(self._scene, name) for name in self._chosen()[:2])
        await self._views.compare(first, second)

    def delete(self) -> None:
        """Take the chosen cases out of the scene."""
        for name in self._chosen():
            remove_case(self._scene, name)
        self._list({})
        self._views.refresh()

    def _chosen(self) -> list[str]:
        return [row.name for row in self._typed.data.cases if row.chosen]

    def _arrived(self, name: str) -> None:
        self._list({row.name: row.chosen for row in self._typed.data.cases})

    def _list(self, chosen: dict[str, bool]) -> None:
        names = [name for name in case_names(self._scene) if name != PREVIEW]
        self._typed.data.cases = [_row(name, nodes_of(self._scene, name), chosen.get(name, False)) for name in names]


def _row(name: str, nodes: CaseNodes, chosen: bool) -> CaseRow:
    """A case with the gist of its request."""
    request = json.loads(nodes.provenance.GetText()).get("request", {}) if nodes.provenance is not None else {}
    of = request.get("of", request)
    parts = [f"{pathology} {load:.2f}" for pathology, load in of.get("pathologies", {}).items()]
    parts += [f"{condition} {value:g}" for condition, value in of.get("wanted", {}).items()]
    if "over" in request:
        parts.insert(0, f"{request['over']} {request['values'][0]:.4g} to {request['values'][-1]:.4g}")
    if of.get("verb") == "generate":
        parts.append(f"seed {of['seed']}")
    if verdict := judgements.said(nodes):
        parts.append(verdict)
    synthetic = nodes.present[0].GetAttribute(SYNTHETIC) == MARK
    return CaseRow(name, " · ".join(parts), list(nodes.volumes), synthetic, chosen)
