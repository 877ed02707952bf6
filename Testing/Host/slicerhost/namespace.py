"""What the application adds to the package ``slicer`` of the wheel."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer
from pythonqt_table import offer

from BrainGenLib.scene.bootstrap import headless
from slicerhost import modules, standins
from slicerhost.application import qSlicerApplication
from slicerhost.dialogs import dialogs
from slicerhost.wrapping import mirror, wrap

_LOGICS = {
    modules.qSlicerVolumesModule: "vtkSlicerVolumesLogic",
    modules.qSlicerSubjectHierarchyModule: "vtkSlicerSubjectHierarchyModuleLogic",
    modules.qSlicerSegmentationsModule: "vtkSlicerSegmentationsModuleLogic",
    modules.qSlicerSequencesModule: "vtkSlicerSequencesLogic",
}
_FILES = ("util", "i18n", "ScriptedLoadableModule", "parameterNodeWrapper")


def fill(source: str | None, pip_install: Callable[..., None]) -> qSlicerApplication:
    """Complete ``slicer``: scene, application, widgets, and the Python files that the wheel lacks.

    Args:
        source: source tree of Slicer whose Python files are used, or None for the host's own.
        pip_install: called in place of pip.
    """
    slicer.__dict__["__getattr__"] = _widget_class
    for name in ("modules", "moduleNames"):
        setattr(slicer, name, ModuleType(f"slicer.{name}"))
        sys.modules[f"slicer.{name}"] = getattr(slicer, name)
    stage = headless()
    slicer.mrmlScene = stage.scene
    application = qSlicerApplication(stage.application)
    slicer.app = wrap(application)
    _add_core_modules(application)

    # Of a tree, the host's own are there for what an old one lacks and a test of a newer version needs.
    slicer.__path__.insert(0, str(Path(__file__).with_name("slicer_files")))
    if source:
        slicer.__path__.insert(0, str(Path(source) / "Base" / "Python" / "slicer"))
        del sys.modules["slicer.util"]
    for name in _FILES:
        setattr(slicer, name, importlib.import_module(f"slicer.{name}"))
    for name, function in dialogs.display_functions().items():
        setattr(slicer.util, name, function)
    slicer.util.pip_install = pip_install
    return application


def _widget_class(name: str) -> Any:
    if name.startswith(("qMRML", "qSlicer")) and offer(name):
        return mirror(standins.native_class(name))
    raise AttributeError(f"module 'slicer' has no attribute '{name}'")


def renew_terminologies(application: qSlicerApplication) -> None:
    """A logic without the terminologies that were loaded into the last; there is no way to unload one."""
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    logic.SetMRMLApplicationLogic(application.applicationLogic())
    # With a scene it would look for Slicer's own lists, which the wheel lacks.
    application.applicationLogic().SetModuleLogic("Terminologies", logic)
    application.moduleManager().add(modules.qSlicerTerminologiesModule(logic))


def _add_core_modules(application: qSlicerApplication) -> None:
    shared = application.applicationLogic()
    for kind, logic_class in _LOGICS.items():
        logic = getattr(slicer, logic_class)()
        logic.SetMRMLApplicationLogic(shared)
        logic.SetMRMLScene(slicer.mrmlScene)
        module = kind(logic)
        shared.SetModuleLogic(module.name, logic)
        application.moduleManager().add(module)
    renew_terminologies(application)
