"""The layout manager: the nodes and logics of the views, without anything drawn on a screen."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import slicer
import vtk
from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtWidgets import QWidget

from slicerhost.pulse import pulse


class _View(QWidget):
    """What draws a view: its window is there, empty of what the view shows."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        # Without a screen each looks for one.
        with pulse.apart():
            self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(True)
        self._window.SetSize(200, 200)
        # Where Slicer's own things are.
        self._window.AddRenderer(vtk.vtkRenderer())

    def renderWindow(self) -> Any:
        return self._window


class qMRMLSliceView(_View):
    """What draws a slice view."""


class qMRMLSliceControllerWidget(QWidget):
    """The bar above a slice view."""


class qMRMLThreeDViewControllerWidget(QWidget):
    """The bar above a 3D view."""


class qMRMLSliceWidget(QWidget):
    """One slice view."""

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic, self._view, self._controller = logic, qMRMLSliceView(self), qMRMLSliceControllerWidget(self)

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def sliceView(self) -> qMRMLSliceView:
        return self._view

    def sliceController(self) -> qMRMLSliceControllerWidget:
        return self._controller

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class qMRMLThreeDView(_View):
    """What draws a 3D view."""

    def __init__(self, node: Any, parent: QWidget) -> None:
        super().__init__(parent)
        self._node = node

    def mrmlViewNode(self) -> Any:
        return self._node

    def resetFocalPoint(self) -> None:
        """There is no camera to move."""

    resetCamera = forceRender = resetFocalPoint


class qMRMLThreeDWidget(QWidget):
    """One 3D view."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._view, self._controller = qMRMLThreeDView(node, self), qMRMLThreeDViewControllerWidget(self)

    def threeDView(self) -> qMRMLThreeDView:
        return self._view

    def threeDController(self) -> qMRMLThreeDViewControllerWidget:
        return self._controller

    def mrmlViewNode(self) -> Any:
        return self._view.mrmlViewNode()


class qSlicerLayoutManager(QObject):
    """A 3D view, and the slice views of the layouts that were shown."""

    layoutChanged = Signal(int)

    def __init__(self, parent: QObject, application_logic: Any) -> None:
        super().__init__(parent)
        self._application_logic = application_logic
        self._logics = application_logic.GetSliceLogics()
        self._widgets: dict[str, qMRMLSliceWidget] = {}
        self._layout_logic = slicer.vtkMRMLLayoutLogic()
        self.forget_layouts()
        self._threed = qMRMLThreeDWidget(slicer.mrmlScene.GetSingletonNode("1", "vtkMRMLViewNode"))

    def _layout(self) -> int:
        return self._layout_logic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, layout: int) -> None:
        self._layout_logic.GetLayoutNode().SetViewArrangement(int(layout))

    layout = Property(int, _layout, setLayout)

    def forget_layouts(self) -> None:
        """Have a new layout node, which knows Slicer's own layouts and shows the four views."""
        if node := self._layout_logic.GetLayoutNode():
            slicer.mrmlScene.RemoveNode(node)
        self._layout_logic.SetMRMLScene(None)
        self._layout_logic.SetMRMLScene(slicer.mrmlScene)
        node = self._layout_logic.GetLayoutNode()
        # Makes the view nodes of all four.
        node.SetViewArrangement(node.SlicerLayoutFourUpView)
        self._slices: dict[str, qMRMLSliceWidget] = {}
        self._shown = ""
        self._lay_out()
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._lay_out)

    def _lay_out(self, *_args: Any) -> None:
        """Have a widget for each slice view of the layout; those of other layouts stay."""
        node = self._layout_logic.GetLayoutNode()
        description = node.GetCurrentLayoutDescription() or ""
        if description == self._shown:
            return
        self._shown = description
        for view in ET.fromstring(description).iter("view") if description else ():
            if view.get("class") == "vtkMRMLSliceNode":
                name = view.get("singletontag")
                self._slices[name] = self._widgets[name] = self._widgets.get(name) or self._slice_widget(name)
        self.layoutChanged.emit(node.GetViewArrangement())

    def _slice_widget(self, name: str) -> qMRMLSliceWidget:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._application_logic)
        self._logics.AddItem(logic)
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSliceNode(slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode"))
        return qMRMLSliceWidget(logic)

    def layoutLogic(self) -> Any:
        return self._layout_logic

    def mrmlSliceLogics(self) -> Any:
        return self._logics

    def sliceViewNames(self) -> list[str]:
        return list(self._slices)

    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        return self._slices.get(name)

    def threeDWidget(self, index: int) -> qMRMLThreeDWidget | None:
        return self._threed if index == 0 else None

    def resetSliceViews(self) -> None:
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """There is no camera to move."""

    threeDViewCount = Property(int, lambda _self: 1)
    tableViewCount = Property(int, lambda _self: 0)
    plotViewCount = Property(int, lambda _self: 0)
