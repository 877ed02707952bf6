"""``slicer.app``."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any, ClassVar

import slicer
from PySide6.QtCore import Property, QCoreApplication, QObject, QProcessEnvironment, QSettings, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QMainWindow, QToolBar

from slicerhost.ctk_widgets import stored
from slicerhost.io_manager import qSlicerIOManager
from slicerhost.layout import qSlicerLayoutManager
from slicerhost.pulse import pulse
from slicerhost.wrapping import unwrap, wrap

# Before Slicer's launcher changes it: there is no PythonSlicer on the path.
_STARTED_WITH = QProcessEnvironment.systemEnvironment()


def _constant(value: str) -> Property:
    return Property(str, lambda _self: value, constant=True)


class qSlicerModuleManager(QObject):
    """The modules that were loaded, by name."""

    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._loaded: dict[str, Any] = {}

    def add(self, module: Any) -> None:
        """Take a module that was loaded into the lists."""
        self._loaded[module.name] = module
        setattr(slicer.modules, module.name.lower(), wrap(module))
        setattr(slicer.moduleNames, module.name, module.name)
        self.moduleLoaded.emit(module.name)

    def remove(self, module: Any) -> None:
        """Take a module that is gone out of the lists."""
        if self._loaded.pop(module.name, None) is not None:
            delattr(slicer.modules, module.name.lower())
            delattr(slicer.moduleNames, module.name)

    def module(self, name: str) -> Any:
        return self._loaded.get(name)

    def modulesNames(self) -> list[str]:
        return list(self._loaded)


class qSlicerModuleSelectorToolBar(QToolBar):
    """The main window's choice of module."""

    moduleSelected = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._selected = ""

    def selectModule(self, name: str) -> None:
        """Leave the module that is shown and enter another."""
        manager = unwrap(slicer.app).moduleManager()
        if manager.module(name) is None:
            raise RuntimeError(f"There is no module {name!r}.")
        if shown := manager.module(self._selected):
            shown.leave()
        self._selected = name
        manager.module(name).enter()
        self.moduleSelected.emit(name)

    selectedModule = Property(str, lambda self: self._selected)


class qSlicerMainWindow(QMainWindow):
    """As much of the main window as ``slicer.util`` asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar(self)

    def moduleSelector(self) -> qSlicerModuleSelectorToolBar:
        return self._selector


class qSlicerCommandOptions(QObject):
    """What stood on the command line."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._runPythonAndExit = False

    runPythonAndExit = stored(bool, "runPythonAndExit")


class qSlicerApplication(QObject):
    """The application, without what needs a screen.

    Attributes:
        testing: whether it was started with ``--testing``.
        exit_status: what ``exit`` was called with since a script was started.
    """

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
        # A bare QSettings() is one of the host's own, not of the user who runs the tests.
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, self._temporary_path)
        QCoreApplication.setOrganizationName("slicerhost")
        QCoreApplication.setApplicationName("slicerhost")
        self._modules = qSlicerModuleManager(self)
        self._io = qSlicerIOManager(self)
        self._layout = qSlicerLayoutManager(self, application_logic)
        self._window = qSlicerMainWindow()
        self._options = qSlicerCommandOptions(self)
        self.testing = False
        self.exit_status: int | None = None

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

    def moduleManager(self) -> qSlicerModuleManager:
        return self._modules

    def coreIOManager(self) -> qSlicerIOManager:
        return self._io

    ioManager = coreIOManager

    def layoutManager(self) -> qSlicerLayoutManager:
        return self._layout

    def topLevelWidgets(self) -> list[Any]:
        return QApplication.topLevelWidgets()

    def testingEnabled(self) -> bool:
        """Whether dialogs are skipped; the host's own are answered by the test in any case."""
        return self.testing

    def commandOptions(self) -> qSlicerCommandOptions:
        return self._options

    def exit(self, status: int = 0) -> None:
        self.exit_status = status

    def settings(self) -> QSettings:
        return QSettings()

    userSettings = revisionUserSettings = settings

    def startupEnvironment(self) -> QProcessEnvironment:
        return _STARTED_WITH

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
