"""What every command shares: jobs with a progress bar, results and errors for people or for machines."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from BrainGenLib.errors import BadInput, OutOfMemory, reason
from BrainGenLib.jobs import Event, Failure, Job, WorkerProcess
from BrainGenLib.requests import Request
from BrainGenLib.scratch import Scratch

if TYPE_CHECKING:
    from BrainGenLib.case import Case

EXIT_CODES = {"bad_input": 2, "cancelled": 3, "out_of_memory": 4}
POLL_SECONDS = 0.1
# How long a job that is cancelled may take to stop, and then its worker; schedulers kill soon after they have asked.
STOP_SECONDS, WORKER_SECONDS = 3.0, 1.0

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
_SEXES = {"f": 0.0, "female": 0.0, "m": 1.0, "male": 1.0}
_CONTRASTS = {
    **{alias: "T1w" for alias in ("t1", "t1w", "mprage")},
    **{alias: "T1ce" for alias in ("t1ce", "t1gd", "t1c", "t1+c")},
    **{alias: "T2w" for alias in ("t2", "t2w")},
    **{alias: "PDw" for alias in ("pd", "pdw")},
    **{alias: "FLAIR" for alias in ("flair", "t2-flair", "t2flair")},
}
_CANCELLED = Failure(code="cancelled", message="Cancelled.")


def emit(data: dict[str, Any], text: str, as_json: bool) -> None:
    """A result on stdout: a line of JSON or of text."""
    print(json.dumps(data) if as_json else text, flush=True)


def remark(text: str, as_json: bool) -> None:
    """What people should know of a run beside its results: on stderr, or a line of JSON on stdout."""
    if as_json:
        print(json.dumps({"remark": text}), flush=True)
    else:
        _screen.print(plain(text), style="dim", highlight=False, markup=False, soft_wrap=True)


def plain(text: str) -> str:
    """Text of files and servers without what steers a terminal: control characters and changes of direction."""
    return "".join(one for one in text if one in "\n\t" or unicodedata.category(one)[0] != "C")


def give_up(failure: Failure, as_json: bool) -> NoReturn:
    """Say what failed and leave with its exit code."""
    # A terminal that was closed takes no words.
    with suppress(OSError):
        if as_json:
            print(json.dumps({"error": failure.model_dump()}), flush=True)
        else:
            said = Text.assemble(("Error:", "bold red"), " ", plain(failure.message))
            _screen.print(said, highlight=False, soft_wrap=True)
            for text, style in ((failure.advice, ""), (failure.traceback, "dim")):
                if text:
                    _screen.print(Text(plain(text), style), highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_CODES.get(failure.code, 1))


@contextmanager
def guarded(as_json: bool) -> Iterator[None]:
    """Turn bad input into its sentence and exit code, and Ctrl-C, SIGTERM and SIGHUP into the one for cancelled."""
    try:
        with _stoppable():
            yield
    except BadInput as error:
        give_up(Failure(code="bad_input", message=str(error)), as_json)
    except OutOfMemory as error:
        give_up(Failure(code="out_of_memory", message=str(error)), as_json)
    except BrokenPipeError:
        # Nobody reads any more, which typer knows to end with.
        raise
    except OSError as error:
        # Raised by this library it is a sentence; raised by the system it has a reason, and mostly a file.
        text = str(error) if error.strerror is None else f"{reason(error)}."
        if error.filename is not None:
            text = f"Cannot use {error.filename}: {text}"
        give_up(Failure(code="bad_input", message=text), as_json)
    except KeyboardInterrupt:
        give_up(_CANCELLED, as_json)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let a scheduler (SIGTERM) and a terminal that is closed (SIGHUP) end a command as Ctrl-C does.

    What is to be ignored stays so (``nohup``). Servers put handlers of their own in place of that of SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, _: Any) -> None:
        if os.getpid() != owner:
            # A process of a pool, which was forked from this one.
            os._exit(128 + number)
        raise KeyboardInterrupt

    def hang_up(number: int, _: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    wanted: dict[str, Callable[[int, Any], None]] = {"SIGTERM": stop, "SIGBREAK": stop, "SIGHUP": hang_up}
    numbers = {getattr(signal, name): handler for name, handler in wanted.items() if hasattr(signal, name)}
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, numbers[number])
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _with_own_names(message: str, inputs: Mapping[str, Path]) -> str:
    """A sentence of a worker with the names that files have outside of its job."""
    if not inputs:
        return message
    names = "|".join(re.escape(name) for name in inputs)
    return re.sub(rf"(?<![\w.-])({names})(?!\w)", lambda match: inputs[match[1]].name, message)


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
        self._scratch = Scratch()
        try:
            self._worker = self._launched()
        except BaseException:
            self._scratch.close()
            raise
        self._jobs = 0
        return self

    def _launched(self) -> WorkerProcess:
        if self._server is None:
            return WorkerProcess(threads=self._threads)
        # Not at file scope: most commands need no HTTP.
        from BrainGenLib.service.remote import TOKEN_VARIABLE, MirrorProcess

        return MirrorProcess(self._server, os.environ.get(TOKEN_VARIABLE, ""))

    def __exit__(self, *_: object) -> None:
        try:
            self._worker.stop(WORKER_SECONDS)
        finally:
            self._scratch.close()

    def run(self, request: Request, inputs: Mapping[str, Path], title: str) -> Case:
        """Run a request; its job folder is removed.

        Raises:
            typer.Exit: the job failed or was cancelled (Ctrl-C), even if it was done before it could stop; the reason
                has been printed.
        """
        self._jobs += 1
        job = Job.create(self._scratch.folder / f"job-{self._jobs:04d}", request, inputs)
        self._worker.submit(job)
        watch = self._watch_json if self._json else self._watch_screen
        try:
            watch(job, title)
        except KeyboardInterrupt:
            # On a full disk there is no room to ask.
            with suppress(OSError):
                job.cancel()
                watch(job, f"{title}: stopping", STOP_SECONDS)
            give_up(_CANCELLED, self._json)
        if (failure := job.failure) is not None and job.result is None:
            failure.message = _with_own_names(failure.message, inputs)
            give_up(failure, self._json)
        # Not at file scope: numpy and nibabel take longer to import than most commands take to fail.
        from BrainGenLib.case import Case

        assert job.result is not None
        case = Case.load(job.result)
        # A thousand cases would fill the disk. Windows keeps files that are mapped until the end.
        shutil.rmtree(job.folder, ignore_errors=True)
        return case

    def _events(self, job: Job, seconds: float) -> Iterator[Event]:
        finished, end = False, time.monotonic() + seconds
        while not finished and time.monotonic() < end:
            # The state first: events that were written before the end are read after it.
            finished = job.state.finished
            yield from job.poll(self._worker)
            if not finished:
                time.sleep(POLL_SECONDS)

    def _watch_json(self, job: Job, title: str, seconds: float = math.inf) -> None:
        for event in self._events(job, seconds):
            print(json.dumps({"job": title, "event": event.model_dump(exclude_none=True)}), flush=True)

    def _watch_screen(self, job: Job, title: str, seconds: float = math.inf) -> None:
        texts = [TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[left]}")]
        columns = (SpinnerColumn(), texts[0], BarColumn(), texts[1])
        with Progress(*columns, console=_screen, transient=True) as progress:
            task = progress.add_task(plain(title), total=None, left="")
            for event in self._events(job, seconds):
                if event.preview is None:
                    progress.update(
                        task,
                        description=plain(f"{title}: {event.stage} {event.message}"),
                        completed=event.step,
                        total=event.of or None,
                        left=event.remaining,
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


def named_numbers(items: list[str], what: str) -> dict[str, float]:
    """``["wmh=0.05", "sex=female"]`` to ``{"wmh": 0.05, "sex": 0.0}``.

    Raises:
        BadInput: as :func:`named_values`, or a value is no number.
    """
    return {name: _number(name, value, what) for name, value in named_values(items, what).items()}


def _number(name: str, text: str, what: str) -> float:
    if name == "sex" and text.lower() in _SEXES:
        return _SEXES[text.lower()]
    if text.startswith("+"):
        raise BadInput(f"{what} {name}={text} is not understood: give the value itself, not by how much it changes.")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(
            f"{what} {name}={text} is not understood: {text!r} is not a number. Write it with a point and without a "
            f"unit, e.g. {name}=0.3."
        )
    return value


def contrast_of(text: str) -> str:
    """The suffix of BIDS for a contrast, which people write in other ways too."""
    return _CONTRASTS.get(text.lower(), text)
