"""Temporary folders for scans of people: gone with their process, or, where that was killed, with the next one."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = ".lock"


class Scratch:
    """A temporary folder that only this user can read; first it removes those that killed processes have left.

    Args:
        prefix: of its name, and of those that may be removed.
        parent: where it is made; None for the system's temporary folder.

    Attributes:
        folder: the path. It holds a lock file, by which others see that it is in use.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, prefix: str = "braingen-", parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        _sweep(parent, prefix)
        while True:
            self.folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            # The system gives up the lock with the process, however it ends.
            self._lock = FileLock(self.folder / _LOCK, thread_local=False)
            # Another process may have taken it for an old one, before it was locked.
            with suppress(FileNotFoundError):
                self._lock.acquire()
                if (self.folder / _LOCK).exists():
                    break
        # A command that is stopped before its folder has an owner that closes it removes it too.
        self._end = weakref.finalize(self, _remove, self.folder, self._lock)

    def close(self) -> None:
        """Remove the folder; Windows keeps files of it that are mapped until the end of the process."""
        self._end()

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove(folder: Path, lock: FileLock) -> None:
    # The lock file goes last: without it, what is left of a removal that was killed would stay for good.
    for path in folder.glob("*"):
        if path.name != _LOCK:
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                path.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    # Windows does not remove a file that is open.
    shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        try:
            mine = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
            if not mine or folder.is_symlink() or not (folder / _LOCK).is_file():
                continue
            lock = FileLock(folder / _LOCK, timeout=0)
            lock.acquire()
        except (OSError, Timeout):
            continue
        _remove(folder, lock)
