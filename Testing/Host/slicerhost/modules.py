"""Modules: scripted ones read from their file, shown in a frame, entered and left; Slicer's own by their logic."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer
from PySide6.QtWidgets import QVBoxLayout

from slicerhost.mrml_widgets import qSlicerScriptedLoadableModuleWidget
from slicerhost.wrapping import wrap


class CoreModule:
    """A module of Slicer of which there is the logic alone."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name, self._logic = name, logic

    def logic(self) -> Any:
        return self._logic

    def enter(self) -> None:
        """There is no panel."""

    leave = enter


class SequencesModule(CoreModule):
    """Attributes: ``active`` is the browser node that the toolbar plays."""

    active: Any = None

    def showSequenceBrowser(self, browser: Any) -> bool:
        self.active = browser
        return True


class ScriptedModule:
    """What ``slicer.modules.<name>`` is, and what the module's class gets as its parent.

    It has the properties of a module's card and takes no others.
    """

    __slots__ = (
        "_frame",
        "acknowledgementText",
        "categories",
        "contributors",
        "dependencies",
        "helpText",
        "hidden",
        "icon",
        "name",
        "path",
        "title",
    )

    def __init__(self, path: Path) -> None:
        self.path, self.name = str(path), path.stem
        self.title = self.helpText = self.acknowledgementText = ""
        self.categories: list[str] = []
        self.dependencies: list[str] = []
        self.contributors: list[str] = []
        self.icon: Any = None
        self.hidden = False
        self._frame: qSlicerScriptedLoadableModuleWidget | None = None
        self._read()
        setattr(slicer.modules, f"{self.name}Instance", getattr(self.python, self.name)(self))

    @property
    def python(self) -> ModuleType:
        """The Python module of the file, as it was last read."""
        return sys.modules[self.name]

    def widgetRepresentation(self) -> Any:
        """The frame with the panel, which is built when it is first asked for."""
        if self._frame is None:
            self._frame = qSlicerScriptedLoadableModuleWidget(self._build)
            self._frame.setLayout(QVBoxLayout())
            self._frame.setMRMLScene(slicer.mrmlScene)
            self._frame.reload()
        return wrap(self._frame)

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
