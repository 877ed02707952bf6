"""A front end at work: one warm worker, the newest requests, and what has happened to them since the last look.

Slicer looks with a timer, the browser app with an asyncio task; nothing here waits for a model.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Event, Failure, Job, State, WorkerProcess
from BrainGenLib.requests import Request
from BrainGenLib.scratch import Scratch


@dataclass(frozen=True)
class Update:
    """What a look at the running job found.

    Attributes:
        request: what was asked for.
        number, of: which of the requests that were started together this is, from 1.
        state: of the job.
        progress: the newest event that says how far the job is, or None.
        preview: case folder of the newest preview since the last look, or None.
        result: case folder, once done. Read it before the next look, which removes it: a hundred would fill the disk.
        failure: why there is no result.
    """

    request: Request
    number: int
    of: int
    state: State
    progress: Event | None = None
    preview: Path | None = None
    result: Path | None = None
    failure: Failure | None = None


class Session:
    """Runs requests one after the other. Only a draft gives way to newer requests: nothing else ends another's run.

    Args:
        launch: starts a worker, on this machine or one that hands jobs to a server. It is called again when the
            worker has died.
    """

    def __init__(self, launch: Callable[[], WorkerProcess] = WorkerProcess) -> None:
        self._launch = launch
        self._scratch = Scratch()
        self._folder = self._scratch.folder
        self._worker: WorkerProcess | None = None
        self._jobs: deque[tuple[Job, Request]] = deque()
        self._of = 0
        self._made = 0
        self._read: Job | None = None
        self._remaining = ""
        self._cancelled = False

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return bool(self._jobs)

    @property
    def busy(self) -> str:
        """What must end before other requests can start, e.g. ``generate, 23 s left``; empty if nothing must."""
        if not self._jobs or self._cancelled:
            return ""
        request = self._jobs[0][1]
        if getattr(request, "draft", False):
            return ""
        return ", ".join(filter(None, (request.verb, self._remaining)))

    def start(self, requests: Sequence[Request], inputs: Mapping[str, Path] | None = None) -> None:
        """Run requests. A draft that runs now, or what is being cancelled, is no longer watched.

        Args:
            requests: at least one; one that fails ends the others.
            inputs: the files that they name.

        Raises:
            BadInput: another request runs, or a file that a request names is not given or not there.
        """
        if busy := self.busy:
            raise BadInput(f"Busy: {busy}. Wait for its end, or cancel it.")
        made: deque[tuple[Job, Request]] = deque()
        for request in requests:
            self._made += 1
            made.append((Job.create(self._folder / f"job-{self._made:04d}", request, inputs), request))
        self.cancel()
        self._jobs, self._of = made, len(made)
        self._remaining, self._cancelled = "", False
        if self._worker is None or not self._worker.alive:
            self._end_worker()
            self._worker = self._launch()
        for job, _ in made:
            self._worker.submit(job)

    def cancel(self) -> None:
        """Ask the jobs to stop; :meth:`poll` tells when they have."""
        self._cancelled = True
        for job, _ in self._jobs:
            with suppress(FileNotFoundError):  # removed meanwhile, which poll reports
                job.cancel()

    def poll(self) -> Update | None:
        """What is new of the running job; None if nothing runs."""
        self._forget()
        if not self._jobs or self._worker is None:
            return None
        job, request = self._jobs[0]
        number = self._of - len(self._jobs) + 1
        # Not the folder: a worker that was saving something has made it anew.
        if not (job.folder / "request.json").is_file():
            self._jobs.clear()
            gone = Failure(
                code="failed", message="The folder of the job was removed while it ran.", advice="Try again."
            )
            return Update(request, number, self._of, State.FAILED, failure=gone)
        # The state first: events that were written before the end are read after it.
        state = job.state
        events = job.poll(self._worker)
        if state is State.DONE:
            self._jobs.popleft()
            self._read = job
        elif state.finished:
            self.cancel()
            self._jobs.clear()
        previews = [event.preview for event in events if event.preview is not None]
        progress = next((event for event in reversed(events) if event.preview is None), None)
        if progress is not None and progress.remaining:
            self._remaining = progress.remaining
        return Update(
            request,
            number,
            self._of,
            state,
            progress=progress,
            # What failed on a full disk has removed them.
            preview=job.folder / previews[-1] if previews and (job.folder / previews[-1]).is_dir() else None,
            result=job.result if state is State.DONE else None,
            failure=job.failure if state.finished and state is not State.DONE else None,
        )

    def close(self) -> None:
        """End the worker and remove all jobs."""
        self._jobs.clear()
        self._end_worker()
        self._scratch.close()

    def _forget(self) -> None:
        if self._read is not None:
            shutil.rmtree(self._read.folder, ignore_errors=True)
            self._read = None

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop(grace=1.0)
            self._worker = None
