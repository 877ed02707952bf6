"""The lint finds what PythonQt refuses, and nothing in the module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import pythonqt_lint

ROOT = Path(__file__).resolve().parents[2]
MODULES = [*sorted(ROOT.glob("BrainGen/**/*.py")), ROOT / "Testing" / "run_in_slicer.py"]

PLANTED = {
    "property-call": [
        "x = self.ui.seedBox.value()",
        "x = self._ui.seedBox.value()",
        "timer = qt.QTimer()\nx = timer.interval()",
        "self.box = qt.QCheckBox()\nx = self.box.checked()",
        "box = ctk.ctkSliderWidget()\nx = box.pageStep()",
    ],
    "not-offered": [
        "slider = ctk.ctkSliderWidget()\nslider.setMinimum(0)",
        "self.slider = ctk.ctkSliderWidget()\nself.slider.setRange(0, 1)",
        "ctk.ctkCollapsibleButton().setCollapsed(True)",
        "ctk.ctkCollapsibleButton('Section', parent)",
        "slicer.qMRMLSuperSlider()",
        "box = slicer.qMRMLNodeComboBox()\nx = box.nodeTypeLabels",
        "box = ctk.ctkDoubleSpinBox()\nbox.cleanText = 'a'",
        "box = ctk.ctkDoubleSpinBox()\nbox.stepUp = None",
        "slicer.app.mainWindow()",
        "slicer.app.layoutManager().setLayoutDescription('')",
    ],
    "keyword": [
        'qt.QPushButton("Go", parent=None)',
        "self.ui.list.addItem(text='a')",
        "ctk.ctkSliderWidget(parent=None)",
        "slicer.qMRMLWidget(parent=None)",
    ],
    "slot-default": [
        "def onGo(seed=None): pass\nself.ui.go.connect('clicked(bool)', onGo)",
        "class P:\n def onGo(self, seed=1): pass\n def setup(self): self.ui.go.clicked.connect(self.onGo)",
        "self.ui.go.connect('clicked(bool)', lambda name=name: name)",
    ],
    "file-scope-import": [
        "import torch",
        "from BrainGenLib import anatomy",
        "try:\n import monai\nexcept ImportError: pass",
    ],
    "signature": [
        "self.ui.go.connect('clicked(Bool)', f)",
        "self.ui.box.connect('textChanged(const QString&)', f)",
        "timer.disconnect('timeout', f)",
        "box = ctk.ctkSliderWidget()\nbox.connect('valueChanged(int)', f)",
        "box = ctk.ctkSliderWidget()\nbox.connect('clicked()', f)",
    ],
    "f-string-in-translation": ["_(f'{n} cases')", "translate('BrainGen', f'{n}')"],
    "instance-enum": ["self.p = qt.QProcess()\nx = self.p.state() == self.p.Running"],
    "isinstance": ["isinstance(w, qt.QWidget)", "isinstance(w, (str, ctk.ctkSliderWidget))"],
}

RIGHT = """
import json, os.path
import numpy as np
import ctk, qt, slicer, vtk
from slicer.i18n import tr as _

class Panel:
    def setup(self):
        import torch
        self.timer = qt.QTimer()
        self.timer.connect("timeout()", self.onTick)
        self.ui.go.connect("clicked(bool)", self.onGo)
        self.ui.list.connect("itemSelectionChanged()", lambda: self.onTick())
        self.text = self.ui.label.text + _("{n} cases").format(n=3)
        names = [item.text() for item in self.ui.list.selectedItems()]
        rows = {row: row.value() for row in self.rows}
        layout = qt.QVBoxLayout()
        while layout.count():
            layout.takeAt(0)
        self.slider = ctk.ctkSliderWidget()
        self.slider.minimum, self.slider.enabled = 0, self.slider.value > 1
        self.slider.setDecimals(2)
        self.slider.connect("valueChanged(double)", self.onGo)
        self.slider.setToolTip(self.slider.className())
        slicer.app.layoutManager().sliceWidget("Red").show()
        running = self.process.state() == qt.QProcess.Running
        return slicer.util.loadVolume("a", properties={}), self.ui.list.item(0).text(), isinstance(names, list)
    def onTick(self): pass
    def onGo(self, checked, *, seed=None): pass
"""


@pytest.mark.parametrize(("rule", "source"), [(rule, text) for rule, texts in PLANTED.items() for text in texts])
def test_a_planted_violation_is_found_in_its_line(rule, source):
    findings = pythonqt_lint.check(source, "Panel.py")
    assert [finding.rule for finding in findings] == [rule]
    assert str(findings[0]).startswith(f"Panel.py:{findings[0].line}: {rule}: ")
    assert findings[0].line in (1, 2, 3)


def test_nothing_is_found_in_what_is_right():
    assert pythonqt_lint.check(RIGHT, "Panel.py") == []


def test_classes_are_known_from_the_panel_and_from_other_files(tmp_path):
    panel = tmp_path / "Resources" / "UI" / "Panel.ui"
    panel.parent.mkdir(parents=True)
    panel.write_text('<ui><widget class="ctkPathLineEdit" name="path"/><widget class="QLabel" name="label"/></ui>')
    (tmp_path / "Lib").mkdir()
    row, module = tmp_path / "Lib" / "row.py", tmp_path / "Panel.py"
    row.write_text(
        "class Row:\n"
        " def __init__(self):\n"
        "  self.slider = None\n"
        "  self.slider = ctk.ctkSliderWidget()\n"
        "  self.box = ctk.ctkSliderWidget()\n"
        "class Other:\n"
        " def __init__(self): self.box = Box()\n",
        "utf-8",
    )
    module.write_text(
        "def setup(self):\n"
        " self.ui.path.setFilters(1)\n"
        " self.ui.label.setAnything(1)\n"
        " self.row.slider.setMaximum(1)\n"
        " self.row.box.setMaximum(1)\n",
        "utf-8",
    )
    found = [(finding.line, finding.rule) for finding in pythonqt_lint.check_files([row, module])]
    assert found == [(2, "not-offered"), (4, "not-offered")]


def test_every_known_signature_is_one_of_qt_or_of_a_stand_in(host):
    """A table with a wrong entry would let the error pass."""
    from PySide6 import QtCore, QtWidgets
    from slicerhost import application, ctk_widgets, mrml_widgets

    known = set()
    for module in (QtCore, QtWidgets, ctk_widgets, mrml_widgets, application):
        for kind in [getattr(module, name) for name in dir(module)]:
            if isinstance(kind, type) and issubclass(kind, QtCore.QObject):
                meta = kind.staticMetaObject
                known |= {bytes(meta.method(n).methodSignature().data()).decode() for n in range(meta.methodCount())}
                known |= set(getattr(kind, "cpp_signals", {}))
    # An overload that qMRMLNodeComboBox has and its stand-in lacks.
    assert pythonqt_lint.SIGNALS - known == {"currentNodeChanged(bool)"}


def test_the_command_prints_findings_and_fails(tmp_path):
    file = tmp_path / "Panel.py"
    file.write_text("import torch\n", "utf-8")
    command = [sys.executable, ROOT / "tools" / "pythonqt_lint.py", file]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stdout.startswith(f"{file}:1: file-scope-import: torch")
    file.write_text("import json\n", "utf-8")
    assert subprocess.run(command).returncode == 0


def test_the_module_keeps_the_rules():
    assert pythonqt_lint.check_files(MODULES) == []
