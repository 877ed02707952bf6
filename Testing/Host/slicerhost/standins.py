"""Which PySide6 class stands in for a class of CTK or Slicer."""

from __future__ import annotations

import functools
from typing import Any

from PySide6 import QtWidgets

from slicerhost import ctk_widgets, modules, mrml_widgets
from slicerhost.observed import missing

PREFIXES = ("ctk", "qMRML", "qSlicer")


@functools.cache
def native_class(name: str) -> type:
    """The stand-in, or an empty widget of its own type; making one of those is noted as missing."""
    for module in (ctk_widgets, mrml_widgets, modules):
        if found := vars(module).get(name):
            return found

    def note(self: Any, *args: Any) -> None:
        missing.append(name)
        QtWidgets.QWidget.__init__(self, *[arg for arg in args if isinstance(arg, QtWidgets.QWidget)])

    return type(name, (QtWidgets.QWidget,), {"__init__": note})
