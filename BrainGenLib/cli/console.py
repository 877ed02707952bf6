"""What every command shares: jobs with a progress bar, results and errors for people or for machines."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Event, Failure, Job, WorkerProcess
from BrainGenLib.requests import Request

if TYPE_CHECKING:
    from BrainGenLib.case import Case

EXIT_CODES = {"bad_input": 2, "cancelled": 3, "out_of_memory": 4}
POLL_SECONDS = 0.1

Json = Annotated[
    bool, typer.Option("--json", help="Write JSON lines (events, then results) instead of progress bars.")
]
Server = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Let a `braingen serve` work instead; the token is taken from BRAINGEN_TOKEN."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda:0, mps; `braingen info` lists them.")]

# People read progress on stderr, so that stdout holds nothing but results.
_screen = Console(stderr=True)


def emit(data: dict[str, Any], text: str, as_json: bool) -> None:
    """A result on stdout: a line of JSON or of text."""
    print(json.dumps(data) if as_json else text, flush=True)


def remark(text: str, as_json: bool) -> None:
    """What people should know of a run beside its results: on stderr, or a line of JSON on stdout."""
    if as_json:
        print(json.dumps({"remark": text}), flush=True)
    else:
        _screen.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)


def give_up(failure: Failure, as_json: bool) -> NoReturn:
    """Say what failed and leave with its exit code."""
    if as_json:
        print(json.dumps({"error": failure.model_dump()}), flush=True)
    else:
        _screen.print(f"[bold red]Error:[/] {escape(failure.message)}", highlight=False, soft_wrap=True)
        if failure.advice:
            _screen.print(failure.advice, highlight=False, markup=False, soft_wrap=True)
        if failure.traceback:
            _screen.print(failure.traceback, style="dim", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(EXIT_CODES.get(failure.code, 1))


@contextmanager
def guarded(as_json: bool) -> Iterator[None]:
    """Turn bad input into its sentence and exit code, and Ctrl-C into the one for cancelled."""
    try:
        yield
    except BadInput as error:
        give_up(Failure(code="bad_input", message=str(error)), as_json)
    except OSError as error:
        # Raised by this library it is a sentence; raised by the system it has a file and a reason.
        text = str(error) if error.strerror is None else f"Cannot use {error.filename}: {error.strerror}."
        give_up(Failure(code="bad_input", message=text), as_json)
    except KeyboardInterrupt:
        give_up(Failure(code="cancelled", message="Cancelled."), as_json)


class Runner:
    """Runs requests in one worker process, each in a temporary job folder.

    Args:
        as_json: write events as JSON lines instead of drawing a progress bar.
        threads: of the worker, as for :class:`BrainGenLib.jobs.WorkerProcess`.
        server: URL of a server that works instead.
    """

    def __init__(self, as_json: bool, threads: int | None = None, server: str | None = None) -> None:
        self._json = as_json
        self._threads = threads
        self._server = server

    def __enter__(self) -> Runner:
        self._folder = tempfile.TemporaryDirectory(prefix="braingen-", ignore_cleanup_errors=True)
        if self._server is None:
            self._worker = WorkerProcess(threads=self._threads)
        else:
            # Not at file scope: most commands need no HTTP.
            from BrainGenLib.service.remote import TOKEN_VARIABLE, MirrorProcess

            self._worker = MirrorProcess(self._server, os.environ.get(TOKEN_VARIABLE, ""))
        self._jobs = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.stop()
        self._folder.cleanup()

    def run(self, request: Request, inputs: Mapping[str, Path], title: str) -> Case:
        """Run a request; its job folder is removed.

        Raises:
            typer.Exit: the job failed or was cancelled (Ctrl-C); the reason has been printed.
        """
        self._jobs += 1
        job = Job.create(Path(self._folder.name) / f"job-{self._jobs:04d}", request, inputs)
        self._worker.submit(job)
        watch = self._watch_json if self._json else self._watch_screen
        try:
            watch(job, title)
        except KeyboardInterrupt:
            job.cancel()
            watch(job, f"{title}: stopping")
        if (failure := job.failure) is not None and job.result is None:
            give_up(failure, self._json)
        # Not at file scope: numpy and nibabel take longer to import than most commands take to fail.
        from BrainGenLib.case import Case

        assert job.result is not None
        case = Case.load(job.result)
        # A thousand cases would fill the disk. Windows keeps files that are mapped until the end.
        shutil.rmtree(job.folder, ignore_errors=True)
        return case

    def _events(self, job: Job) -> Iterator[Event]:
        finished = False
        while not finished:
            # The state first: events that were written before the end are read after it.
            finished = job.state.finished
            yield from job.poll(self._worker)
            if not finished:
                time.sleep(POLL_SECONDS)

    def _watch_json(self, job: Job, title: str) -> None:
        for event in self._events(job):
            print(json.dumps({"job": title, "event": event.model_dump(exclude_none=True)}), flush=True)

    def _watch_screen(self, job: Job, title: str) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
        with Progress(*columns, console=_screen, transient=True) as progress:
            task = progress.add_task(title, total=None, left="")
            for event in self._events(job):
                if event.preview is None:
                    left = "" if event.seconds_left is None else f"{event.seconds_left:.0f} s left"
                    progress.update(
                        task,
                        description=f"{title}: {event.stage} {event.message}",
                        completed=event.step,
                        total=event.of or None,
                        left=left,
                    )


def named_values(items: list[str], what: str) -> dict[str, str]:
    """``["wmh=0.05"]`` to ``{"wmh": "0.05"}``.

    Raises:
        BadInput: an item is not NAME=VALUE, or a name comes twice.
    """
    values: dict[str, str] = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not separator or not name or not value or name in values:
            raise BadInput(f"{what} {item!r} is not understood: write NAME=VALUE, each name once.")
        values[name] = value
    return values
