"""Which version of Slicer the host imitates, where versions differ."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pythonqt_headers
import slicer

from slicerhost import sample_data

# The oldest and the newest release that the module supports.
VERSIONS = ("5.10", "5.12")


def default_version(source: str | None) -> str:
    """The version of a source tree of Slicer; without one, the newest."""
    return pythonqt_headers.version(Path(source)).rpartition(".")[0] if source else VERSIONS[-1]


def imitate(version: str) -> None:
    """Have what that version has, and lack what it lacks."""
    since_5_11 = tuple(map(int, version.split("."))) >= (5, 11)
    sample_data.install(has_categories=since_5_11)
    sys.modules.pop("slicer.packaging", None)
    if since_5_11:
        slicer.packaging = importlib.import_module("slicer.packaging")
        slicer.packaging.pip_install = slicer.util.pip_install
    else:
        vars(slicer).pop("packaging", None)
        # To the import system: there is none, wherever it looks.
        sys.modules["slicer.packaging"] = None
