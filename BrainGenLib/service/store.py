"""The jobs of a server: job folders under one folder, each with a ``ticket.json`` that says whose it is.

Nothing else keeps state, so a server that was killed goes on where the folders say.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import BaseModel

from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Job
from BrainGenLib.service.limits import Limits

_ID = re.compile(r"[0-9a-f]{32}")


class Ticket(BaseModel):
    """``ticket.json``: whose the job is, and when it came (seconds since 1970)."""

    owner: str
    submitted: float


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
    # Scans of patients may lie in it.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    """Turn a received folder with request and inputs into a waiting job, in one step."""
    (partial / "ticket.json").write_text(Ticket(owner=owner, submitted=time.time()).model_dump_json(), "utf-8")
    try:
        os.rename(partial, folder / job_id)
    except OSError:
        # The same submission twice at the same time: the first has made the job.
        if not (folder / job_id).is_dir():
            raise


def find(folder: Path, job_id: str, owner: str) -> Stored | None:
    """A user's job; None too if it is somebody else's."""
    stored = _open(folder / job_id) if _ID.fullmatch(job_id) else None
    return stored if stored is not None and stored.ticket.owner == owner else None


def jobs(folder: Path) -> list[Stored]:
    """All jobs, oldest first."""
    found = [_open(Path(entry)) for entry in os.scandir(folder) if _ID.fullmatch(entry.name)]
    return sorted((stored for stored in found if stored is not None), key=lambda stored: stored.ticket.submitted)


def _open(folder: Path) -> Stored | None:
    try:
        ticket = Ticket.model_validate_json((folder / "ticket.json").read_bytes())
    # It was removed at this moment, or never was a job of ours.
    except (OSError, ValueError):
        return None
    return Stored(folder.name, ticket, Job(folder))


def remove(stored: Stored) -> None:
    """Remove a job; whoever looks sees all of it or nothing."""
    folder = stored.job.folder
    removed = folder.parent / ".removed" / f"{stored.id}-{secrets.token_hex(4)}"
    # Its owner and the sweep may remove it at the same time.
    with suppress(FileNotFoundError):
        os.rename(folder, removed)
    shutil.rmtree(removed, ignore_errors=True)


def sweep(folder: Path, limits: Limits) -> None:
    """Remove the finished jobs that are too old or too many."""
    kept: dict[str, int] = {}
    finished = [(_finished_at(stored), stored) for stored in jobs(folder) if stored.job.state.finished]
    for when, stored in sorted(finished, key=lambda item: item[0], reverse=True):
        owner = stored.ticket.owner
        kept[owner] = kept.get(owner, 0) + 1
        if kept[owner] > limits.kept or time.time() - when > limits.days * 86400:
            remove(stored)


def _finished_at(stored: Stored) -> float:
    times = [0.0]
    for name in ("result", "error.json"):
        with suppress(FileNotFoundError):
            times.append((stored.job.folder / name).stat().st_mtime)
    return max(times)
