"""The browser app without a browser, for tests."""

import asyncio
import time

from patience import PATIENCE
from trame.app import get_server
from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.app import BrowserApp
from BrainGenLib.browser.shelf import Shelf
from BrainGenLib.browser.state import (
    CounterfactualState,
    EngineState,
    GenerateState,
    RenderState,
    ResultsState,
    RunState,
    SceneState,
    SegmentState,
    UploadState,
    ViewsState,
)
from BrainGenLib.scene.cases import case_of
from BrainGenLib.session import Session


class Front:
    """The app with a loop of its own, a folder that keeps its results, and its typed states."""

    def __init__(self, name, folder):
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.session = Session()
        self.app = self.do(lambda: self._build(name))
        state = self.app.server.state
        self.engine, self.generate, self.render, self.segment, self.counterfactual = (
            TypedState(state, kind).data
            for kind in (EngineState, GenerateState, RenderState, SegmentState, CounterfactualState)
        )
        self.results, self.run, self.scene, self.views = (
            TypedState(state, kind).data for kind in (ResultsState, RunState, SceneState, ViewsState)
        )
        self.upload = TypedState(state, UploadState).data
        state.ready()

    async def _build(self, name):
        return BrowserApp(get_server(name, client_type="vue3"), self.session, Shelf(self.folder))

    def do(self, action):
        """Call an action, as a click would, and let the state settle."""

        async def act():
            result = action()
            if asyncio.iscoroutine(result):
                result = await result
            return result

        result = self.loop.run_until_complete(act())
        if hasattr(self, "app"):
            self.loop.run_until_complete(self._flush())
        return result

    async def _flush(self):
        self.app.server.state.flush()

    def until(self, condition):
        """Let the loop run until a condition holds."""

        async def wait():
            end = time.monotonic() + PATIENCE
            while not condition():
                assert time.monotonic() < end, f"not in time: {self.run.stage} {self.run.failure}"
                await asyncio.sleep(0.02)

        self.loop.run_until_complete(wait())

    def finish(self):
        """Let the loop run until nothing runs any more."""
        self.until(lambda: not self.run.section)

    def ask(self, name, value):
        """Move the slider of a pathology."""
        rows = self.generate.pathologies
        next(row for row in rows if row.name == name).value = value
        self.generate.pathologies = rows

    def case(self, name):
        return case_of(self.app.scene, name)
