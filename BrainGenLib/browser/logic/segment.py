"""Segment a scan."""

from __future__ import annotations

from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib import requests
from BrainGenLib.browser.logic.engine import EngineLogic
from BrainGenLib.browser.logic.inputs import InputFiles
from BrainGenLib.browser.logic.run import RunLogic
from BrainGenLib.browser.state import Choice, SceneState, SegmentState, still_there
from BrainGenLib.errors import BadInput

SECTION = "segment"


class SegmentLogic:
    def __init__(self, server: Any, scene: Any, engine: EngineLogic, run: RunLogic) -> None:
        self._scene, self._engine, self._run = scene, engine, run
        self._typed: TypedState[SegmentState] = TypedState(server.state, SegmentState)
        self._typed.data.bundles = engine.bundles_that("segment")
        self._typed.data.bundle = next((choice.value for choice in self._typed.data.bundles), "")
        nodes: TypedState[SceneState] = TypedState(server.state, SceneState)
        nodes.bind_changes({nodes.name.volumes: self._keep_scan})

    def segment(self) -> None:
        """Run what is asked for."""
        data = self._typed.data
        with InputFiles(self._scene) as files:
            try:
                request = requests.parse(
                    {
                        "verb": "segment",
                        "bundle": data.bundle,
                        "device": self._engine.device,
                        "scan": files.volume(data.scan),
                    }
                )
                self._run.start(SECTION, [request], files.paths, of=data.scan)
            except BadInput as error:
                self._run.refuse(error)

    def _keep_scan(self, volumes: list[Choice]) -> None:
        self._typed.data.scan = still_there(self._typed.data.scan, volumes)
