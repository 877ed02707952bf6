"""The film that the views show: which frame of a sweep is seen, and whether it plays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.logic.views import ViewsLogic
from BrainGenLib.browser.stage import Stage
from BrainGenLib.browser.state import FilmState
from BrainGenLib.scene.case_to_scene import CASE
from BrainGenLib.scene.cases import nodes_of
from BrainGenLib.scene.sequences import nodes_by_frame, swept_over
from BrainGenLib.scene.showing import nodes_of_class


class FilmLogic:
    def __init__(self, server: Any, stage: Stage, views: ViewsLogic) -> None:
        import slicer

        self._server, self._scene, self._views = server, stage.scene, views
        self._typed: TypedState[FilmState] = TypedState(server.state, FilmState)
        self._browser: Any = None
        self._playing: asyncio.Task | None = None
        # It lets the nodes follow their browser.
        self._sequences = stage.app.register_module_logic(slicer.vtkSlicerSequencesLogic())
        name = self._typed.name
        self._typed.bind_changes({name.number: lambda *_: self._turn(), name.playing: lambda *_: self._play()})
        views.on_shown = self._follow

    def _follow(self, shown: Sequence[Any]) -> None:
        """These are the volumes that the views show now."""
        names = {node.GetAttribute(CASE) for node in shown}
        browsers = nodes_of_class(self._scene, "vtkMRMLSequenceBrowserNode")
        # One that is still arriving has no frames.
        able = [one for one in browsers if one.GetAttribute(CASE) in names and one.GetNumberOfItems()]
        self._browser = able[0] if able else None
        if self._browser is None:
            self._typed.set_dataclass(FilmState())
            return
        told = swept_over(self._browser)
        data = self._typed.data
        if data.case != self._browser.GetAttribute(CASE):
            data.case, data.playing = self._browser.GetAttribute(CASE), False
        data.over, data.unit = told["over"], told["unit"]
        data.values = [f"{value:.4g}" for value in nodes_by_frame(self._browser)]
        data.number = self._browser.GetSelectedItemNumber()

    def _turn(self) -> None:
        """Show the frame of that number."""
        number = int(self._typed.data.number)
        if self._browser is None or number == self._browser.GetSelectedItemNumber():
            return
        self._browser.SetSelectedItemNumber(number)
        if not self._typed.data.playing:
            self._draw_surfaces()

    def _draw_surfaces(self) -> None:
        segmentation = nodes_of(self._scene, self._typed.data.case).segmentation
        if segmentation is not None:
            self._views.draw_surfaces(segmentation)

    def _play(self) -> None:
        """Play, or stop: surfaces take longer than a frame is seen, so only one that stands has them."""
        if self._browser is None:
            return
        if not self._typed.data.playing:
            self._draw_surfaces()
            return
        self._views.stop_surfaces()
        if self._playing is None or self._playing.done():
            self._playing = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """One frame after the other, from the first again after the last, until it is stopped."""
        data = self._typed.data
        while data.playing and self._browser is not None:
            data.number = (int(data.number) + 1) % len(data.values)
            self._server.state.flush()
            await asyncio.sleep(1 / self._browser.GetPlaybackRateFps())
