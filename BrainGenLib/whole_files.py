"""Text files that are never half written: a reader finds the text from before or the new one."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file in UTF-8, for its owner alone or for those who could read it before.

    Two processes may write at the same moment: one of them is the last. After a power cut the file is whole.

    Raises:
        OSError: it cannot be written; then it is as it was before.
    """
    # Of a name that nobody guesses, and new.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # Renamed before its content is on the disk, it would be empty after a power cut.
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            _keep_access(path, Path(temporary))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _keep_access(path: Path, new: Path) -> None:
    """Let those who can read a file read what takes its place: a service may run as another user."""
    old = path.stat()
    if sys.platform != "win32" and (old.st_uid, old.st_gid) != (new.stat().st_uid, new.stat().st_gid):
        os.chown(new, old.st_uid, old.st_gid)
    new.chmod(stat.S_IMODE(old.st_mode))
