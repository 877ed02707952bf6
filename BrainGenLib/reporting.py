"""How a method tells how far it is, and how it is asked to stop."""

from __future__ import annotations

from typing import Protocol

from BrainGenLib.case import Case


class Cancelled(Exception):
    """The user asked to stop; raised by :meth:`Reporter.step`."""


class Reporter(Protocol):
    """Passed to every method. The engine's writes job events; the silent one serves scripts and tests."""

    def step(self, stage: str, step: int, of: int, message: str = "") -> None:
        """Report progress, at least once a sampler step. Raises :class:`Cancelled` if the user asked to stop."""

    def preview(self, case: Case, name: str) -> None:
        """Show an early, coarse result."""


class Silent:
    """Reports to nobody."""

    def step(self, stage: str, step: int, of: int, message: str = "") -> None:
        """Nothing to do."""

    def preview(self, case: Case, name: str) -> None:
        """Nothing to do."""
