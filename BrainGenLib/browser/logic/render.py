"""Render from segmentation: segments erased and restored, and an image of what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib import requests
from BrainGenLib.browser.logic.engine import EngineLogic
from BrainGenLib.browser.logic.inputs import InputFiles
from BrainGenLib.browser.logic.run import RunLogic
from BrainGenLib.browser.logic.views import ViewsLogic
from BrainGenLib.browser.state import (
    Choice,
    EngineState,
    GenerateState,
    RenderState,
    SceneState,
    SegmentRow,
    still_there,
)
from BrainGenLib.errors import BadInput
from BrainGenLib.requests import Render
from BrainGenLib.scene.case_to_scene import CASE
from BrainGenLib.scene.editing import copy_to_edit, is_copy
from BrainGenLib.scene.erasing import Erased, erase_segment, restore_segment

SECTION = "render"


class RenderLogic:
    def __init__(self, server: Any, scene: Any, engine: EngineLogic, run: RunLogic, views: ViewsLogic) -> None:
        self._scene, self._engine, self._run, self._views = scene, engine, run, views
        self._typed: TypedState[RenderState] = TypedState(server.state, RenderState)
        self._generate: TypedState[GenerateState] = TypedState(server.state, GenerateState)
        self._erased: dict[str, list[Erased]] = {}
        self.on_edited: Callable[[str], None] = lambda name: None
        nodes: TypedState[SceneState] = TypedState(server.state, SceneState)
        nodes.bind_changes({nodes.name.segmentations: self._keep_segmentation, nodes.name.volumes: self._keep_style})
        self._typed.bind_changes({self._typed.name.segmentation: lambda *_: self._list()})
        chosen: TypedState[EngineState] = TypedState(server.state, EngineState)
        chosen.bind_changes({chosen.name.bundle: lambda *_: self._offer()})
        self._offer()

    def render(self) -> None:
        """Run what is asked for."""
        state = self._typed.get_dataclass()
        with InputFiles(self._scene) as files:
            try:
                request = requests.parse(
                    {
                        "verb": "render",
                        "bundle": self._engine.metadata.name,
                        "device": self._engine.device,
                        "segmentation": files.segmentation(state.segmentation),
                        "contrasts": state.contrasts,
                        "style": files.volume(state.style) if state.style else None,
                        "seed": int(self._generate.data.seed),
                    }
                )
                assert isinstance(request, Render)
                requests.check(request, self._engine.metadata)
                self._run.start(SECTION, [request], files.paths)
            except BadInput as error:
                self._run.refuse(error)

    def erase(self, segment_id: str) -> None:
        """Take a segment out of a copy, which is chosen then; what surrounds it grows over it."""
        node = self._node()
        if node is None or node.GetSegmentation().GetSegment(segment_id) is None:
            return
        if not is_copy(node):
            try:
                copy = copy_to_edit(self._scene, node)
            except BadInput as error:
                self._run.refuse(error)
                return
            node = copy.segmentation
            assert node is not None
            self._views.show(copy)
            self._typed.data.segmentation = node.GetID()
        self._erased.setdefault(node.GetID(), []).append(erase_segment(node, segment_id))
        self._edited(node)

    def restore(self, segment_id: str) -> None:
        """Put a segment back."""
        node = self._node()
        gone = self._erased.get(node.GetID(), []) if node is not None else []
        for erased in [item for item in gone if item.id == segment_id]:
            gone.remove(erased)
            restore_segment(node, erased)
            self._edited(node)

    def _offer(self) -> None:
        metadata, data = self._engine.metadata, self._typed.data
        able = "render" in metadata.verbs
        data.refused = "" if able else f"{metadata.title} cannot make images of labels. Choose another bundle."
        data.contrasts = [name for name in data.contrasts if name in metadata.contrasts] or metadata.contrasts[:1]

    def _edited(self, node: Any) -> None:
        self._views.draw_surfaces(node)
        self._list()
        self.on_edited(node.GetAttribute(CASE))

    def _node(self) -> Any | None:
        return self._scene.GetNodeByID(self._typed.data.segmentation or "")

    def _keep_segmentation(self, segmentations: list[Choice]) -> None:
        for left in set(self._erased) - {choice.value for choice in segmentations}:
            del self._erased[left]
        self._typed.data.segmentation = still_there(self._typed.data.segmentation, segmentations)
        self._list()

    def _keep_style(self, volumes: list[Choice]) -> None:
        self._typed.data.style = still_there(self._typed.data.style, volumes)

    def _list(self) -> None:
        node = self._node()
        if node is None:
            self._typed.data.segments, self._typed.data.erased = [], []
            return
        segmentation = node.GetSegmentation()
        # Lesions are the last of the table, and what people erase.
        ids = reversed(segmentation.GetSegmentIDs())
        self._typed.data.segments = [_row(name, segmentation.GetSegment(name)) for name in ids]
        self._typed.data.erased = [_row(item.id, item.segment) for item in self._erased.get(node.GetID(), [])]


def _row(name: str, segment: Any) -> SegmentRow:
    return SegmentRow(
        name, segment.GetName(), "#{:02x}{:02x}{:02x}".format(*(round(255 * c) for c in segment.GetColor()))
    )
