"""What can go wrong through no fault of the code; each message is a sentence for the user."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(ValueError):
    """A file, a name or a number that cannot be used. The message says what is wrong and what to do."""


class OutOfMemory(MemoryError):
    """The device has too little memory for the request. The message says what to try."""


def disk_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota is behind an error, itself or one that it was raised from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def reason(error: OSError) -> str:
    """Why the system refused to read or write, without a full stop, e.g. ``Permission denied``."""
    return "The disk is full" if disk_full(error) else error.strerror or str(error)


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` Did you mean wmh?`` for a name that is like a known one, or nothing: the end of a message."""
    found = {one.lower(): one for one in known}
    close = get_close_matches(name.lower(), found, n=1)
    return f" Did you mean {found[close[0]]}?" if close else ""
