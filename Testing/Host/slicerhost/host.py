"""The stand-in Slicer: one per process."""

from __future__ import annotations

import argparse
import functools
import os
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from PySide6.QtCore import QCoreApplication, QEvent, QSettings
from PySide6.QtWidgets import QApplication

from slicerhost import observed, python_slicer, qt_module, sample_data, versions
from slicerhost.dialogs import dialogs
from slicerhost.modules import qSlicerScriptedLoadableModule
from slicerhost.namespace import fill, renew_terminologies
from slicerhost.observed import complain
from slicerhost.pulse import pulse
from slicerhost.references import keep_constants_alive
from slicerhost.signals import disconnect
from slicerhost.subject_hierarchy import SubjectHierarchyPlugins
from slicerhost.wrapping import Wrapper

# Between two looks at the event loop; short against the 100 ms that a GUI may take.
_PAUSE_S = 0.002


@functools.cache
def start() -> Host:
    """Start Slicer's stand-in, or return the one that runs.

    ``SLICER_SOURCE`` may name a source tree of Slicer, whose own Python files are then used instead of the host's.
    """
    return Host(os.environ.get("SLICER_SOURCE"))


class Host:
    """Loads scripted modules, shows them, lets time pass, and keeps what went wrong.

    Attributes:
        errors: exceptions in slots, connections that do not exist, texts of error dialogs.
        missing: classes of CTK or Slicer that were shown and have no stand-in.
        pip_requests: what modules wanted to install.
        sample_data: what modules registered as sample data.
        dialogs: what was asked, and what to answer.
        plugins: those of the subject hierarchy.
    """

    def __init__(self, slicer_source: str | None) -> None:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        keep_constants_alive()
        self._qt = QApplication.instance() or QApplication(["slicerhost"])
        self.errors, self.missing = observed.errors, observed.missing
        self.pip_requests: list[str] = []
        self.sample_data = sample_data.sources
        self.dialogs = dialogs
        qt_module.install()
        self._application = fill(slicer_source, self._note_requirements)
        self._version = versions.default_version(slicer_source)
        versions.imitate(self._version)
        self.plugins = SubjectHierarchyPlugins(slicer.mrmlScene)

    @property
    def longest_block_s(self) -> float:
        """The longest time that the GUI thread worked without processing events, since the last reset."""
        return pulse.longest_s

    @property
    def longest_work_s(self) -> float:
        """The same in processor time of the GUI thread: no other program makes it longer."""
        return pulse.longest_work_s

    @property
    def longest_block_in(self) -> str:
        """The slot in which that was."""
        return pulse.longest_in

    def reset_longest_block(self) -> None:
        """Measure anew."""
        pulse.reset()

    def imitate(self, version: str) -> None:
        """Be that version of Slicer, one of ``versions.VERSIONS``, until the next reset."""
        versions.imitate(version)

    def load_module(self, path: Path) -> qSlicerScriptedLoadableModule:
        """The module of a file, not yet shown."""
        module = qSlicerScriptedLoadableModule(Path(path).resolve())
        self._application.moduleManager().add(module)
        return module

    def startup_completed(self) -> None:
        """Say what Slicer says when all modules are loaded."""
        self._application.startupCompleted.emit()

    def launch(self, *arguments: str) -> int:
        """Start anew with a command line, run its script, and end.

        Modules are those of ``--additional-module-paths`` and of the setting ``Modules/AdditionalPaths``; the first
        of the setting ``Modules/HomeModule`` is open before Python is a program. ``--testing`` knows no settings.

        Args:
            arguments: those of Slicer; of what else it takes, nothing is done.

        Returns:
            The exit status: under ``--testing``, 1 after any error.
        """
        parser = argparse.ArgumentParser()
        parser.add_argument("--testing", action="store_true")
        parser.add_argument("--additional-module-paths", nargs="*", default=[])
        parser.add_argument("--python-script", type=Path)
        given, _others = parser.parse_known_args(arguments)
        name = QCoreApplication.applicationName()
        self._application.testing = given.testing
        if given.testing:
            QCoreApplication.setApplicationName(f"{name}-tmp")
            QSettings().clear()
        loaded: list[qSlicerScriptedLoadableModule] = []
        try:
            return self._run(given, loaded)
        finally:
            for module in loaded:
                self.close(module)
            self._application.testing = False
            QCoreApplication.setApplicationName(name)

    def _run(self, given: argparse.Namespace, loaded: list[qSlicerScriptedLoadableModule]) -> int:
        # A list of one comes back from the file as the one.
        known = QSettings().value("Modules/AdditionalPaths") or []
        for folder in [*given.additional_module_paths, *([known] if isinstance(known, str) else known)]:
            loaded += [self.load_module(file) for file in sorted(Path(folder).glob("*.py"))]
        home = [module for module in loaded if module.name == QSettings().value("Modules/HomeModule")]
        with python_slicer.not_yet_known():
            for module in home:
                self.open(module)
        self.startup_completed()
        self._application.exit_status = None
        if given.python_script is not None:
            try:
                code = compile(given.python_script.read_text("utf-8"), str(given.python_script), "exec")
                exec(code, {"__name__": "__main__", "__file__": str(given.python_script)})
            except Exception as error:
                traceback.print_exc()
                complain(f"{given.python_script.name}: {type(error).__name__}: {error}")
        self.process_events()
        return 1 if given.testing and self.errors else self._application.exit_status or 0

    def open(self, module: qSlicerScriptedLoadableModule) -> Any:
        """Show a module: its panel, set up and entered."""
        slicer.util.selectModule(module.name)
        self.process_events()
        return module.widgetRepresentation().self()

    def close(self, module: qSlicerScriptedLoadableModule) -> None:
        """Leave a module and clean it up, as when Slicer ends."""
        module.leave()
        self._application.moduleManager().moduleAboutToBeUnloaded.emit(module.name)
        module.delete()
        self._application.moduleManager().remove(module)
        self.process_events()

    def process_events(self, seconds: float = 0.0) -> None:
        """Let the event loop run for at least one pass."""
        deadline = time.monotonic() + seconds
        self._pass()
        while time.monotonic() < deadline:
            self._pass()

    def wait_until(self, predicate: Callable[[], bool], timeout: float) -> None:
        """Let the event loop run until something is so.

        Raises:
            TimeoutError: it is not so after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not predicate():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Not so after {timeout} s; errors: {self.errors}")
            self._pass()

    def screenshot(self, shown: Any, path: Path, width: int = 520) -> None:
        """A picture of a panel or a widget, as high as it wants to be."""
        frame = (shown if isinstance(shown, Wrapper) else shown.parent).native
        # A second time, for what wraps its text knows its height only now.
        for _ in range(2):
            frame.resize(width, frame.sizeHint().height())
            self.process_events()
        if not frame.grab().save(str(path)):
            raise OSError(f"{path} cannot be written.")

    def views_shown(self) -> list[str]:
        """Names of the views that the layout puts on the screen: none if it is one that nobody has described."""
        description = self._application.layoutManager().layoutLogic().GetLayoutNode().GetCurrentLayoutDescription()
        return [view.get("singletontag") for view in ET.fromstring(description).iter("view")] if description else []

    def new_session(self) -> None:
        """Forget what only the application knows: descriptions of layouts, terminologies, settings."""
        self._application.layoutManager().forget_layouts()
        renew_terminologies(self._application)
        QSettings().clear()

    def reset(self) -> None:
        """Empty the scene and forget what was kept, and who waits for the start."""
        disconnect(self._application, "startupCompleted()")
        for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
            slicer.mrmlScene.RemoveNode(node)  # clearing keeps singletons
        slicer.mrmlScene.Clear(0)
        self.process_events()
        self.new_session()
        for kept in (self.errors, self.missing, self.pip_requests, self.sample_data, self.plugins.costly):
            kept.clear()
        versions.imitate(self._version)
        dialogs.reset()
        pulse.reset()

    def _pass(self) -> None:
        keep_constants_alive()
        with pulse.busy("the event loop"):
            self._qt.processEvents()
            # These wait for a loop that ends, which none does here.
            self._qt.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        time.sleep(_PAUSE_S)

    def _note_requirements(self, requirements: Any, *_args: Any, **_options: Any) -> None:
        self.pip_requests.extend([requirements] if isinstance(requirements, str) else map(str, requirements))
