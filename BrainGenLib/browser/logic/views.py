"""Which cases the views show, and what is written over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.stage import COLUMNS, FOUR_UP, THREE_COLUMNS, TWO_ROWS, Stage
from BrainGenLib.browser.state import Choice, SceneState, ViewsState
from BrainGenLib.browser.surfaces import adding_surfaces
from BrainGenLib.scene.annotations import shown_in
from BrainGenLib.scene.case_to_scene import CASE, MAP, MARK, CaseNodes
from BrainGenLib.scene.changes import show_change
from BrainGenLib.scene.segmentation import look_inside
from BrainGenLib.scene.showing import clear, compare, show

# A new arrangement reaches the browser, which answers with the sizes of its views.
_RESIZE_SECONDS = 3.0
_CAMERA = np.array([-0.72, 0.60, 0.34])
_CAMERA_MM = 430.0
PREVIEW = "preview"


class ViewsLogic:
    def __init__(self, server: Any, stage: Stage) -> None:
        self._server, self._stage = server, stage
        self._views: TypedState[ViewsState] = TypedState(server.state, ViewsState)
        self._scene: TypedState[SceneState] = TypedState(server.state, SceneState)
        self._surfaces: asyncio.Task | None = None
        # Counts what was asked to be shown, so that what comes late puts nothing back.
        self._asked = 0
        self.on_shown: Callable[[list[Any]], None] = lambda volumes: None
        self._views.bind_changes({self._views.name.outlines: lambda *_: self._outline()})
        self.four_up()

    def four_up(self) -> None:
        """Slicer's arrangement of three slices and a 3D view."""
        import slicer

        self._stage.arrangement.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._arrange(FOUR_UP)

    def show(self, nodes: CaseNodes, point: np.ndarray | None = None, contrast: str | None = None) -> None:
        """Show a case; the arguments are those of :func:`BrainGenLib.scene.showing.show`."""
        self._asked += 1
        if self._views.data.layout != FOUR_UP:
            self.four_up()
        show(self._stage.scene, nodes, point, contrast)
        if nodes.segmentation is not None:
            if point is not None:
                self._look_at(nodes.segmentation)
            self.draw_surfaces(nodes.segmentation)
        self._outline()
        self.refresh()

    def clear(self) -> None:
        """Show nothing."""
        self._asked += 1
        self.stop_surfaces()
        clear(self._stage.scene)
        self.refresh()

    async def compare(self, first: CaseNodes, second: CaseNodes) -> None:
        """Show two cases in a row of views each, which move together."""
        await self._lay_out(TWO_ROWS, lambda: compare(self._stage.scene, first, second, rows=COLUMNS[:2]))

    async def show_change(self, nodes: CaseNodes, point: np.ndarray | None) -> None:
        """Show a changed scan beside what it was; as :func:`BrainGenLib.scene.changes.show_change`."""
        await self._lay_out(THREE_COLUMNS, lambda: show_change(self._stage.scene, nodes, point, COLUMNS))

    async def _lay_out(self, layout: str, fill: Callable[[], None]) -> None:
        """Arrange views, and fill them."""
        self._asked += 1
        asked = self._asked
        views = self._stage.app.view_manager
        fill()
        self._arrange(layout)
        self._outline()
        self.refresh()
        self._server.state.flush()
        before = [view.get_view_node().GetDimensions() for view in views.get_slice_views()]
        end = asyncio.get_running_loop().time() + _RESIZE_SECONDS
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.1)
            if before != [view.get_view_node().GetDimensions() for view in views.get_slice_views()]:
                break
        await asyncio.sleep(0.2)
        # Once more, for the sizes that the views have now.
        if self._asked == asked:
            fill()
            self._server.state.flush()

    def draw_surfaces(self, segmentation: Any) -> None:
        """Build the surfaces that the 3D view still lacks, a little at a time."""
        self.stop_surfaces()
        # A film replaces all segments with each frame, and with them what is said of each.
        look_inside(segmentation)
        self._surfaces = asyncio.get_running_loop().create_task(self._build(segmentation))

    def stop_surfaces(self) -> None:
        """Leave off building surfaces."""
        if self._surfaces is not None:
            self._surfaces.cancel()

    def refresh(self) -> None:
        """Bring lists of nodes and captions up to date with the scene, in every open page at once."""
        volumes = self._nodes("vtkMRMLScalarVolumeNode")
        self._scene.data.volumes = _choices([node for node in volumes if not node.GetAttribute(MAP)])
        self._scene.data.segmentations = _choices(self._nodes("vtkMRMLSegmentationNode"))
        views = self._stage.app.view_manager
        marks = {}
        for view in (*views.get_slice_views(), *views.get_threed_views()):
            shown = shown_in(view.get_view_node())
            marks[view.get_singleton_tag()] = " ".join([shown.name] + [MARK] * shown.synthetic)
            view.schedule_render()
        self._views.data.marks = marks
        layers = (
            self._stage.scene.GetNodeByID(layer or "")
            for view in views.get_slice_views()
            for layer in (view.get_background_volume_id(), view.get_foreground_volume_id())
        )
        shown_volumes = [node for node in layers if node is not None]
        segmentations = [
            node for node in self._nodes("vtkMRMLSegmentationNode") if node.GetDisplayNode().GetVisibility()
        ]
        cases = dict.fromkeys(node.GetAttribute(CASE) for node in (*shown_volumes, *segmentations))
        self._views.data.shown = [name for name in cases if name]
        self.on_shown(shown_volumes)
        self._server.state.flush()

    def _outline(self) -> None:
        for node in self._nodes("vtkMRMLSegmentationNode"):
            node.GetDisplayNode().SetVisibility2DOutline(self._views.data.outlines)

    def _arrange(self, layout: str) -> None:
        self._stage.layouts.set_layout(layout)
        self._views.data.layout = layout

    async def _build(self, segmentation: Any) -> None:
        for _ in adding_surfaces(segmentation):
            await asyncio.sleep(0.01)

    def _look_at(self, segmentation: Any) -> None:
        bounds = np.zeros(6)
        segmentation.GetRASBounds(bounds)
        centre = bounds.reshape(3, 2).mean(1)
        for view in self._stage.app.view_manager.get_threed_views():
            camera = view.get_camera_node()
            camera.SetFocalPoint(*centre)
            camera.SetPosition(*(centre + _CAMERA / np.linalg.norm(_CAMERA) * _CAMERA_MM))
            camera.SetViewUp(0, 0, 1)
            camera.ResetClippingRange()

    def _nodes(self, kind: str) -> list[Any]:
        scene = self._stage.scene
        return [scene.GetNthNodeByClass(index, kind) for index in range(scene.GetNumberOfNodesByClass(kind))]


def _choices(nodes: list[Any]) -> list[Choice]:
    return [Choice(node.GetName(), node.GetID()) for node in nodes if node.GetAttribute(CASE) != PREVIEW]
