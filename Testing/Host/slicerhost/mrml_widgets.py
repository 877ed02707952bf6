"""Stand-ins for Slicer's widgets that follow a scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import vtk
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QToolBar, QWidget

from slicerhost.ctk_widgets import ctkSliderWidget, stored


class _WithScene(QWidget):
    """Keeps a scene, and says when it is another."""

    mrmlSceneChanged = Signal(object)
    cpp_signals: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)


class qMRMLWidget(_WithScene):
    """The root of a panel: hands its scene to the widgets that its .ui file connects."""


class qMRMLSliderWidget(ctkSliderWidget):
    """A slider; units of the scene are not applied."""

    def setMRMLScene(self, scene: Any) -> None:
        """The scene has nothing to say about it."""


class qSlicerWidget(_WithScene):
    """What panels of modules have in common: a scene."""


class qSlicerAbstractModuleWidget(qSlicerWidget):
    """A panel, which is entered and left."""

    entered = False
    isEntered = Property(bool, lambda self: self.entered)


class qSlicerScriptedLoadableModuleWidget(qSlicerAbstractModuleWidget):
    """The frame in which Slicer shows the panel of a scripted module."""

    def __init__(self, build: Callable[[], Any]) -> None:
        super().__init__()
        self._build = build
        self._python: Any = None

    def self(self) -> Any:
        """The Python object of the panel."""
        return self._python

    def reload(self) -> None:
        """Build the panel anew, after its file was read again."""
        self._python = self._build()


class qMRMLSequenceBrowserToolBar(QToolBar):
    """The toolbar that plays a sequence."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._browser: Any = None

    def activeBrowserNode(self) -> Any:
        """The browser node that is played: none once it has left the scene."""
        if self._browser is not None and self._browser.GetScene() is None:
            self._browser = None
        return self._browser

    def setActiveBrowserNode(self, browser: Any) -> None:
        self._browser = browser


class qMRMLNodeComboBox(QWidget):
    """Chooses a node of some classes; below the nodes stand its actions, as in Slicer."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAddedByUser = Signal(object)
    nodeActivated = Signal(object)
    cpp_signals: ClassVar = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._nodeTypes: list[str] = []
        self._noneEnabled = self._renameEnabled = self._editEnabled = self._showHidden = False
        self._addEnabled = self._removeEnabled = self._showChildNodeTypes = self._selectNodeUponCreation = True
        self._baseName, self._noneDisplay = "", "None"
        self._current = ""
        self._observed: dict[Any, list[int]] = {}
        self._counted: list[int] = []
        self._filled: Any = None
        self._listed: list[tuple[str, str]] = []
        self._entries: frozenset[tuple[str, str]] = frozenset()
        self._combo_box = QComboBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box)
        self._combo_box.activated.connect(self._activate)
        # Not a method: there is no object left when it is called.
        observed = self._observed
        self.destroyed.connect(lambda: _unobserve(observed))

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self._follow()

    def nodeCount(self) -> int:
        return len(self._nodes())

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current) if self._scene and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        """Choose a node, one by its ID, or none; a node that is not among those offered is none."""
        identifier = node if isinstance(node, str) else node.GetID() if node else ""
        self._choose(identifier if identifier in [offered.GetID() for offered in self._nodes()] else "")

    setCurrentNodeID = setCurrentNode

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self._nodes()[index])

    def addNode(self, node_type: str = "") -> Any:
        """A new node of the first class that is offered; it becomes the current one."""
        node_type = node_type or self._nodeTypes[0]
        base = self._baseName or self._scene.GetTagByClassName(node_type)
        node = self._scene.AddNewNodeByClass(node_type, self._scene.GenerateUniqueName(base))
        if self._selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def _nodes(self) -> list[Any]:
        if not self._scene:
            return []
        every = []
        for kind in dict.fromkeys(self._nodeTypes):
            nodes = self._scene.GetNodesByClass(kind)
            nodes.UnRegister(None)
            every += [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]
        return list(dict.fromkeys(node for node in every if self._offers(node)))

    def _offers(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self._showHidden:
            return False
        if self._showChildNodeTypes:
            return any(node.IsA(kind) for kind in self._nodeTypes)
        return node.GetClassName() in self._nodeTypes

    def _count(self, *_args: Any) -> None:
        """A node has come or gone: follow, if it is one of these; a scene of hundreds tells of many others."""
        if self._counted != self._counts():
            self._follow()

    def _counts(self) -> list[int]:
        return [self._scene.GetNumberOfNodesByClass(kind) for kind in self._nodeTypes] if self._scene else []

    def _follow(self, *_args: Any) -> None:
        """Show the nodes that there are now, and observe the scene and them."""
        self._counted = self._counts()
        nodes = [] if not self._scene or self._scene.IsBatchProcessing() else self._nodes()
        # Only what is new or gone: a scene of hundreds of nodes tells of each that is added.
        wanted = {*([self._scene] if self._scene else []), *nodes}
        for subject in self._observed.keys() - wanted:
            _unobserve({subject: self._observed.pop(subject)})
        for subject in wanted - self._observed.keys():
            if subject is self._scene:
                tags = [
                    subject.AddObserver(subject.NodeAddedEvent, self._count),
                    subject.AddObserver(subject.NodeRemovedEvent, self._count),
                    subject.AddObserver(subject.EndBatchProcessEvent, self._follow),
                ]
            else:
                tags = [subject.AddObserver(vtk.vtkCommand.ModifiedEvent, self._rename)]
            self._observed[subject] = tags
        before = [identifier for _, identifier in self._listed]
        self._fill(nodes)
        offered = [node.GetID() for node in nodes]
        if self._current and self._current not in offered:
            # As Qt does when the current row goes: the row above, which may be that of none.
            rows = [""] * self._noneEnabled + before
            above = rows[: rows.index(self._current)] if self._current in rows else []
            self._choose(next((row for row in reversed(above) if row in offered), ""))

    def _fill(self, nodes: list[Any]) -> None:
        entries = [(node.GetName(), node.GetID()) for node in nodes]
        actions = (self._noneEnabled, self._noneDisplay, self._addEnabled, self._removeEnabled, self._baseName)
        state = (entries, self._current, actions, list(self._nodeTypes))
        if state == self._filled:
            return
        self._filled, self._listed, self._entries = state, entries, frozenset(entries)
        self._combo_box.blockSignals(True)
        self._combo_box.clear()
        if self._noneEnabled:
            self._combo_box.addItem(self._noneDisplay, "")
        for name, identifier in entries:
            self._combo_box.addItem(name, identifier)
        if self._addEnabled and self._nodeTypes and self._scene:
            tag = self._baseName or self._scene.GetTagByClassName(self._nodeTypes[0]) or self._nodeTypes[0]
            self._combo_box.addItem(f"Create new {tag}", self.addNode)
        if self._removeEnabled and self._current:
            self._combo_box.addItem("Delete current node", self.removeCurrentNode)
        self._combo_box.setCurrentIndex(self._combo_box.findData(self._current))
        self._combo_box.blockSignals(False)

    def _rename(self, node: Any, _event: str) -> None:
        # Most of what a node tells of leaves its entry as it is.
        if (node.GetName(), node.GetID()) not in self._entries or not self._offers(node):
            self._fill(self._nodes())

    def _choose(self, identifier: str) -> None:
        changed, self._current = identifier != self._current, identifier
        self._fill(self._nodes())
        if changed:
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(identifier)

    def _activate(self, index: int) -> None:
        # The box shows what was clicked, which may be an action.
        self._filled = None
        chosen = self._combo_box.itemData(index)
        if callable(chosen):
            chosen()
        else:
            self._choose(chosen)
            self.nodeActivated.emit(self.currentNode())

    def _get_current_id(self) -> str:
        return self._current

    currentNodeID = Property(str, _get_current_id, setCurrentNode)
    nodeTypes = stored("QStringList", "nodeTypes", _follow)
    noneEnabled = stored(bool, "noneEnabled", _follow)
    addEnabled = stored(bool, "addEnabled", _follow)
    removeEnabled = stored(bool, "removeEnabled", _follow)
    renameEnabled = stored(bool, "renameEnabled")
    editEnabled = stored(bool, "editEnabled")
    showHidden = stored(bool, "showHidden", _follow)
    showChildNodeTypes = stored(bool, "showChildNodeTypes", _follow)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation")
    baseName = stored(str, "baseName", _follow)
    noneDisplay = stored(str, "noneDisplay", _follow)


def _unobserve(observed: dict[Any, list[int]]) -> None:
    while observed:
        subject, tags = observed.popitem()
        for tag in tags:
            subject.RemoveObserver(tag)
