"""Engines other than Slicer's own Python, and the end of the one that runs."""

import os
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import slicer
from panels import MODULE, finish
from patience import PATIENCE
from quick_worker import cube
from serving import serving

from BrainGenLib.jobs import WorkerProcess
from BrainGenLib.scene import cases
from BrainGenLib.scene.case_to_scene import add_case
from BrainGenLib.session import Session


@pytest.fixture
def panel(host, tiny_bundles):
    module = host.load_module(MODULE)
    panel = host.open(module)
    yield panel
    panel.logic.engine.set("Engine", "here")
    host.close(module)
    assert host.errors == []


def choose(panel, engine):
    panel.ui.engineSelector.setCurrentIndex(panel.ui.engineSelector.findData(engine))


def quick_worker():
    return WorkerProcess(module="quick_worker", environment={**os.environ, "PYTHONPATH": str(Path(__file__).parent)})


def test_a_server_makes_what_the_panel_asks_for(host, panel, tmp_path):
    with serving(tmp_path / "jobs", launch=quick_worker) as url:
        choose(panel, "server")
        assert panel.ui.serverEdit.isVisible()
        assert "Enter the address" in panel.ui.stateLabel.text
        panel.ui.serverEdit.setText(url)
        panel.engineSection.onServerChanged()
        host.wait_until(lambda: panel.controls.metadata is not None, PATIENCE)
        # Which device computes is the server's business.
        assert panel.ui.deviceSelector.count == 1
        panel.ui.keepSeedCheckBox.setChecked(True)
        panel.ui.seedSpinBox.setValue(42)
        panel.ui.generateButton.click()
        finish(host, panel)
        assert panel.ui.stateLabel.text.startswith("Done.")
        nodes = cases.nodes_of(slicer.mrmlScene, "sub-0001")
        assert nodes.segmentation.GetAttribute("BrainGen.seed") == "42"
        choose(panel, "here")


def test_another_python_is_asked_and_used(host, panel):
    choose(panel, "python")
    assert panel.ui.pythonPath.isVisible()
    panel.ui.pythonPath.setCurrentPath(sys.executable)
    host.wait_until(lambda: panel.controls.metadata is not None, PATIENCE)
    assert panel.ui.stateLabel.text == "Ready."
    worker = panel.logic.engine.launch()
    assert worker.alive
    worker.stop(0)


def test_slicers_own_python_is_a_program_on_the_path(host, panel, tmp_path, monkeypatch):
    program = tmp_path / "PythonSlicer"
    program.write_text(f'#!/bin/sh\n: >>"$0.used"\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    # So it is while the panel of a module that Slicer starts with is set up.
    monkeypatch.setattr(sys, "executable", "")
    used = tmp_path / "PythonSlicer.used"
    panel.engineSection.update()
    host.wait_until(used.exists, PATIENCE)
    panel.engineSection.close()
    used.unlink()
    worker = panel.logic.engine.launch()
    host.wait_until(used.exists, PATIENCE)
    worker.stop()
    used.unlink()
    add_case(slicer.mrmlScene, cube(1), "mine")
    panel.logic.export(["mine"], str(tmp_path / "out"), waitForCompletion=True)
    assert used.exists()


@pytest.mark.parametrize(
    ("engine", "value", "sentence"),
    [
        ("python", "/no/such/python", "Choose the Python"),
        ("server", "gpu.example.org", "Enter the address"),
        ("server", "http://127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_an_engine_that_is_not_there_is_named(host, panel, engine, value, sentence):
    choose(panel, engine)
    if engine == "python":
        panel.ui.pythonPath.setCurrentPath(value)
    else:
        panel.ui.serverEdit.setText(value)
        panel.engineSection.onServerChanged()
    host.wait_until(lambda: sentence in panel.ui.stateLabel.text, PATIENCE)
    assert not panel.ui.generateButton.enabled
    choose(panel, "here")
    host.wait_until(lambda: panel.ui.generateButton.enabled, PATIENCE)


def children():
    return {process.pid for process in psutil.Process().children(recursive=True)}


def test_nothing_is_left_when_the_module_is_closed_in_the_middle(host, tiny_bundles, tmp_path, monkeypatch):
    # A folder of its own: other tests run at the same time.
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = children()
    module = host.load_module(MODULE)
    panel = host.open(module)
    host.wait_until(lambda: panel.ui.stateLabel.text == "Ready.", PATIENCE)
    # Slow enough to be seen at work, on a busy machine too.
    monkeypatch.setenv("STEP_SECONDS", "1")
    panel.logic._runner._session = Session(quick_worker)
    panel.ui.generateButton.click()
    host.wait_until(lambda: "labels" in panel.ui.stateLabel.text, PATIENCE)
    add_case(slicer.mrmlScene, cube(1), "mine")
    panel.logic.export(["mine"], str(tmp_path / "out"))
    # Folders of session, worker and export, and the processes of the last two, each behind a launcher: else nothing
    # would be shown below.
    host.wait_until(lambda: len(children() - before) == 4, PATIENCE)
    assert len(list(temporary.iterdir())) == 3
    host.close(module)
    assert not panel.logic.exporting
    assert list(temporary.iterdir()) == []
    assert children() <= before
    assert host.errors == []
