"""What can go wrong through no fault of the code; each message is a sentence for the user."""

from __future__ import annotations


class BadInput(ValueError):
    """A file, a name or a number that cannot be used. The message says what is wrong and what to do."""


class OutOfMemory(MemoryError):
    """The device has too little memory for the request. The message says what to try."""
