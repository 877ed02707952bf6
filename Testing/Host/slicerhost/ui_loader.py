""".ui files: Qt's own loader, with stand-ins for the classes of CTK and Slicer."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from PySide6 import QtCore, QtUiTools

from slicerhost import standins
from slicerhost.observed import complain
from slicerhost.signals import connect
from slicerhost.wrapping import mirror


class _Loader(QtUiTools.QUiLoader):
    def __init__(self) -> None:
        super().__init__()
        self.created: list[Any] = []

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        if class_name.startswith(standins.PREFIXES):
            widget = standins.native_class(class_name)(parent)
        else:
            widget = super().createWidget(class_name, parent, name)
        widget.setObjectName(name)
        self.created.append(widget)
        return widget


def load(path: str, parent: Any = None) -> Any:
    """The PySide6 widget that a .ui file describes, with its connections made.

    QUiLoader cannot connect signals whose arguments are VTK objects, so all connections are made here.
    """
    tree = ET.parse(path).getroot()
    connections = [
        [connection.findtext(part, "") for part in ("sender", "signal", "receiver", "slot")]
        for connection in tree.iter("connection")
    ]
    for section in tree.findall("connections"):
        tree.remove(section)
    _number_enums(tree)
    buffer = QtCore.QBuffer()
    buffer.setData(ET.tostring(tree))
    buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    loader = _Loader()
    widget = loader.load(buffer, parent)
    if widget is None:
        raise RuntimeError(f"{path}: {loader.errorString()}")
    # Python made the stand-ins and would take them away with its last reference.
    widget.created = loader.created

    named = {child.objectName(): child for child in [widget, *widget.findChildren(QtCore.QObject)]}
    for sender, signal, receiver, slot in connections:
        for name in (sender, receiver):
            if name not in named:
                complain(f"{path} connects {name}, which it does not hold")
                break
        else:
            connect(named[sender], signal, named[receiver], slot)
    return widget


def _number_enums(tree: Any) -> None:
    """Write the enum values of stand-ins as numbers: their meta-objects know no enums."""
    for properties in tree.iter("property"):
        for element in properties:
            text = element.text or ""
            if element.tag in ("set", "enum") and text.startswith(standins.PREFIXES):
                element.tag, element.text = "number", str(sum(map(_enum_value, text.split("|"))))


def _enum_value(text: str) -> int:
    kind, _, value = text.rpartition("::")
    known = getattr(mirror(standins.native_class(kind)), value, None)
    if known is None:
        complain(f"{kind} has no value {value}")
        return 0
    return known
