"""Run one job folder: the engine's answer, progress and errors as files."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from BrainGenLib.case import Case
from BrainGenLib.engine import Engine, stages
from BrainGenLib.errors import BadInput, OutOfMemory, disk_full
from BrainGenLib.jobs import FULL, Event, Failure, Job
from BrainGenLib.reporting import Cancelled
from BrainGenLib.timeline import Timeline


class JobReporter:
    """Writes a job's events and previews; stops when asked to by the job's ``cancel`` file or by ``abandoned``."""

    def __init__(self, job: Job, timeline: Timeline, abandoned: Callable[[], bool]) -> None:
        self._job = job
        self._timeline = timeline
        self._abandoned = abandoned
        self._process = psutil.Process()

    def step(self, stage: str, step: int, of: int, message: str = "") -> None:
        """Write an event with the time left.

        Raises:
            Cancelled: the user asked to stop.
        """
        if self._job.cancel_requested or self._abandoned():
            raise Cancelled
        left = self._timeline.seconds_left(stage, step, of)
        self._write(stage, step=step, of=of, message=message, seconds_left=left)

    def preview(self, case: Case, name: str) -> None:
        """Save an early result in ``previews`` and write an event that names it."""
        folder = self._job.folder / "previews" / name
        folder.parent.mkdir(exist_ok=True)
        case.save(folder.with_name(f"{name}.part"))
        os.replace(folder.with_name(f"{name}.part"), folder)
        self._write("preview", message=name, preview=folder.relative_to(self._job.folder).as_posix())

    def _write(self, stage: str, **fields: Any) -> None:
        memory = round(self._process.memory_info().rss / 1e9, 3)
        self._job.append(Event(time=round(time.time(), 3), stage=stage, memory=memory, **fields))


def run(job: Job, engine: Engine, timeline: Timeline, abandoned: Callable[[], bool] = lambda: False) -> None:
    """Run a job to ``result/`` or ``error.json``; a job that is done already is left as it is.

    Args:
        job: the job folder.
        engine: keeps the models between jobs.
        timeline: keeps what stages took between jobs.
        abandoned: tells when nobody waits for the result any more.

    Raises:
        OSError: the disk is so full that not even ``error.json`` can be written.
    """
    if job.state.finished:
        return
    shutil.rmtree(job.folder / "previews", ignore_errors=True)
    partial = job.folder / "result.part"
    try:
        request = job.request()
        timeline.begin(stages(request))
        case = engine.run(request, job.inputs, JobReporter(job, timeline, abandoned))
        case.save(partial)
        os.replace(partial, job.folder / "result")
    except Cancelled:
        # An abandoned job stays unfinished, so that it can be submitted again.
        if job.cancel_requested:
            _fail(job, Failure(code="cancelled", message="Cancelled."))
    # A job must end with a sentence whatever happens in it: the watcher shows nothing else.
    except Exception as error:
        if disk_full(error):
            # Others may wait for the space, and nobody for a preview.
            shutil.rmtree(job.folder / "previews", ignore_errors=True)
        _fail(job, _failure(error))


def _fail(job: Job, failure: Failure) -> None:
    # Where the folder was removed nobody waits for a sentence, and other jobs do.
    with suppress(FileNotFoundError):
        job.fail(failure)


def _failure(error: Exception) -> Failure:
    if disk_full(error):
        return FULL
    if isinstance(error, BadInput):
        return Failure(code="bad_input", message=str(error))
    if isinstance(error, OutOfMemory):
        return Failure(code="out_of_memory", message=str(error))
    text = "".join(traceback.format_exception(error))
    return Failure(
        code="failed",
        message=f"Something went wrong inside BrainGen: {type(error).__name__}: {error}",
        advice="Report it with the text below.",
        traceback=text,
    )
