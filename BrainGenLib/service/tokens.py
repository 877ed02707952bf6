"""Who may use a server: a file with one user per line, ``name sha256hex``. The tokens themselves stand nowhere."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from BrainGenLib.errors import BadInput

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
    users = {**(read(path) if path.exists() else {}), name: _hash(token)}
    temporary = path.with_name(f"{path.name}.part")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{user} {digest}\n" for user, digest in users.items())
    os.replace(temporary, path)
    return token


def _hash(token: str) -> str:
    # Not a password but 256 random bits: there is nothing to guess, so a fast hash will do.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
