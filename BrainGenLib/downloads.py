"""A file from the web, resumed where it broke off."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from BrainGenLib.errors import BadInput

_BLOCK = 2**20  # bytes
_SECONDS = 30.0  # without a byte

Progress = Callable[[int, int], None]
"""Receives the bytes that are there and of all there will be (0: the server does not say)."""


def download(url: str, target: Path, most: int, progress: Progress) -> None:
    """Fetch ``url`` to ``target``, at most ``most`` bytes. What an earlier try left (``<target>.part``) is continued
    if the server can.

    Raises:
        BadInput: no connection, a refusal, a web page where a file should be, more bytes, or no space; what is there
            is kept for the next try, but not what is too large.
    """
    # Not at file scope: most commands need no HTTP.
    import requests

    host = urlsplit(url).netloc
    by_hand = f"Try again, or get {url} in another way and give the file with --from."
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    there = part.stat().st_size if part.exists() else 0
    try:
        with requests.get(
            url,
            stream=True,
            timeout=_SECONDS,
            # A packed answer has another length than the file, and cannot be resumed.
            headers={"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {}),
        ) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                # There is nothing after what is here already; the checksum tells whether it is all.
                os.replace(part, target)
                return
            if not answer.ok:
                raise BadInput(f"{host} refuses {url} ({answer.status_code} {answer.reason}). {by_hand}")
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                raise BadInput(f"{host} answers with a web page instead of the file. {by_hand}")
            if answer.status_code != requests.codes.partial_content:
                there = 0
            size = there + int(answer.headers.get("Content-Length", 0))
            with part.open("ab" if there else "wb") as file:
                for block in answer.iter_content(_BLOCK):
                    there += len(block)
                    if there > most:
                        break
                    file.write(block)
                    progress(there, size)
    except requests.RequestException as error:
        raise BadInput(f"The connection to {host} failed ({type(error).__name__}). {by_hand}") from error
    except OSError as error:
        raise BadInput(
            f"{target} cannot be written ({error.strerror}); free some space or choose another disk."
        ) from error
    if there > most:
        part.unlink()
        raise BadInput(f"{host} sends more than the {most / 1e6:.0f} MB that {url} should have. {by_hand}")
    if there < size:
        raise BadInput(f"{host} sent {there} of {size} bytes of {url}. {by_hand}")
    os.replace(part, target)
