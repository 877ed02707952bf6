"""Modules: scripted ones read from their file, shown in a frame, entered and left; Slicer's own by their logic."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer
from PySide6.QtCore import Property, QObject
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QVBoxLayout

from slicerhost.ctk_widgets import stored
from slicerhost.mrml_widgets import qMRMLSequenceBrowserToolBar, qSlicerScriptedLoadableModuleWidget
from slicerhost.wrapping import wrap


class qSlicerAbstractCoreModule(QObject):
    """What all modules have in common."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    name = Property(str, lambda self: self._name, constant=True)

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene


class qSlicerAbstractModule(qSlicerAbstractCoreModule):
    """A module that may have a panel."""


class qSlicerLoadableModule(qSlicerAbstractModule):
    """A module that is read from a file."""


class _OwnModule(qSlicerLoadableModule):
    """A module of Slicer of which there is the logic alone."""

    def __init__(self, logic: Any) -> None:
        super().__init__(type(self).__name__.removeprefix("qSlicer").removesuffix("Module"))
        self._logic = logic

    def logic(self) -> Any:
        return self._logic

    def enter(self) -> None:
        """There is no panel."""

    leave = enter


class qSlicerVolumesModule(_OwnModule):
    """Volumes."""


class qSlicerSubjectHierarchyModule(_OwnModule):
    """Subject hierarchy."""


class qSlicerSegmentationsModule(_OwnModule):
    """Segmentations."""


class qSlicerTerminologiesModule(_OwnModule):
    """Terminologies."""


class qSlicerSequencesModule(_OwnModule):
    """Sequences, with the toolbar that plays them."""

    def __init__(self, logic: Any) -> None:
        super().__init__(logic)
        self._toolBar = qMRMLSequenceBrowserToolBar()

    def toolBar(self) -> qMRMLSequenceBrowserToolBar:
        return self._toolBar

    def showSequenceBrowser(self, browser: Any) -> bool:
        self._toolBar.setActiveBrowserNode(browser)
        return True


class qSlicerScriptedLoadableModule(qSlicerLoadableModule):
    """What ``slicer.modules.<name>`` is, and what the module's class gets as its parent."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.stem)
        self._path = str(path)
        self._title = self._helpText = self._acknowledgementText = ""
        self._categories: list[str] = []
        self._dependencies: list[str] = []
        self._contributors: list[str] = []
        self._associatedNodeTypes: list[str] = []
        self._extensions: dict[str, Any] = {}
        self._icon = QIcon()
        self._hidden = False
        self._index = -1
        self._frame: qSlicerScriptedLoadableModuleWidget | None = None
        self._read()
        setattr(slicer.modules, f"{self.name}Instance", getattr(self.python, self.name)(wrap(self)))

    path = Property(str, lambda self: self._path, constant=True)
    title = stored(str, "title")
    helpText = stored(str, "helpText")
    acknowledgementText = stored(str, "acknowledgementText")
    categories = stored("QStringList", "categories")
    dependencies = stored("QStringList", "dependencies")
    contributors = stored("QStringList", "contributors")
    associatedNodeTypes = stored("QStringList", "associatedNodeTypes")
    extensions = stored("QVariantMap", "extensions")
    icon = stored(QIcon, "icon")
    hidden = stored(bool, "hidden")
    index = stored(int, "index")

    @property
    def python(self) -> ModuleType:
        """The Python module of the file, as it was last read."""
        return sys.modules[self.name]

    def widgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget:
        """The frame with the panel, which is built when it is first asked for."""
        if self._frame is None:
            self._frame = qSlicerScriptedLoadableModuleWidget(self._build)
            self._frame.setLayout(QVBoxLayout())
            self._frame.setMRMLScene(slicer.mrmlScene)
            self._frame.reload()
        return self._frame

    def enter(self) -> None:
        """Show the panel."""
        self.widgetRepresentation()
        self._frame.show()
        self._frame.entered = True
        getattr(self._frame.self(), "enter", lambda: None)()

    def leave(self) -> None:
        """Hide the panel, as when another module is chosen."""
        if self._frame is not None and self._frame.entered:
            self._frame.entered = False
            getattr(self._frame.self(), "exit", lambda: None)()
            self._frame.hide()

    def delete(self) -> None:
        """Take the panel away."""
        if self._frame is not None:
            self._frame.deleteLater()
            self._frame = None

    def _read(self) -> None:
        # Slicer puts the folder of the module on the path, and no other.
        folder = str(Path(self.path).parent)
        if folder not in sys.path:
            sys.path.append(folder)
        spec = importlib.util.spec_from_file_location(self.name, self.path)
        sys.modules[self.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.python)

    def _build(self) -> Any:
        panel = getattr(self.python, f"{self.name}Widget")(wrap(self._frame))
        setattr(slicer.modules, f"{self.name}Widget", panel)
        panel.setup()
        return panel
