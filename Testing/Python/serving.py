"""A server for tests: the real application on a free port of loopback, with a worker that needs no model.

As a program (``python serving.py FOLDER PORT TOKENS``) it is one that can be killed.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
from patience import PATIENCE

from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Event, Failure, Job
from BrainGenLib.service import store, tokens
from BrainGenLib.service.limits import Limits

CASE = Case({"T1w": np.arange(64, dtype=np.float32).reshape(4, 4, 4)}, np.ones((4, 4, 4), np.uint16), np.eye(4))


class QuickWorker:
    """Runs every job in as many steps of 20 ms as its request has; those with guidance 0 wait to be cancelled."""

    alive = True

    def submit(self, job: Job) -> None:
        threading.Thread(target=self._run, args=(job,), daemon=True).start()

    def _run(self, job: Job) -> None:
        # Some tests take the folder away.
        with suppress(FileNotFoundError):
            try:
                self._work(job)
            except BadInput as error:
                job.fail(Failure(code="bad_input", message=str(error)))

    def _work(self, job: Job) -> None:
        request = job.request()
        steps = getattr(request, "steps", 2)
        job.append(Event(time=1.0, stage="labels", step=0, of=steps))
        (job.folder / "previews").mkdir(exist_ok=True)
        CASE.save(job.folder / "previews" / "T1w")
        job.append(Event(time=2.0, stage="preview", message="T1w", preview="previews/T1w"))
        step = 0
        while step < steps or getattr(request, "guidance", 1) == 0:
            if job.cancel_requested:
                job.fail(Failure(code="cancelled", message="Cancelled."))
                return
            time.sleep(0.02)
            step += 1
            job.append(Event(time=2.0 + step, stage="labels", step=step, of=steps))
        CASE.save(job.folder / "result.part")
        (job.folder / "result.part").rename(job.folder / "result")

    def obituary(self) -> Failure:
        raise AssertionError("it is alive")

    def stop(self, grace: float = 0) -> None:
        pass


@contextmanager
def serving(
    folder: Path,
    users: Path | None = None,
    limits: Limits | None = None,
    port: int = 0,
    launch=QuickWorker,
    grace: int = 3,
):
    """A server in a thread of this process; gives its URL."""
    import uvicorn

    from BrainGenLib.service.app import Service, create_app
    from BrainGenLib.service.connections import Protocol
    from BrainGenLib.service.limits import Traffic
    from BrainGenLib.service.runner import Runner

    limits = limits or Limits(per_minute=100_000)
    listener = socket.create_server(("127.0.0.1", port))
    with listener, store.take(folder):
        traffic = Traffic(limits.per_minute)
        user_of = tokens.user_of_own if users is None else partial(tokens.user_of, users)
        service = Service(
            folder, user_of, limits, traffic, Runner(folder, limits, launch), lambda: server.should_exit
        )
        config = uvicorn.Config(
            create_app(service), http=Protocol, log_level="error", timeout_graceful_shutdown=grace
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def own_headers() -> dict[str, str]:
    """For a server without a tokens file."""
    return {"Authorization": f"Bearer {tokens.own()}"}


def users_file(path: Path, *names: str) -> dict[str, str]:
    """Make a tokens file; the headers of each user."""
    return {name: {"Authorization": f"Bearer {tokens.issue(path, name)}"} for name in names}


def eventually(holds, patience: float = PATIENCE):
    """What ``holds`` gives as soon as it is true."""
    end = time.monotonic() + patience
    while not (answer := holds()):
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.02)
    return answer


if __name__ == "__main__":
    with serving(Path(sys.argv[1]), Path(sys.argv[3]), port=int(sys.argv[2])) as address:
        print(address, flush=True)
        threading.Event().wait()
