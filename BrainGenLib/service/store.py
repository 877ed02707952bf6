"""The jobs of a server: job folders under one folder, each with a ``ticket.json`` that says whose it is.

Nothing else keeps state, so a server that was killed goes on where the folders say.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import BaseModel, FiniteFloat

from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Job, State
from BrainGenLib.service.limits import Limits

# A result stays at least so long after its end, for its owner to fetch it.
LEAST_SECONDS = 300.0

_ID = re.compile(r"[0-9a-f]{32}")
_OURS = ("lock", ".incoming", ".removed")
_log = logging.getLogger("uvicorn.error")
_admitting = threading.Lock()


class Ticket(BaseModel):
    """``ticket.json``: whose the job is, and when it came.

    Attributes:
        owner: user.
        submitted: seconds since 1970, for people; a clock may be set back.
        number: orders jobs as they came.
    """

    owner: str
    submitted: FiniteFloat
    number: int = 0


@dataclass(frozen=True)
class Stored:
    """A job of the server."""

    id: str
    ticket: Ticket
    job: Job = field(compare=False)

    @property
    def exists(self) -> bool:
        """Whether it has not been removed since."""
        return (self.job.folder / "ticket.json").exists()


def take(folder: Path) -> IO[str]:
    """Make a folder this server's own while the answer is open, and remove what a killed server left half done.

    Raises:
        BadInput: another server uses it.
    """
    # Scans of patients may lie in it. One that holds something else may be meant for others too.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if all(_ID.fullmatch(name) or name in _OURS for name in os.listdir(folder)):
        # Not every disk knows modes.
        with suppress(OSError):
            folder.chmod(0o700)
    lock = (folder / "lock").open("a")
    try:
        # The system gives up these locks with the process, however it ends.
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise BadInput(f"{folder} cannot be locked ({error.strerror}); give --jobs on another disk.") from error
        raise BadInput(f"Another server uses {folder}; give each a --jobs folder of its own.") from error
    for name in (".incoming", ".removed"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    return lock


def id_for(owner: str, key: str | None) -> str:
    """Id of a new job: random, or from the owner's ``key``, so that a submission sent twice is one job."""
    return secrets.token_hex(16) if key is None else hashlib.sha256(f"{owner}\n{key}".encode()).hexdigest()[:32]


@contextmanager
def incoming(folder: Path) -> Iterator[Path]:
    """A folder to receive a job in; what is left of it afterwards goes."""
    partial = Path(tempfile.mkdtemp(dir=folder / ".incoming"))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def admit(folder: Path, job_id: str, owner: str, partial: Path) -> None:
    """Turn a received folder with request and inputs into a waiting job, in one step that survives a power cut."""
    with _admitting:
        number = 1 + max((stored.ticket.number for stored in jobs(folder)), default=0)
        ticket = Ticket(owner=owner, submitted=time.time(), number=number)
        (partial / "ticket.json").write_text(ticket.model_dump_json(), "utf-8")
        for path in partial.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        try:
            os.rename(partial, folder / job_id)
        except OSError:
            # The same submission twice at the same time: the first has made the job.
            if not (folder / job_id).is_dir():
                raise


def find(folder: Path, job_id: str, owner: str) -> Stored | None:
    """A user's job; None too if it is another user's."""
    stored = _open(folder / job_id) if _ID.fullmatch(job_id) else None
    return stored if stored is not None and stored.ticket.owner == owner else None


def jobs(folder: Path) -> list[Stored]:
    """All jobs whose owner is known, oldest first."""
    found = [_open(path) for path in _folders(folder)]
    return sorted(
        (stored for stored in found if stored is not None),
        key=lambda stored: (stored.ticket.number, stored.ticket.submitted),
    )


def _folders(folder: Path) -> list[Path]:
    return [Path(entry) for entry in os.scandir(folder) if _ID.fullmatch(entry.name)]


def _open(folder: Path) -> Stored | None:
    try:
        ticket = Ticket.model_validate_json((folder / "ticket.json").read_bytes())
    # It was removed at this moment, or never was a job of ours.
    except (OSError, ValueError):
        return None
    return Stored(folder.name, ticket, Job(folder))


def remove(folder: Path) -> None:
    """Remove the folder of a job; a listing has all of it or nothing."""
    removed = folder.parent / ".removed" / f"{folder.name}-{secrets.token_hex(4)}"
    # Its owner and the sweep may remove it at the same time.
    with suppress(FileNotFoundError):
        os.rename(folder, removed)
    shutil.rmtree(removed, ignore_errors=True)


class Sweep:
    """Removes the finished jobs that are too old or too many.

    Ages are counted by a clock that nobody sets; only those of jobs that ended before the start come from dates of
    their files.

    Args:
        folder: of the jobs.
        limits: for how long and how many stay.
        clock: seconds, steady.
    """

    def __init__(self, folder: Path, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._limits = limits
        self._clock = clock
        # When a job was first seen to be finished, and its age then.
        self._seen: dict[str, tuple[float, float]] | None = None

    def __call__(self, state: Callable[[Stored], State]) -> None:
        """Look through the folder; ``state`` says where a job stands."""
        found = jobs(self._folder)
        # Nobody can ask for a job without an owner, or remove it.
        owners = {stored.id: stored.ticket.owner for stored in found}
        ownerless = [path for path in _folders(self._folder) if path.name not in owners]
        finished = [stored.job.folder for stored in found if state(stored).finished]
        before, now = self._seen, self._clock()
        self._seen = {}
        for path in [*finished, *ownerless]:
            if before is not None and path.name in before:
                self._seen[path.name] = before[path.name]
                continue
            self._seen[path.name] = now, 0.0 if before is not None else _age(path)
            if path in ownerless:
                _log.warning("Nobody can be found to own the job %s; it is removed like a finished one.", path.name)
        ages = {path: now - self._seen[path.name][0] + self._seen[path.name][1] for path in [*finished, *ownerless]}
        kept: dict[str, int] = {}
        for path in sorted(ages, key=lambda path: ages[path]):
            owner = owners.get(path.name, "")
            kept[owner] = kept.get(owner, 0) + 1
            surplus = kept[owner] > self._limits.kept or ages[path] > self._limits.days * 86400
            if surplus and now - self._seen[path.name][0] >= LEAST_SECONDS:
                try:
                    remove(path)
                except OSError:
                    _log.exception("Job %s cannot be removed.", path.name)


def _age(folder: Path) -> float:
    """Seconds since a job has ended, by the dates of its files."""
    times = []
    for path in (folder / "result", folder / "error.json", folder):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(0.0, time.time() - times[0]) if times else 0.0
