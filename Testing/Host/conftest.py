"""The host, started once; every test finds it empty."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from panels import MODULE
from slicerhost import Host, start
from slicerhost.modules import qSlicerScriptedLoadableModule
from slicerhost.python_slicer import surroundings
from slicerhost.versions import VERSIONS

from BrainGenLib import bundles

TINY = """
import logging
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class Tiny(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Tiny")
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(category="Tiny", sampleName="Tiny1")


@parameterNodeWrapper
class TinyParameterNode:
    scan: vtkMRMLScalarVolumeNode
    amount: Annotated[float, WithinRange(0, 10)] = 3.0


class TinyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.calls = []
        self.node = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/Tiny.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.ui.go.connect("clicked(bool)", self.onGo)
        self.calls.append("setup")

    def enter(self):
        self.calls.append("enter")
        self.node = TinyLogic().getParameterNode()
        self.tag = self.node.connectGui(self.ui)
        self.addObserver(self.node, vtk.vtkCommand.ModifiedEvent, self.onModified)

    def exit(self):
        self.calls.append("exit")
        # After a reload a panel is left that was never entered.
        if self.node is not None:
            self.node.disconnectGui(self.tag)
            self.removeObserver(self.node, vtk.vtkCommand.ModifiedEvent, self.onModified)

    def cleanup(self):
        self.calls.append("cleanup")
        self.removeObservers()

    def onModified(self, caller, event):
        self.calls.append("modified")

    def onGo(self):
        with slicer.util.tryWithErrorDisplay("It cannot be."):
            raise ValueError("too small")


class TinyLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return TinyParameterNode(super().getParameterNode())


class TinyTest(ScriptedLoadableModuleTest):
    ran = []

    def test_first(self):
        self.delayDisplay("first")
        self.ran.append("first")

    def notOneOfThem(self):
        raise AssertionError
"""

PANEL = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0">
 <class>Tiny</class>
 <widget class="qMRMLWidget" name="Tiny">
  <layout class="QVBoxLayout">
   <item>
    <widget class="ctkCollapsibleButton" name="section">
     <property name="text"><string>Section</string></property>
     <property name="collapsed"><bool>true</bool></property>
     <layout class="QFormLayout">
      <item row="0" column="0"><widget class="QLabel" name="label"/></item>
      <item row="0" column="1">
       <widget class="ctkSliderWidget" name="slider">
        <property name="suffix"><string> mm</string></property>
        <property name="SlicerParameterName" stdset="0"><string>amount</string></property>
       </widget>
      </item>
     </layout>
    </widget>
   </item>
   <item>
    <widget class="qMRMLNodeComboBox" name="selector">
     <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
     <property name="noneEnabled"><bool>true</bool></property>
     <property name="SlicerParameterName" stdset="0"><string>scan</string></property>
    </widget>
   </item>
   <item>
    <widget class="ctkPathLineEdit" name="path">
     <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Writable</set></property>
    </widget>
   </item>
   <item><widget class="QPushButton" name="go"><property name="text"><string>Go</string></property></widget></item>
   <item><spacer><property name="orientation"><enum>Qt::Vertical</enum></property></spacer></item>
  </layout>
 </widget>
 <connections>
  <connection>
   <sender>Tiny</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>
  </connection>
  <connection>
   <sender>section</sender><signal>toggled(bool)</signal><receiver>go</receiver><slot>setEnabled(bool)</slot>
  </connection>
 </connections>
</ui>
"""


@pytest.fixture(scope="module", autouse=True)
def python_slicer() -> Iterator[Path]:
    """The program, which is ``sys.executable`` here; pipes are small."""
    with surroundings() as program:
        yield program


@pytest.fixture
def host() -> Iterator[Host]:
    running = start()
    running.reset()
    yield running
    running.reset()


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, host: Host) -> str:
    """The test runs once with each version of Slicer."""
    host.imitate(request.param)
    return request.param


@pytest.fixture(scope="module")
def module(tiny_folder: Path, python_slicer: Path) -> Iterator[qSlicerScriptedLoadableModule]:
    """BrainGen with tiny bundles: one for all tests of a file, as for a day of work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINGEN_BUNDLES", str(tiny_folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        running = start()
        running.reset()
        loaded = running.load_module(MODULE)
        # What the tests have imported, PyTorch for one, is nothing that Slicer's process has: to look through it for
        # garbage takes 0.2 s, at any moment, and would be counted as work of the panel.
        gc.collect()
        gc.freeze()
        yield loaded
        gc.unfreeze()
        running.close(loaded)


@pytest.fixture
def idle_module(host: Host) -> Iterator[qSlicerScriptedLoadableModule]:
    """BrainGen as it is shipped, loaded; nothing went wrong in it."""
    module = host.load_module(MODULE)
    yield module
    host.close(module)
    assert host.errors == []
    assert not host.missing


@pytest.fixture
def idle_panel(host: Host, idle_module: qSlicerScriptedLoadableModule) -> object:
    """The panel with the shipped bundles, as if the engine had answered."""
    panel = host.open(idle_module)
    panel.engineSection.close()
    panel.logic.importLibrary()
    panel.onBundles({name: bundle.metadata for name, bundle in bundles.available().items()})
    return panel


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """A module of one file and one panel."""
    file = tmp_path / "Tiny.py"
    file.write_text(TINY, "utf-8")
    panel = tmp_path / "Resources" / "UI" / "Tiny.ui"
    panel.parent.mkdir(parents=True)
    panel.write_text(PANEL, "utf-8")
    return file


@pytest.fixture
def tiny(host: Host, tiny_file: Path) -> Iterator[object]:
    """The module, loaded; closed again after the test."""
    module = host.load_module(tiny_file)
    yield module
    host.close(module)
