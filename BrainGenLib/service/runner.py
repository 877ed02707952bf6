"""One worker runs the jobs of a server, one by one and fairly between users."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from BrainGenLib.jobs import Failure, State, WorkerProcess
from BrainGenLib.service import store
from BrainGenLib.service.limits import Limits
from BrainGenLib.service.store import Stored

POLL_SECONDS = 0.1
# How often old jobs are looked for when nothing else happens.
IDLE_SECONDS = 600.0

_log = logging.getLogger("uvicorn.error")
_INTERRUPTED = Failure(
    code="interrupted", message="The server was restarted while the job ran.", advice="Submit the job again."
)


def fair_order(waiting: Sequence[Stored], served: Mapping[str, int]) -> list[Stored]:
    """Jobs in the order in which they run: round robin over users, each user's own first come, first served.

    Args:
        waiting: jobs, oldest first.
        served: number of the turn in which a user was served last.
    """
    turns = dict(served)
    turn = max(turns.values(), default=0)
    left, order = list(waiting), []
    while left:
        # The first of those who waited longest for a turn; ``min`` takes the oldest job among equals.
        following = min(left, key=lambda stored: turns.get(stored.ticket.owner, 0))
        left.remove(following)
        order.append(following)
        turn += 1
        turns[following.ticket.owner] = turn
    return order


class Runner:
    """A thread that gives waiting jobs to a worker and watches it.

    Args:
        folder: of the jobs.
        limits: when finished jobs are removed.
        launch: starts a worker; it is called again when the worker has died.
    """

    def __init__(self, folder: Path, limits: Limits, launch: Callable[[], WorkerProcess] = WorkerProcess) -> None:
        self._folder = folder
        self._limits = limits
        self._launch = launch
        self._worker: WorkerProcess | None = None
        self._current: Stored | None = None
        self._served: dict[str, int] = {}
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runner")
        self.queue: list[str] = []
        """Ids of the waiting jobs in the order in which they will run."""

    def start(self) -> None:
        """Begin with what the folder holds."""
        self._thread.start()

    def holds(self, stored: Stored) -> bool:
        """Whether the job is at the worker; for a moment yet after it has finished."""
        return stored == self._current

    def look(self) -> None:
        """Look at the folder: a job came, or is to be cancelled."""
        self._news.set()

    def stop(self) -> None:
        """End the worker; the job that runs is interrupted, those that wait stay for the next start."""
        self._stopping.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            # A full disk or a folder gone must not end the service.
            try:
                self._news.clear()
                if (stored := self._refresh()) is not None:
                    self._current = stored
                    self._work_on(stored)
                    self._current = None
                else:
                    self._news.wait(IDLE_SECONDS)
                store.sweep(self._folder, self._limits)
            except Exception:
                _log.exception("The runner goes on after an error.")
                self._current = None
                self._stopping.wait(1.0)
        if self._worker is not None:
            self._worker.stop()

    def _refresh(self) -> Stored | None:
        """Bring the queue up to date; its first job, if there is one."""
        waiting = []
        for stored in store.jobs(self._folder):
            state = stored.job.state
            if state.finished or stored == self._current:
                continue
            if state is State.RUNNING:
                # Nobody runs it: the server died, or could not write how it ended.
                stored.job.fail(_INTERRUPTED)
            elif stored.job.cancel_requested:
                stored.job.fail(Failure(code="cancelled", message="Cancelled."))
            # One that was removed between the two looks has no state any more, which is not the same as waiting.
            elif stored.exists:
                waiting.append(stored)
        order = fair_order(waiting, self._served)
        self.queue = [stored.id for stored in order]
        return order[0] if order else None

    def _work_on(self, stored: Stored) -> None:
        self._served[stored.ticket.owner] = 1 + max(self._served.values(), default=0)
        self.queue = self.queue[1:]
        if self._worker is not None and not self._worker.alive:
            self._worker.stop()
            self._worker = None
        if self._worker is None:
            self._worker = self._launch()
        self._worker.submit(stored.job)
        while not stored.job.state.finished:
            if self._stopping.wait(POLL_SECONDS):
                self._worker.stop()
                if not stored.job.state.finished:
                    stored.job.fail(_INTERRUPTED)
                return
            if not stored.exists:
                # Removed by hand: the worker has nowhere to say how the job ends.
                self._worker.stop()
                return
            stored.job.poll(self._worker)
            if self._news.is_set():
                self._news.clear()
                self._refresh()
