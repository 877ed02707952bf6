"""The decorator that turns a class of annotated names into access to a parameter node."""

from __future__ import annotations

import typing
from typing import Any, ClassVar

import qt
import slicer
import vtk

from .annotations import Default
from .connectors import Connector, createGuiConnector
from .storage import Parameter, parameter

_PROPERTY = "SlicerParameterName"


class _ParameterNode:
    """What every wrapped class can do; ``parameterNode`` is the node itself."""

    allParameters: ClassVar[dict[str, Parameter]]
    _types: ClassVar[dict[str, Any]]

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[dict[str, Connector], int]] = {}
        self._next_tag = 0
        self._updating = False
        for name, stored in self.allParameters.items():
            if not stored.is_in(parameterNode, name):
                stored.write(parameterNode, name, stored.default())

    def getValue(self, name: str) -> Any:
        return self._find(name).read(self.parameterNode, name)

    def setValue(self, name: str, value: Any) -> None:
        with slicer.util.NodeModify(self.parameterNode):
            self._find(name).write(self.parameterNode, name, value)

    def default(self, name: str) -> Default:
        return Default(self._find(name).default())

    def dataType(self, name: str) -> Any:
        self._find(name)
        return self._types[name]

    def connectGui(self, gui: Any) -> int:
        """Bind every widget that carries the name of a parameter; the tag is for ``disconnectGui``."""
        if hasattr(gui, "isWidgetType"):
            widgets = gui.findChildren(qt.QWidget)
        else:
            widgets = [widget for widget in vars(gui).values() if hasattr(widget, "isWidgetType")]
        named = [(widget.property(_PROPERTY), widget) for widget in widgets]
        return self.connectParametersToGui({name: widget for name, widget in named if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        """Bind widgets by the names of parameters."""
        connectors = {name: createGuiConnector(widget, self.dataType(name)) for name, widget in mapping.items()}
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(lambda name=name, connector=connector: self._from_gui(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._to_gui())
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        self._guis[tag] = connectors, observer
        return tag

    def disconnectGui(self, tag: int | None) -> None:
        connectors, observer = self._guis.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.onChanged(None)
        if observer is not None:
            self.RemoveObserver(observer)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, previous: int) -> None:
        self.parameterNode.EndModify(previous)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def _find(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"There is no parameter {name!r} among {', '.join(self.allParameters)}.")
        return self.allParameters[name]

    def _from_gui(self, name: str, connector: Connector) -> None:
        if not self._updating:
            self.setValue(name, connector.read())

    def _to_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for connectors, _ in list(self._guis.values()):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._updating = False


def parameterNodeWrapper(described: type) -> type:
    """Class decorator: annotated names become properties kept in a parameter node."""
    types = typing.get_type_hints(described, include_extras=True)
    members: dict[str, Any] = {"allParameters": {}, "_types": types}
    for name, annotated in types.items():
        if name in vars(_ParameterNode):
            raise ValueError(f"{name!r} is a reserved name.")
        stored = parameter(annotated)
        if hasattr(described, name):
            stored.given = Default(getattr(described, name))
        members["allParameters"][name] = stored
        members[name] = property(
            lambda self, name=name: self.getValue(name), lambda self, value, name=name: self.setValue(name, value)
        )
    own = {name: value for name, value in vars(described).items() if name not in ("__dict__", "__weakref__")}
    return type(described.__name__, (_ParameterNode,), {**own, **members})
