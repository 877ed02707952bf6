"""The layout manager: the nodes and logics of the views, without anything drawn."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtWidgets import QWidget

_SLICE_VIEWS = ("Red", "Green", "Yellow")


class qMRMLSliceView(QWidget):
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


class qMRMLThreeDView(QWidget):
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
    """Three slice views and a 3D view, whatever the layout shows of them."""

    layoutChanged = Signal(int)

    def __init__(self, parent: QObject, application_logic: Any) -> None:
        super().__init__(parent)
        scene = slicer.mrmlScene
        self._layout_logic = slicer.vtkMRMLLayoutLogic()
        self.forget_layouts()
        self._slices = {}
        for name in _SLICE_VIEWS:
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLApplicationLogic(application_logic)
            application_logic.GetSliceLogics().AddItem(logic)
            logic.SetMRMLScene(scene)
            logic.SetSliceNode(scene.GetSingletonNode(name, "vtkMRMLSliceNode"))
            self._slices[name] = qMRMLSliceWidget(logic)
        self._threed = qMRMLThreeDWidget(scene.GetSingletonNode("1", "vtkMRMLViewNode"))
        self._logics = application_logic.GetSliceLogics()

    def _layout(self) -> int:
        return self._layout_logic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, layout: int) -> None:
        self._layout_logic.GetLayoutNode().SetViewArrangement(int(layout))
        self.layoutChanged.emit(int(layout))

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
