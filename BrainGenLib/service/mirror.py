"""A worker that lets a server work: ``python -m BrainGenLib.service.mirror URL``, spoken to like BrainGenLib.worker.

It reads paths of job folders from standard input, has each run on the server, and writes into the folder what a
worker of this machine would. The token is in the environment variable ``BRAINGEN_TOKEN``: command lines can be read
by everybody.
"""

from __future__ import annotations

import os
import queue
import re
import secrets
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from BrainGenLib.errors import BadInput, disk_full
from BrainGenLib.jobs import FULL, Event, Failure, Job, exiting_on_full_disk
from BrainGenLib.requests import inputs_of
from BrainGenLib.service import archive
from BrainGenLib.service.client import Message, RemoteError, Server
from BrainGenLib.worker import listen

TOKEN_VARIABLE = "BRAINGEN_TOKEN"
# How long a connection is tried again: longer than a server takes to restart.
PATIENCE_SECONDS = 60.0
# How long a cancelled job may take to end on the server, before the local one ends without it.
CANCEL_SECONDS = 10.0
LOOK_SECONDS = 0.1

_PREVIEW = re.compile(r"previews/[A-Za-z0-9][A-Za-z0-9_-]*")
_Answer = TypeVar("_Answer")


class _Stopped(Exception):
    """The job was cancelled, or nobody waits for it any more."""


def main() -> None:
    """Have jobs run until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    paths: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    ended = threading.Event()
    threading.Thread(target=listen, args=(paths, ended), daemon=True).start()
    with exiting_on_full_disk():
        while (path := paths.get()) is not None:
            run(Job(Path(path)), sys.argv[1], os.environ.get(TOKEN_VARIABLE, ""), ended.is_set)
    # A stream may still wait for the network.
    os._exit(0)


def run(
    job: Job,
    url: str,
    token: str,
    abandoned: Callable[[], bool] = lambda: False,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Have a job run to ``result/`` or ``error.json``; a job that is done already is left as it is.

    Args:
        job: the job folder.
        url: of the server.
        token: of the user, or empty.
        abandoned: tells when nobody waits for the result any more.
        patience: seconds for which a connection is tried again.
    """
    if job.state.finished:
        return
    for name in ("previews", "result.part"):
        shutil.rmtree(job.folder / name, ignore_errors=True)
    try:
        _Mirror(job, Server(url, token), abandoned, patience).run()
    except _Stopped:
        # An abandoned job stays unfinished, so that it can be submitted again.
        if job.cancel_requested:
            job.fail(Failure(code="cancelled", message="Cancelled."))
    except RemoteError as error:
        job.fail(error.failure)
    except BadInput as error:
        job.fail(Failure(code="bad_input", message=str(error)))
    # A job must end with a sentence whatever happens: the watcher shows nothing else.
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        message = f"The result could not be brought here: {type(error).__name__}: {error}"
        failed = Failure(code="failed", message=message, advice="Check the disk, then try again.", traceback=text)
        job.fail(FULL if disk_full(error) else failed)


class _Mirror:
    """One job on its way: here, there, and back."""

    def __init__(self, job: Job, server: Server, abandoned: Callable[[], bool], patience: float) -> None:
        self._job = job
        self._server = server
        self._abandoned = abandoned
        self._patience = patience
        self._id = ""
        self._last = 0
        self._lost_at: float | None = None

    def run(self) -> None:
        request = self._job.request()
        self._say("sending", f"to {self._server.url}")
        files = [self._job.inputs / name for name in inputs_of(request)]
        key = secrets.token_urlsafe(24)
        content = request.model_dump_json()
        self._id = self._persist(lambda: self._server.submit(content, files, key, self._check))
        try:
            failure = self._persist(self._follow)
            if failure is None:
                self._persist(lambda: self._fetch("result"))
            else:
                self._job.fail(failure)
        except _Stopped:
            self._cancel()
            raise
        finally:
            # What is here need not stay there; if it cannot be asked now, the server removes it in time.
            with suppress(RemoteError):
                self._server.delete(self._id)

    def _follow(self) -> Failure | None:
        """Write the events of the job until its end; why it failed, if it did."""
        for message in self._responsive(self._server.events(self._id, self._last)):
            self._lost_at = None
            if message.name == "end":
                failure = message.data["failure"]
                return None if failure is None else Failure.model_validate(failure)
            if message.name == "queue":
                self._say("waiting", f"{message.data} ahead" if message.data else "next in line")
            elif not message.name:
                self._write(Event.model_validate(message.data))
                self._last = message.number
        raise AssertionError("A stream of events ends with its end or an error.")

    def _responsive(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Messages, read in a thread so that waiting for them can be stopped."""
        inbox: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()

        def read() -> None:
            try:
                for message in messages:
                    inbox.put(message)
            except Exception as error:
                inbox.put(error)

        threading.Thread(target=read, daemon=True).start()
        while True:
            self._check()
            try:
                item = inbox.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, Exception):
                raise item
            yield item

    def _write(self, event: Event) -> None:
        if event.preview is not None:
            if not _PREVIEW.fullmatch(event.preview):
                return
            try:
                self._persist(lambda: self._fetch(str(event.preview)))
            except RemoteError:
                # The result is what counts.
                return
        self._job.append(event)

    def _fetch(self, path: str) -> None:
        """Bring ``result`` or a preview into the job folder.

        Raises:
            BadInput: it is no case, or one that names files outside of its folder.
        """
        # Not at file scope: what waits for a server needs no numpy.
        from BrainGenLib.case import Case

        target = self._job.folder / path
        partial = target.with_name(f"{target.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        archive.unpack(self._server.archive(f"/jobs/{self._id}/{path}", self._check), partial)
        Case.load(partial)
        os.replace(partial, target)

    def _persist(self, action: Callable[[], _Answer]) -> _Answer:
        """Do something, again and again while the connection is bad.

        Raises:
            RemoteError: the server says no, or patience is at its end.
        """
        pause = 0.5
        while True:
            try:
                answer = action()
                self._lost_at = None
                return answer
            except RemoteError as error:
                if self._lost_at is None:
                    self._lost_at, pause = time.monotonic(), 0.5
                left = self._lost_at + self._patience - time.monotonic()
                if not error.passing or left < 0:
                    raise
                self._say("reconnecting", error.failure.message)
                until = time.monotonic() + min(max(pause, error.retry_after), left)
                while time.monotonic() < until:
                    self._check()
                    time.sleep(LOOK_SECONDS)
                pause = min(2 * pause, 5.0)

    def _cancel(self) -> None:
        """Cancel the job there, and wait a little until it can be removed."""
        end = time.monotonic() + CANCEL_SECONDS
        with suppress(RemoteError):
            while time.monotonic() < end and not self._abandoned() and not self._server.delete(self._id):
                time.sleep(LOOK_SECONDS)

    def _check(self) -> None:
        if self._job.cancel_requested or self._abandoned():
            raise _Stopped

    def _say(self, stage: str, message: str) -> None:
        self._job.append(Event(time=round(time.time(), 3), stage=stage, message=message))


if __name__ == "__main__":
    main()
