"""The run under way: started by a section, watched every 200 ms, its cases put into the scene."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.logic.results import ResultsLogic
from BrainGenLib.browser.logic.views import PREVIEW, ViewsLogic
from BrainGenLib.browser.state import RunState
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import State
from BrainGenLib.requests import Generate, Request
from BrainGenLib.scene import changes
from BrainGenLib.scene.case_to_scene import adding
from BrainGenLib.scene.cases import case_names, nodes_of, remove_case
from BrainGenLib.scene.showing import most_to_see
from BrainGenLib.session import Session, Update

_POLL_SECONDS = 0.2


class RunLogic:
    """Runs requests for the sections.

    Args:
        server: of trame.
        scene: vtkMRMLScene.
        views: shows what arrives.
        results: keeps it.
        session: where the requests run.
    """

    def __init__(self, server: Any, scene: Any, views: ViewsLogic, results: ResultsLogic, session: Session) -> None:
        self._server, self._scene, self._views, self._results = server, scene, views, results
        self._session = session
        self._typed: TypedState[RunState] = TypedState(server.state, RunState)
        self._task: asyncio.Task | None = None
        self._runs = 0
        self._began = 0.0
        self._placed = False
        self._of = ""
        # What was said last of a request that was not started.
        self._refusal = ""

    def start(self, section: str, requests: Sequence[Request], inputs: Mapping[str, Path], of: str = "") -> None:
        """Run requests; they take the place of a draft, but of nothing else that runs.

        Args:
            section: whose button becomes Cancel.
            requests: as for :meth:`BrainGenLib.session.Session.start`.
            inputs: the files that they name; they may be removed when this returns.
            of: ID of the volume that the cases are a change or a segmentation of, if they are one.

        Raises:
            BadInput: as :meth:`BrainGenLib.session.Session.start`.
        """
        self._session.start(requests, inputs)
        self._runs += 1
        self._of = of
        self._began = time.monotonic()
        self._typed.set_dataclass(RunState(section=section, stage="starting", busy=self.busy))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())

    @property
    def busy(self) -> str:
        """As :attr:`BrainGenLib.session.Session.busy`."""
        return self._session.busy

    def cancel(self) -> None:
        """Ask the run to stop."""
        self._session.cancel()
        self._typed.data.stage, self._typed.data.busy = "stopping", ""

    def refuse(self, error: BadInput) -> None:
        """Say why nothing was started."""
        self._refusal = str(error)
        self._typed.data.failure, self._typed.data.advice, self._typed.data.details = self._refusal, "", ""

    async def _watch(self) -> None:
        while self._session.running:
            run = self._runs
            try:
                update = self._session.poll()
                if update is not None:
                    await self._take(update, run)
            # A broken case must not end the watching: the button would say Cancel for ever.
            except Exception as error:
                self._typed.data.failure = f"The result cannot be shown: {error}"
            self._server.state.flush()
            await asyncio.sleep(_POLL_SECONDS)
        # What was superseded last is still on disk until the next look.
        self._session.poll()
        self._typed.data.section = self._typed.data.busy = ""
        self._server.state.flush()

    async def _take(self, update: Update, run: int) -> None:
        self._tell(update)
        self._server.state.flush()
        draft = isinstance(update.request, Generate) and update.request.draft
        if update.failure is not None:
            self._drop_preview()
        if update.preview is not None and update.result is None:
            await self._place(update.preview, PREVIEW, run)
        if update.result is not None:
            name = PREVIEW if draft else self._free_name(update.request.verb)
            case = await self._place(update.result, name, run)
            if name != PREVIEW and case is not None:
                remove_case(self._scene, PREVIEW)
                self._views.refresh()
                self._results.refresh()
                scan = self._scene.GetNodeByID(self._of) if self._of else None
                await self._results.keep(name, case, scan)

    def _drop_preview(self) -> None:
        """What will not be finished goes; the newest case takes its place in the views."""
        if PREVIEW not in case_names(self._scene):
            return
        remove_case(self._scene, PREVIEW)
        self._views.refresh()
        if names := case_names(self._scene):
            self._views.show(nodes_of(self._scene, names[-1]))

    async def _place(self, folder: Path, name: str, run: int) -> Case | None:
        """Read a case and put it into the scene, unless a newer run has begun; the page answers in between."""
        case = await asyncio.to_thread(Case.load, folder)
        if run != self._runs:
            return None
        remove_case(self._scene, name)
        for added in adding(self._scene, case, name):
            nodes = added
            await asyncio.sleep(0)
        scan = self._scene.GetNodeByID(self._of) if self._of and name != PREVIEW else None
        # Where the user has put the slices they stay, except for the first picture, and for what lies elsewhere.
        point = None if self._placed and scan is None else await asyncio.to_thread(most_to_see, case)
        self._placed = True
        if scan is not None:
            changes.remember(nodes, scan)
        if changes.before(nodes) is not None:
            await self._views.show_change(nodes, point)
        else:
            self._views.show(nodes, point)
        return case

    def _tell(self, update: Update) -> None:
        data = self._typed.data
        data.busy = self.busy
        event = update.progress
        if event is not None:
            several = f"{update.number} of {update.of}: " if update.of > 1 else ""
            data.stage = f"{several}{event.stage} {event.message}".strip()
            if event.seconds_left is not None:
                spent = time.monotonic() - self._began
                data.percent = round(100 * spent / max(spent + event.seconds_left, 0.1), 1)
                data.left = event.remaining
        if update.failure is not None and update.state is State.CANCELLED:
            data.ended = "Cancelled."
        elif update.failure is not None:
            data.failure, data.advice = update.failure.message, update.failure.advice
            data.details = update.failure.traceback
        elif update.result is not None:
            data.ended = f"Done in {time.monotonic() - self._began:.1f} s."
            if data.failure == self._refusal:
                # Of another click meanwhile, as in another page: it would hide how this run ended.
                data.failure = ""

    def _free_name(self, verb: str) -> str:
        number = 1
        while (name := f"{verb}-{number:02d}") != self._results.free_name(name):
            number += 1
        return name
