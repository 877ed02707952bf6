"""The cases of the page on disk: they outlive tabs and the server, until they are deleted in the page."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput

_CASE, _ABOUT, _PART = "case", "about.json", ".part"


class Shelf:
    """Case folders by name, in the order in which they came.

    Args:
        folder: made if need be; only this user may read what is put into it, as scans of people are.

    Raises:
        BadInput: another server uses the folder, or it cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
            self._lock.acquire()
        except Timeout as error:
            raise BadInput(f"Another `braingen app` uses {folder}; give this one another with --results.") from error
        except OSError as error:
            raise BadInput(f"Results cannot be kept in {folder} ({error.strerror}); choose --results.") from error
        for left in folder.glob(f"{6 * '[0-9]'}{_PART}"):
            shutil.rmtree(left, ignore_errors=True)
        self._places: dict[str, Path] = {}
        self._keeping = threading.Lock()
        for place in sorted(folder.iterdir()):
            if (name := self._about(place).get("name")) is not None:
                self._places[name] = place

    @property
    def names(self) -> list[str]:
        """Of the cases."""
        return list(self._places)

    def keep(self, name: str, case: Case, of: str = "") -> None:
        """Write a case, unless it is removed meanwhile; it takes a while, so call it in a thread.

        Args:
            name: of the case.
            case: with its arrays.
            of: name of the volume that it is a change or a segmentation of, if it is one.

        Raises:
            OSError: the disk is full, ….
        """
        with self._keeping:
            taken = [
                int(place.stem) for place in (*self.folder.iterdir(), *self._places.values()) if place.stem.isdigit()
            ]
            place = self.folder / f"{max(taken, default=0) + 1:06d}"
            part = place.with_suffix(_PART)
            part.mkdir(mode=0o700)
            self._places[name] = place
        try:
            case.save(part / _CASE)
            (part / _ABOUT).write_text(json.dumps({"name": name, "of": of}), "utf-8")
            with self._keeping:
                if self._places.get(name) == place:
                    part.rename(place)
        except OSError:
            self.remove(name)
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def load(self, name: str) -> tuple[Case, str]:
        """A case, and what it is of.

        Raises:
            BadInput, OSError, ValueError, KeyError: somebody else wrote to its files.
        """
        place = self._places[name]
        return Case.load(place / _CASE), self._about(place).get("of", "")

    def remove(self, name: str) -> None:
        """Remove a case from disk; nothing happens if there is none of that name."""
        with self._keeping:
            place = self._places.pop(name, None)
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)

    @staticmethod
    def _about(place: Path) -> dict[str, Any]:
        """What stands beside a case; nothing, where a folder is none."""
        try:
            return json.loads((place / _ABOUT).read_text("utf-8")) if place.name.isdigit() else {}
        except (OSError, ValueError):
            return {}
