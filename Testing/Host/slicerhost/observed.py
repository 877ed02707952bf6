"""What went wrong while the host ran; lists that tests look at, emptied by ``Host.reset``."""

from __future__ import annotations

import sys

errors: list[str] = []
missing: list[str] = []


def complain(text: str) -> None:
    """Note an error where PythonQt would only print it."""
    errors.append(text)
    print(text, file=sys.stderr)
