"""Who may use a server: a file with one user per line, ``name sha256hex``. The tokens themselves stand nowhere.

A server without such a file, which listens on loopback alone, has one token: that of the account that it runs as, in
``~/.braingen/token``, which programs of the same account find there by themselves.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sys
from pathlib import Path

from filelock import FileLock

from BrainGenLib.errors import BadInput
from BrainGenLib.whole_files import write_whole

OWN_USER = "local"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


def read(path: Path) -> dict[str, str]:
    """Users and the hashes of their tokens. Empty lines and lines that begin with ``#`` count for nothing.

    Raises:
        BadInput: the file cannot be read, or a line is not understood.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The tokens file {path} cannot be read ({error}).") from error
    users: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, digest = line.strip().partition(" ")
        if not _NAME.fullmatch(name) or not _HASH.fullmatch(digest) or name in users:
            raise BadInput(f"{path}, line {number}: write a name and the SHA-256 of its token, each name once.")
        users[name] = digest
    return users


def user_of(path: Path, token: str) -> str | None:
    """Whose token it is. The file is read every time, so that a line taken out shuts its user out at once.

    Raises:
        BadInput: as :func:`read`.
    """
    digest = _hash(token)
    # All are compared, so that the time tells nothing about the place of a match.
    matches = [name for name, other in read(path).items() if secrets.compare_digest(digest, other)]
    return matches[0] if matches else None


def issue(path: Path, name: str) -> str:
    """Make a token for a user and store its hash; an older token of the same user counts no more.

    Raises:
        BadInput: the name has other characters than letters, digits and ``._@-``, or the file cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} cannot be a user: use up to 64 letters, digits and any of . _ @ -")
    token = secrets.token_urlsafe(32)
    path = path.resolve()
    users = {**(read(path) if path.exists() else {}), name: _hash(token)}
    try:
        write_whole(path, "".join(f"{user} {digest}\n" for user, digest in users.items()))
    except OSError as error:
        raise BadInput(
            f"The tokens file {path} cannot be written ({error.strerror}); run this as its owner or as root."
        ) from error
    return token


def own() -> str:
    """The token of this account, made if there is none.

    Raises:
        BadInput: it cannot be stored, or others can read it.
    """
    path = _own_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            # Another server of this account may do the same now: one of them makes it, the other waits and reads.
            with FileLock(path.with_name(".token.lock"), thread_local=False):
                if not path.exists():
                    write_whole(path, f"{secrets.token_urlsafe(32)}\n")
        if sys.platform != "win32" and path.stat().st_mode & 0o077:
            raise BadInput(f"Others can read the token {path}; remove it, and start again.")
        token = found()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The token {path} cannot be written or read ({error}); give --tokens FILE.") from error
    if not token:
        raise BadInput(f"The token {path} is empty; remove it, and start again.")
    return token


def found() -> str:
    """The token of this account; empty if there is none.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read.
    """
    path = _own_path()
    return path.read_text("ascii").strip() if path.is_file() else ""


def user_of_own(token: str) -> str | None:
    """The one user of a server without a list, if it is this account's token.

    Raises:
        BadInput: as :func:`own`.
    """
    return OWN_USER if secrets.compare_digest(_hash(token), _hash(own())) else None


def _own_path() -> Path:
    return Path.home() / ".braingen" / "token"


def _hash(token: str) -> str:
    # Not a password but 256 random bits: there is nothing to guess, so a fast hash will do.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
