"""Results: the cases of the scene and the files of the user, shown, compared and deleted; kept on disk."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.logic.views import PREVIEW, ViewsLogic
from BrainGenLib.browser.shelf import Shelf, Source
from BrainGenLib.browser.state import CaseRow, ResultsState, RunState, ViewsState
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.scene import judgements
from BrainGenLib.scene.case_to_scene import CASE, CONTRAST, MARK, SYNTHETIC, CaseNodes, adding
from BrainGenLib.scene.cases import case_names, free_name, nodes_of, reading, remove_case
from BrainGenLib.scene.changes import before, remember
from BrainGenLib.scene.showing import bounds_of, image_of


class ResultsLogic:
    def __init__(self, server: Any, scene: Any, shelf: Shelf, views: ViewsLogic) -> None:
        self._server, self._scene, self._shelf, self._views = server, scene, shelf, views
        self._typed: TypedState[ResultsState] = TypedState(server.state, ResultsState)
        self._run: TypedState[RunState] = TypedState(server.state, RunState)
        self._shown = TypedState(server.state, ViewsState).data
        self._typed.data.kept = str(shelf.folder)
        # Copies that were edited since they were written to disk.
        self._unkept: set[str] = set()
        self._keeping: asyncio.Task | None = None

    @property
    def rows(self) -> list[CaseRow]:
        """Of the cases."""
        return self._typed.data.cases

    async def restore(self) -> None:
        """Put what was kept on disk into the scene; the page answers in between."""
        for name in self._shelf.names:
            try:
                case, of = await asyncio.to_thread(self._shelf.load, name)
                nodes = await self._place(name, case, self._image(of))
                if nodes.segmentation is not None:
                    # Nobody has asked for it to be shown.
                    nodes.segmentation.GetDisplayNode().SetVisibility(False)
            # Whatever became of its files: the others are to come back.
            except Exception as error:
                logging.getLogger(__name__).warning("%s is not shown again: %s", name, error)
                self._run.data.failure = f"{name} of an earlier session cannot be read any more: {error}"
            self.refresh()
            self._views.refresh()

    async def add(self, wanted: str, case: Case, of: Any | None = None) -> CaseNodes:
        """Put a file of the user into the scene, and keep it; its nodes have the name of the file.

        Args:
            wanted: its name, unless there is one of that name.
            case: an image or labels.
            of: the volume node that labels are of, if there is one.
        """
        name = self.free_name(wanted)
        nodes = await self._place(name, case, of)
        await self.keep(name, case, of)
        return nodes

    async def keep(self, name: str, case: Case, of: Any | None = None) -> None:
        """Write a case of the scene to disk and list it; where that fails, the page says so.

        Args:
            name: of the case.
            case: with its arrays.
            of: the volume node that it is a change or a segmentation of, if it is one.
        """
        if name not in case_names(self._scene):
            # Deleted meanwhile.
            return
        try:
            await asyncio.to_thread(self._shelf.keep, name, case, _source(of))
        except OSError as error:
            self._run.data.failure = f"{name} is not kept on disk ({error.strerror}): download it before you leave."
        self.refresh()

    def edited(self, name: str) -> None:
        """List a copy of labels that was made or edited, and write it to disk as it is now."""
        self.refresh()
        self._unkept.add(name)
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.get_running_loop().create_task(self._keep_edited())

    async def _keep_edited(self) -> None:
        while self._unkept:
            name = self._unkept.pop()
            if name not in case_names(self._scene):
                continue
            of = image_of(nodes_of(self._scene, name))
            try:
                for case in reading(self._scene, name):  # noqa: B007
                    await asyncio.sleep(0)
                await self.keep(name, case, of)
            except BadInput as error:
                self._run.data.failure = f"{name} is not kept on disk as it is now: {error}"
            self._server.state.flush()

    def free_name(self, wanted: str) -> str:
        """A name that no case has, in the scene or still on its way there."""
        return free_name(self._scene, wanted, [PREVIEW, *self._shelf.names])

    async def show(self, name: str, contrast: str | None = None) -> None:
        """Show a case: all of it, a changed scan beside what it was; or in a contrast, where the slices stand."""
        nodes = nodes_of(self._scene, name)
        if contrast is None and before(nodes) is not None:
            await self._views.show_change(nodes, bounds_of(nodes).mean(1))
        else:
            self._views.show(nodes, bounds_of(nodes).mean(1) if contrast is None else None, contrast)

    def show_node(self, node_id: str) -> None:
        """Show a volume or segmentation that was chosen in a list, by the ID of its node."""
        node = self._scene.GetNodeByID(node_id or "")
        if node is not None:
            nodes = nodes_of(self._scene, node.GetAttribute(CASE))
            self._views.show(nodes, bounds_of(nodes).mean(1), node.GetAttribute(CONTRAST))

    async def compare(self) -> None:
        """Show the two chosen cases side by side."""
        first, second = (nodes_of(self._scene, name) for name in self._chosen()[:2])
        await self._views.compare(first, second)

    def delete(self) -> None:
        """Take the chosen cases out of the scene, and off the disk; what was shown with them is shown alone."""
        before = self._shown.shown
        for name in self._chosen():
            remove_case(self._scene, name)
            self._shelf.remove(name)
        self.refresh()
        self._views.refresh()
        left = [name for name in before if name in case_names(self._scene)]
        if left and left != before:
            self._views.show(nodes_of(self._scene, left[-1]))
        elif before and not left:
            self._views.clear()

    def refresh(self) -> None:
        """Bring the rows up to date with the scene."""
        chosen = self._chosen()
        names = [name for name in case_names(self._scene) if name != PREVIEW]
        self._typed.data.cases = [_row(name, nodes_of(self._scene, name), name in chosen) for name in names]

    def _chosen(self) -> list[str]:
        return [row.name for row in self.rows if row.chosen]

    async def _place(self, name: str, case: Case, of: Any | None) -> CaseNodes:
        for nodes in adding(self._scene, case, name):  # noqa: B007
            await asyncio.sleep(0)
        if not case.provenance:
            for volume in nodes.volumes.values():
                # A file of an earlier session may be an image that a model made.
                volume.SetName(f"{name} {MARK}" if case.synthetic and MARK not in name else name)
        if of is not None:
            remember(nodes, of)
        return nodes

    def _image(self, of: Source | None) -> Any | None:
        """The volume node of an image, if it is in the scene."""
        if of is None or of.case not in case_names(self._scene):
            return None
        return nodes_of(self._scene, of.case).volumes.get(of.contrast)


def _source(image: Any | None) -> Source | None:
    """Whose image a volume node is; nothing is known of one that belongs to no case."""
    if image is None or not image.GetAttribute(CASE):
        return None
    return Source(image.GetAttribute(CASE), image.GetAttribute(CONTRAST))


def _row(name: str, nodes: CaseNodes, chosen: bool) -> CaseRow:
    """A case with the gist of its request."""
    made = json.loads(nodes.provenance.GetText()) if nodes.provenance is not None else {}
    request = made.get("request", {})
    of = request.get("of", request)
    parts = [f"{pathology} {load:.2f}" for pathology, load in of.get("pathologies", {}).items()]
    parts += [f"{condition} {value:g}" for condition, value in of.get("wanted", {}).items()]
    if "over" in request:
        parts.insert(0, f"{request['over']} {request['values'][0]:.4g} to {request['values'][-1]:.4g}")
    if of.get("verb") == "generate":
        parts.append(f"seed {of['seed']}")
    image = None if nodes.volumes else image_of(nodes)
    if image is not None and image.GetAttribute(CASE) != name:
        parts.append(f"labels of {image.GetName().removesuffix(f' {MARK}')}")
    if verdict := judgements.said(nodes):
        parts.append(verdict)
    uploaded = not made
    if uploaded:
        parts.insert(0, "your file")
    synthetic = nodes.present[0].GetAttribute(SYNTHETIC) == MARK
    # The difference is shown with the case itself.
    contrasts = [] if uploaded else [*nodes.volumes, *(kind for kind in nodes.maps if kind != "difference")]
    # Labels that a model made, or that were edited, have no images of their own to stand beside in a dataset.
    exported = not uploaded and (bool(nodes.volumes) or not synthetic) and "edited" not in made
    return CaseRow(name, " · ".join(parts), contrasts, synthetic, exported, chosen)
