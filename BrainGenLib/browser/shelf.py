"""The cases of the page on disk: they outlive tabs and the server, until they are deleted in the page."""

from __future__ import annotations

import json
import shutil
import threading
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput

_CASE, _ABOUT, _PART = "case", "about.json", ".part"


class Source(NamedTuple):
    """An image of a case, by their names while both are there."""

    case: str
    contrast: str


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
        # Another case may get the name of one that was removed.
        self._identities: dict[str, str] = {}
        self._keeping = threading.Lock()
        for place in sorted(folder.iterdir()):
            about = self._about(place)
            if (name := about.get("name")) is None:
                continue
            if name in self._places:
                # It was to give way to the newer one.
                shutil.rmtree(self._places[name], ignore_errors=True)
            self._places[name] = place
            self._identities[name] = about.get("identity", uuid.uuid4().hex)

    @property
    def names(self) -> list[str]:
        """Of the cases, also of those that are on their way to disk."""
        return list(self._identities)

    def keep(self, name: str, case: Case, of: Source | None = None) -> None:
        """Write a case, unless it is removed meanwhile; it takes a while, so call it in a thread.

        Args:
            name: of the case. One of that name is replaced when the new one is whole.
            case: with its arrays.
            of: the image that it is a change or a segmentation of, if it is one.

        Raises:
            OSError: the disk is full, ….
        """
        with self._keeping:
            taken = [int(place.stem) for place in self.folder.iterdir() if place.stem.isdigit()]
            place = self.folder / f"{max(taken, default=0) + 1:06d}"
            part = place.with_suffix(_PART)
            part.mkdir(mode=0o700)
            identity = self._identity(name)
            about: dict[str, Any] = {"name": name, "identity": identity}
            if of is not None:
                about["of"] = {"identity": self._identity(of.case), "contrast": of.contrast}
        try:
            case.save(part / _CASE)
            (part / _ABOUT).write_text(json.dumps(about), "utf-8")
            with self._keeping:
                if self._identities.get(name) == identity:
                    part.rename(place)
                    replaced = self._places.get(name)
                    self._places[name] = place
                    if replaced is not None:
                        shutil.rmtree(replaced, ignore_errors=True)
        except OSError:
            with self._keeping:
                if name not in self._places:
                    self._identities.pop(name, None)
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def load(self, name: str) -> tuple[Case, Source | None]:
        """A case, and the image that it is of, if there is one and its case is still kept.

        Raises:
            BadInput, OSError, ValueError, KeyError, TypeError: another program wrote to its files.
        """
        place = self._places[name]
        case, of = Case.load(place / _CASE), self._about(place).get("of")
        with self._keeping:
            cases = {identity: case for case, identity in self._identities.items()}
        # Earlier versions kept the name of the image, which another may have by now.
        if not isinstance(of, dict) or of["identity"] not in cases:
            return case, None
        return case, Source(cases[of["identity"]], of["contrast"])

    def remove(self, name: str) -> None:
        """Remove a case from disk; nothing happens if there is none of that name."""
        with self._keeping:
            place = self._places.pop(name, None)
            self._identities.pop(name, None)
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)

    def _identity(self, name: str) -> str:
        """Of a case, which it has from when it is first spoken of until it is removed."""
        return self._identities.setdefault(name, uuid.uuid4().hex)

    @staticmethod
    def _about(place: Path) -> dict[str, Any]:
        """What stands beside a case; nothing, where a folder is none."""
        try:
            return json.loads((place / _ABOUT).read_text("utf-8")) if place.name.isdigit() else {}
        except (OSError, ValueError):
            return {}
