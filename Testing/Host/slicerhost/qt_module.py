"""The modules ``qt`` and ``ctk`` as Python code in Slicer imports them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets
from pythonqt_table import offer

from slicerhost import dialogs as _dialogs  # noqa: F401  registers its replacements before classes are mirrored
from slicerhost import standins, ui_loader
from slicerhost.signals import guarded
from slicerhost.wrapping import Wrapper, function, mirror, replaces, wrap

_MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtUiTools)
# PySide6's own inventions.
_NOT_QT = {"Signal", "Slot", "Property", "SIGNAL", "SLOT", "ClassInfo"}


def install() -> None:
    """Make ``import qt`` and ``import ctk`` work."""
    for name, find in (("qt", _qt), ("ctk", _ctk)):
        module = ModuleType(name)
        module.__dict__["__getattr__"] = find
        sys.modules[name] = module


def _qt(name: str) -> Any:
    if name not in _NOT_QT and not name.startswith("_"):
        for module in _MODULES:
            if (found := getattr(module, name, None)) is not None:
                return mirror(found) if isinstance(found, type) else function(found)
    raise AttributeError(f"module 'qt' has no attribute '{name}'")


def _ctk(name: str) -> Any:
    if name.startswith("ctk") and offer(name):
        return mirror(standins.native_class(name))
    raise AttributeError(f"module 'ctk' has no attribute '{name}'")


@replaces(QtCore.QObject, "name")
@property
def _name(self: Wrapper) -> str:
    return self.native.objectName()


@_name.setter
def _name(self: Wrapper, value: str) -> None:
    self.native.setObjectName(value)


replaces(QtCore.QObject, "name")(_name)


@replaces(QtCore.QObject, "className")
def _class_name(self: Wrapper) -> str:
    return type(self.native).__name__


@replaces(QtCore.QObject, "findChildren")
def _find_children(self: Wrapper, kind: Any, name: str = "", /) -> tuple[Wrapper, ...]:
    return tuple(
        wrap(child)
        for child in self.native.findChildren(QtCore.QObject)
        if (child.inherits(kind) if isinstance(kind, str) else isinstance(child, kind._native_class))
        and name in ("", child.objectName())
    )


@replaces(QtCore.QObject, "findChild")
def _find_child(self: Wrapper, kind: Any, name: str = "", /) -> Wrapper | None:
    return next(iter(_find_children(self, kind, name)), None)


class _SingleShot:
    """On a timer whether it fires once, on the class the function that calls back later."""

    def __get__(self, timer: Wrapper | None, owner: type) -> Any:
        if timer is not None:
            return timer.native.isSingleShot()
        return lambda msec, receiver, /: QtCore.QTimer.singleShot(msec, guarded(receiver))

    def __set__(self, timer: Wrapper, value: bool) -> None:
        timer.native.setSingleShot(value)


replaces(QtCore.QTimer, "singleShot")(_SingleShot())


@replaces(QtUiTools.QUiLoader, "load")
def _load(self: Wrapper, file: Wrapper, parent: Wrapper | None = None, /) -> Wrapper:
    return wrap(ui_loader.load(file.native.fileName(), parent.native if parent else None))
