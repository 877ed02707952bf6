"""Which widget can show which type: chosen by the exact class of the widget, as in Slicer."""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer

from .annotations import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange
from .storage import node_classes, split


class Connector:
    """A widget with one property that is the value, and a signal that says it changed."""

    def __init__(
        self, widget: Any, prop: str, signal: str, convert: Callable[[Any], Any] = lambda value: value
    ) -> None:
        self.widget, self._property, self._signal, self._convert = widget, prop, signal, convert
        self._callback: Callable[[], None] | None = None

    def read(self) -> Any:
        return self._convert(getattr(self.widget, self._property))

    def write(self, value: Any) -> None:
        # Writing the same text would move the cursor of a line that a user types in.
        if getattr(self.widget, self._property) != value:
            setattr(self.widget, self._property, value)

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        """Call back when the widget changes; None to stop."""
        if self._signal:
            signal = getattr(self.widget, self._signal)
            if callback is None:
                signal.disconnect(self._changed)
            else:
                signal.connect(self._changed)
        self._callback = callback

    def _changed(self) -> None:
        if self._callback is not None:
            self._callback()


class _PathConnector(Connector):
    def write(self, value: pathlib.PurePath) -> None:
        super().write(str(value))


class _NodeConnector(Connector):
    def read(self) -> Any:
        return self.widget.currentNode()

    def write(self, value: Any) -> None:
        self.widget.setCurrentNode(value)


class _ChoiceConnector(Connector):
    """A combo box, cleared and filled with the choices."""

    def __init__(self, widget: Any, choices: list[Any], labels: list[str]) -> None:
        super().__init__(widget, "currentIndex", "currentIndexChanged")
        self._choices = choices
        widget.clear()
        for label in labels:
            widget.addItem(label)

    def read(self) -> Any:
        return self._choices[self.widget.currentIndex]

    def write(self, value: Any) -> None:
        self.widget.currentIndex = self._choices.index(value)


def createGuiConnector(widget: Any, annotated: Any) -> Connector:
    """The connector of a widget and a type.

    Raises:
        RuntimeError: they do not go together.
    """
    kind, annotations = split(annotated)
    shown = type(widget)
    classes = kind if isinstance(kind, type) else type(None)
    nodes = node_classes(kind)
    if shown in (qt.QCheckBox, ctk.ctkCheckBox) and kind is bool:
        return Connector(widget, "checked", "stateChanged")
    if shown == qt.QPushButton and kind is bool:
        widget.checkable = True
        return Connector(widget, "checked", "toggled")
    if shown in (qt.QSpinBox, qt.QSlider) and kind is int:
        low, high = _bounds(annotations, shown == qt.QSlider, (-(2**31), 2**31 - 1))
        widget.setRange(low, high)
        _shape(widget, annotations)
        return Connector(widget, "value", "valueChanged")
    sliders = (ctk.ctkSliderWidget, slicer.qMRMLSliderWidget)
    if shown in (*sliders, qt.QDoubleSpinBox, ctk.ctkDoubleSpinBox) and kind in (int, float):
        widget.minimum, widget.maximum = _bounds(annotations, shown in sliders, (float("-inf"), float("inf")))
        if kind is int:
            widget.decimals = 0
        _shape(widget, annotations)
        return Connector(widget, "value", "valueChanged", kind)
    if shown in (qt.QComboBox, ctk.ctkComboBox):
        if issubclass(classes, enum.Enum):
            label = getattr(kind, "label", lambda member: member.name)
            return _ChoiceConnector(widget, list(kind), [label(member) for member in kind])
        if choice := _first(annotations, Choice):
            return _ChoiceConnector(widget, list(choice.choices), [str(item) for item in choice.choices])
    if shown == qt.QLineEdit and kind is str:
        return Connector(widget, "text", "textChanged")
    if shown == qt.QLabel and kind is str:
        return Connector(widget, "text", "")
    if shown == qt.QTextEdit and kind is str:
        return Connector(widget, "plainText", "textChanged")
    if shown == ctk.ctkPathLineEdit and issubclass(classes, pathlib.PurePath):
        return _PathConnector(widget, "currentPath", "currentPathChanged", kind)
    if shown == ctk.ctkDirectoryButton and issubclass(classes, pathlib.PurePath):
        return _PathConnector(widget, "directory", "directoryChanged", kind)
    if shown == slicer.qMRMLNodeComboBox and nodes:
        widget.nodeTypes = [node.__name__ for node in nodes]
        return _NodeConnector(widget, "", "currentNodeChanged")
    raise RuntimeError(f"A {shown.__name__} cannot show a parameter of type {annotated}.")


def _bounds(annotations: list[Any], needed: bool, unbounded: tuple[float, float]) -> tuple[Any, Any]:
    if within := _first(annotations, WithinRange):
        return within.minimum, within.maximum
    low, high = _first(annotations, Minimum), _first(annotations, Maximum)
    if needed and not (low and high):
        raise RuntimeError("A slider needs WithinRange, or Minimum and Maximum.")
    return low.minimum if low else unbounded[0], high.maximum if high else unbounded[1]


def _shape(widget: Any, annotations: list[Any]) -> None:
    if decimals := _first(annotations, Decimals):
        widget.decimals = decimals.value
    if step := _first(annotations, SingleStep):
        widget.singleStep = step.value


def _first(annotations: list[Any], kind: type) -> Any:
    return next((annotation for annotation in annotations if isinstance(annotation, kind)), None)
