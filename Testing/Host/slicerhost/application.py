"""``slicer.app``."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any, ClassVar

import slicer
from PySide6.QtCore import Property, QCoreApplication, QObject, QProcessEnvironment, QSettings, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QMainWindow

from slicerhost.io_manager import CoreIOManager
from slicerhost.layout import LayoutManager
from slicerhost.pulse import pulse


def _constant(value: str) -> Property:
    return Property(str, lambda _self: value, constant=True)


class ModuleManager(QObject):
    """The modules that were loaded, by name."""

    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._loaded: dict[str, Any] = {}

    def add(self, module: Any) -> None:
        """Take a module that was loaded into the lists."""
        self._loaded[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)
        setattr(slicer.moduleNames, module.name, module.name)
        self.moduleLoaded.emit(module.name)

    def module(self, name: str) -> Any:
        return self._loaded.get(name)

    def modulesNames(self) -> list[str]:
        return list(self._loaded)


class ModuleSelector(QObject):
    """The main window's choice of module."""

    moduleSelected = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._selected = ""

    def selectModule(self, name: str) -> None:
        """Leave the module that is shown and enter another."""
        manager = slicer.app.moduleManager()
        if manager.module(name) is None:
            raise RuntimeError(f"There is no module {name!r}.")
        if shown := manager.module(self._selected):
            shown.leave()
        self._selected = name
        manager.module(name).enter()
        self.moduleSelected.emit(name)

    selectedModule = Property(str, lambda self: self._selected)


class MainWindow(QMainWindow):
    """As much of the main window as ``slicer.util`` asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = ModuleSelector(self)

    def moduleSelector(self) -> ModuleSelector:
        return self._selector


class Application(QObject):
    """qSlicerApplication, without what needs a screen."""

    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)
    cpp_signals: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    applicationName = _constant("Slicer host")
    mainApplicationName = _constant("Slicer")
    applicationVersion = _constant("0")
    revision = _constant("0")
    slicerHome = _constant(sys.prefix)
    documentationBaseUrl = _constant("https://slicer.readthedocs.io/")

    def __init__(self, application_logic: Any) -> None:
        super().__init__()
        self._application_logic = application_logic
        self._folder = tempfile.TemporaryDirectory(prefix="slicerhost-")
        self._temporary_path = self._folder.name
        # A bare QSettings() is one of the host's own, not of whoever runs the tests.
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, self._temporary_path)
        QCoreApplication.setOrganizationName("slicerhost")
        QCoreApplication.setApplicationName("slicerhost")
        self._startup_environment = QProcessEnvironment.systemEnvironment()
        self._modules = ModuleManager(self)
        self._io = CoreIOManager(self)
        self._layout = LayoutManager(self, application_logic)
        self._window = MainWindow()

    def _get_temporary_path(self) -> str:
        return self._temporary_path

    def _set_temporary_path(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        self._temporary_path = path

    temporaryPath = Property(str, _get_temporary_path, _set_temporary_path)

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def applicationLogic(self) -> Any:
        return self._application_logic

    def moduleManager(self) -> ModuleManager:
        return self._modules

    def coreIOManager(self) -> CoreIOManager:
        return self._io

    ioManager = coreIOManager

    def layoutManager(self) -> LayoutManager:
        return self._layout

    def mainWindow(self) -> MainWindow:
        return self._window

    def topLevelWidgets(self) -> list[Any]:
        return QApplication.topLevelWidgets()

    def testingEnabled(self) -> bool:
        """False: dialogs are asked and kept by the host, where Slicer under test would skip them."""
        return False

    def settings(self) -> QSettings:
        return QSettings()

    userSettings = revisionUserSettings = settings

    def startupEnvironment(self) -> QProcessEnvironment:
        return self._startup_environment

    def translate(self, _context: str, text: str) -> str:
        return text

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"https://slicer.readthedocs.io/modules/{name.lower()}"

    def processEvents(self) -> None:
        pulse.beat("before processEvents")
        QApplication.processEvents()
        pulse.beat("processEvents")

    def setOverrideCursor(self, cursor: Any) -> None:
        QGuiApplication.setOverrideCursor(Qt.CursorShape(cursor))

    def restoreOverrideCursor(self) -> None:
        QGuiApplication.restoreOverrideCursor()

    def keyboardModifiers(self) -> Any:
        return QGuiApplication.keyboardModifiers()

    def clipboard(self) -> Any:
        return QGuiApplication.clipboard()

    def pauseRender(self) -> None:
        """Nothing is drawn."""

    resumeRender = pauseRender
