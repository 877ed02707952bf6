"""Generate: the rows of the bundle's conditions, and the requests that they stand for."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib import requests
from BrainGenLib.browser.conditions import generate_request, places, rows
from BrainGenLib.browser.drift import described
from BrainGenLib.browser.logic.engine import EngineLogic
from BrainGenLib.browser.logic.inputs import InputFiles
from BrainGenLib.browser.logic.run import RunLogic
from BrainGenLib.browser.logic.sweep import SweepLogic
from BrainGenLib.browser.state import Choice, EngineState, GenerateState, SceneState, still_there
from BrainGenLib.errors import BadInput

SECTION = "generate"
DEBOUNCE_SECONDS = 0.3
_MAX_CASES = 100


class GenerateLogic:
    def __init__(self, server: Any, scene: Any, engine: EngineLogic, run: RunLogic) -> None:
        self._engine, self._scene, self._run = engine, scene, run
        self._typed: TypedState[GenerateState] = TypedState(server.state, GenerateState)
        self._sweep = SweepLogic(server, SECTION)
        self._waiting: asyncio.TimerHandle | None = None
        data, name = self._typed.data, self._typed.name
        data.sides, data.lobes = places(requests.SIDES), places(requests.LOBES)
        chosen = TypedState(server.state, EngineState)
        chosen.bind_changes({chosen.name.bundle: lambda *_: self._offer()})
        moved = (name.pathologies, name.mass_effect, name.anatomy, name.contrasts, name.style, name.seed, name.live)
        self._typed.bind_changes(
            {
                moved: lambda *_: self._moved(),
                (name.drift, name.own_drift): lambda *_: self._draw_curve(),
                name.contrasts: lambda *_: self._offer_sweep(),
            }
        )
        nodes: TypedState[SceneState] = TypedState(server.state, SceneState)
        nodes.bind_changes({nodes.name.volumes: self._keep_style})
        self._offer()

    def generate(self) -> None:
        """Run what is asked for, with a new seed unless it is to be kept."""
        data = self._typed.data
        if not data.keep_seed and not data.live:
            self.new_seed()
        self._start(draft=data.live and not self._sweep.chosen)

    def new_seed(self) -> None:
        """Draw another seed."""
        self._typed.data.seed = random.randrange(1, 10**6)

    def _offer(self) -> None:
        metadata, data = self._engine.metadata, self._typed.data
        pathologies = [condition for condition in metadata.conditions if condition.kind == "pathology"]
        anatomy = [condition for condition in metadata.conditions if condition.kind != "pathology"]
        data.pathologies, data.anatomy = rows(pathologies, given=True), rows(anatomy, given=False)
        data.known_contrasts, data.contrasts = metadata.contrasts, metadata.contrasts[:1]
        data.labels, data.drifts = not metadata.family, metadata.family == "brain-ldm"
        data.donors = metadata.donors > 0
        if not data.labels:
            data.live, data.style = False, ""
        self._offer_sweep()
        self._draw_curve()

    def _offer_sweep(self) -> None:
        self._sweep.offer("generate", self._engine.metadata, self._typed.data.contrasts)

    def _draw_curve(self) -> None:
        data = self._typed.data
        data.delta, data.curve = described(self._engine.metadata, None if data.own_drift else float(data.drift))

    def _keep_style(self, volumes: list[Choice]) -> None:
        self._typed.data.style = still_there(self._typed.data.style, volumes)

    def _moved(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._typed.data.live:
            self._waiting = asyncio.get_running_loop().call_later(DEBOUNCE_SECONDS, self._draft)

    def _draft(self) -> None:
        """Make a draft as soon as nothing runs that it may not end."""
        if self._run.busy:
            self._moved()
        else:
            self._start(True)

    def _start(self, draft: bool) -> None:
        state = self._typed.get_dataclass()
        state.live = draft
        films = self._sweep.chosen and not draft
        with InputFiles(self._scene) as files:
            try:
                style = files.volume(state.style) if state.style else None
                count = 1 if draft or films else max(1, min(int(state.count), _MAX_CASES))
                cases = [
                    generate_request(
                        state, self._engine.metadata.name, self._engine.device, int(state.seed) + number, style
                    )
                    for number in range(count)
                ]
                asked = [self._sweep.request(cases[0])] if films else cases
                requests.check(asked[0], self._engine.metadata)
                self._run.start(SECTION, asked, files.paths)
            except BadInput as error:
                self._run.refuse(error)
