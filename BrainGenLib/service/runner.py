"""One worker runs the jobs of a server, one by one and fairly between users."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from BrainGenLib.jobs import Failure, State, WorkerProcess
from BrainGenLib.service import store
from BrainGenLib.service.limits import Limits
from BrainGenLib.service.store import Stored

POLL_SECONDS = 0.1
# How often old jobs are searched for when nothing else happens.
IDLE_SECONDS = 600.0

_log = logging.getLogger("uvicorn.error")
_INTERRUPTED = Failure(
    code="interrupted", message="The server was restarted while the job ran.", advice="Submit the job again."
)
_UNREADABLE = Failure(
    code="failed",
    message="The server cannot read or write the folder of this job.",
    advice="Submit the job again; if that does not help, tell the operator of the server.",
)


# What a turn counts at least, and what is expected of a job that waits, in minutes.
TURN_MINUTES = 1.0


def fair_order(waiting: Sequence[Stored], served: Mapping[str, float], least: float) -> list[Stored]:
    """Jobs in the order in which they run: the user served least comes next, each user's own jobs as they came.

    Args:
        waiting: jobs, oldest first.
        served: minutes that users have had.
        least: what counts for users who have had less: nobody saves up turns while away.
    """
    minutes = {stored.ticket.owner: max(served.get(stored.ticket.owner, 0.0), least) for stored in waiting}
    left, order = list(waiting), []
    while left:
        # ``min`` takes the oldest job among equals.
        following = min(left, key=lambda stored: minutes[stored.ticket.owner])
        left.remove(following)
        order.append(following)
        minutes[following.ticket.owner] += TURN_MINUTES
    return order


class Runner:
    """A thread that gives waiting jobs to a worker and watches it. A job that throws stops no other.

    Args:
        folder: of the jobs.
        limits: how long a job may run, and when finished jobs are removed.
        launch: starts a worker; it is called again when the worker has died.
    """

    def __init__(self, folder: Path, limits: Limits, launch: Callable[[], WorkerProcess] = WorkerProcess) -> None:
        self._folder = folder
        self._limits = limits
        self._launch = launch
        self._worker: WorkerProcess | None = None
        self._current: Stored | None = None
        self._served: dict[str, float] = {}
        self._least = 0.0
        # Of jobs whose folder cannot take the reason, because the disk is full.
        self._unwritten: dict[str, Failure] = {}
        self._sweep = store.Sweep(folder, limits)
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

    def state(self, stored: Stored) -> State:
        """Where a job stands; one that cannot be read has failed."""
        if stored.id in self._unwritten:
            return State.FAILED
        try:
            return stored.job.state
        except Exception:
            _log.exception("The state of job %s cannot be read.", stored.id)
            return State.FAILED

    def failure(self, stored: Stored) -> Failure | None:
        """Why a job has no result, once that is known."""
        try:
            return self._unwritten.get(stored.id) or stored.job.failure
        except Exception:
            return _UNREADABLE

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
                self._sweep(self.state)
            except Exception:
                _log.exception("The runner goes on after an error.")
                self._current = None
                self._stopping.wait(1.0)
        if self._worker is not None:
            self._worker.stop()

    def _refresh(self) -> Stored | None:
        """Bring the queue up to date; its first job, if there is one."""
        waiting = []
        found = store.jobs(self._folder)
        for name in self._unwritten.keys() - {stored.id for stored in found}:
            del self._unwritten[name]
        for stored in found:
            try:
                if self._waits(stored):
                    waiting.append(stored)
            except Exception:
                _log.exception("Job %s cannot be read.", stored.id)
                self._unwritten[stored.id] = _UNREADABLE
        order = fair_order(waiting, self._served, self._least)
        self.queue = [stored.id for stored in order]
        return order[0] if order else None

    def _waits(self, stored: Stored) -> bool:
        """Whether a job is to be run; one that nobody runs, and one that was cancelled, ends here."""
        if stored.id in self._unwritten:
            # There may be space by now.
            self._end(stored, self._unwritten[stored.id])
        state = self.state(stored)
        if state.finished or stored == self._current:
            return False
        if state is State.RUNNING:
            self._end(stored, _INTERRUPTED)
            return False
        if stored.job.cancel_requested:
            self._end(stored, Failure(code="cancelled", message="Cancelled."))
            return False
        # One that was removed between the two looks has no state any more, which is not the same as waiting.
        return stored.exists

    def _end(self, stored: Stored, failure: Failure) -> None:
        """Finish a job without a result, if only here and now."""
        try:
            stored.job.fail(failure)
            self._unwritten.pop(stored.id, None)
        except FileNotFoundError:
            # It was removed at this moment.
            self._unwritten.pop(stored.id, None)
        except OSError:
            self._unwritten[stored.id] = failure

    def _work_on(self, stored: Stored) -> None:
        owner = stored.ticket.owner
        self.queue = self.queue[1:]
        if self._worker is not None and not self._worker.alive:
            self._stop_worker()
        if self._worker is None:
            self._worker = self._launch()
        began = time.monotonic()
        self._least = max(self._served.get(owner, 0.0), self._least)
        try:
            self._worker.submit(stored.job)
            self._watch(stored, self._worker, began)
        except Exception:
            _log.exception("Job %s cannot be watched.", stored.id)
            self._stop_worker()
            self._end(stored, _UNREADABLE)
        finally:
            self._served[owner] = self._least + max(TURN_MINUTES, (time.monotonic() - began) / 60)

    def _watch(self, stored: Stored, worker: WorkerProcess, began: float) -> None:
        """Until the job has ended."""
        while not stored.job.state.finished:
            if self._stopping.wait(POLL_SECONDS):
                worker.stop()
                if not stored.job.state.finished:
                    self._end(stored, _INTERRUPTED)
                return
            if not stored.exists:
                # Removed by hand: the worker has nowhere to say how the job ends.
                worker.stop()
                return
            if time.monotonic() - began > self._limits.minutes * 60:
                self._stop_worker()
                if not stored.job.state.finished:
                    self._end(stored, self._too_long())
                return
            stored.job.poll(worker)
            if self._news.is_set():
                self._news.clear()
                self._refresh()
        if (failure := stored.job.failure) is not None and not (stored.job.folder / "error.json").exists():
            # Its watcher knows why, and its folder could not take it.
            self._end(stored, failure)

    def _stop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def _too_long(self) -> Failure:
        return Failure(
            code="bad_input",
            message=f"The job ran longer than the {self._limits.minutes:g} minutes that this server allows.",
            advice="Ask for fewer cases, frames, variants or steps.",
        )
