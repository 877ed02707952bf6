"""The module where the application is less kind than a test: what broke there is seen here. No model runs."""

import re
import shlex
from pathlib import Path

import pytest
import slicer
from panels import MODULE
from patience import PATIENCE
from quick_worker import cube
from slicerhost import python_slicer

from BrainGenLib.scene import cases
from BrainGenLib.scene.case_to_scene import add_case

ROOT = MODULE.parents[1]


@pytest.fixture
def module(host):
    module = host.load_module(MODULE)
    yield module
    host.close(module)


def ready(host, panel):
    """Wait until the engine has answered for all shipped bundles: more than a pipe of Windows holds."""
    host.wait_until(lambda: panel.controls.metadata is not None, PATIENCE)
    return len(panel.controls.rows)


def test_the_engine_answers_and_sliders_are_built_in_the_module_that_slicer_starts_with(host, module):
    with python_slicer.not_yet_known():
        panel = host.open(module)
        assert ready(host, panel) > 0
    assert host.errors == host.missing == []


def test_starting_is_without_error_in_every_version(host, module, version):
    host.startup_completed()
    assert host.errors == []
    assert len(host.sample_data) == 3


def test_the_terminology_is_in_slicers_selector(host, module):
    host.startup_completed()
    assert slicer.modules.terminologies.logic().IsTerminologyContextLoaded("BrainGen")


def test_a_case_that_is_removed_takes_its_segments_at_once(host):
    add_case(slicer.mrmlScene, cube(1), "sub-0001")
    cases.remove_case(slicer.mrmlScene, "sub-0001")
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert host.plugins.costly == []


def test_a_scene_saved_in_columns_opens_with_views_the_next_day(host, module, tmp_path):
    host.startup_completed()
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    node.SetViewArrangement(7201)
    slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    host.new_session()
    host.startup_completed()
    slicer.util.loadScene(str(tmp_path / "scene.mrml"))
    assert len(host.views_shown()) == 9


def commands():
    """Each command in the documents that starts Slicer with a script."""
    files = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "Testing" / "run_in_slicer.py")
    for file in files:
        text = re.sub(r"\\+\n\s*", " ", file.read_text("utf-8"))
        yield from (
            pytest.param(command, id=file.name) for command in re.findall(r"Slicer --testing [^\n`]*?\.py\"?", text)
        )


@pytest.mark.parametrize("command", [*commands()])
def test_the_documented_command_finds_the_module(host, command, tmp_path):
    script = tmp_path / "look.py"
    script.write_text("import slicer\nslicer.util.selectModule('BrainGen')\n", "utf-8")
    arguments = [word.replace("$PWD", str(ROOT)) for word in shlex.split(command)[1:]]
    assert Path(arguments[-1]).name == "run_in_slicer.py"
    assert host.launch(*arguments[:-1], str(script)) == 0


def test_as_the_module_that_slicer_starts_with_it_finds_a_python(host, tmp_path):
    import qt  # there once the host has started

    settings = qt.QSettings()
    settings.setValue("Modules/AdditionalPaths", [str(MODULE.parent)])
    settings.setValue("Modules/HomeModule", "BrainGen")
    script = tmp_path / "look.py"
    script.write_text(
        "import os, slicer\n"
        "panel = slicer.modules.BrainGenWidget\n"
        "assert panel.engineSection._probe._process is not None, panel.engineSection._probe._problem\n"
        "assert os.path.basename(panel.logic.engine._interpreter()) == 'PythonSlicer'\n"
    )
    assert host.launch("--python-script", str(script)) == 0
    assert host.errors == []
