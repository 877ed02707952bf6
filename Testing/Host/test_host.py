"""A module in the host: loaded, shown, clicked, timed, closed."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def slicer(host):
    import slicer

    return slicer


@pytest.fixture
def panel(host, tiny):
    return host.open(tiny)


def test_a_module_is_set_up_once_and_entered_each_time(host, tiny, panel, slicer):
    assert panel.parent.isEntered
    assert panel.parent.visible
    slicer.util.selectModule("Volumes")
    assert not panel.parent.isEntered
    assert host.open(tiny) is panel
    assert panel.calls == ["setup", "enter", "exit", "enter"]
    host.close(tiny)
    assert panel.calls[4:] == ["exit", "cleanup"]


def test_a_module_is_where_slicer_has_it(host, tiny, panel, slicer):
    assert tiny.title == "Tiny"
    assert slicer.util.modulePath("Tiny") == tiny.path
    assert slicer.util.getModule("Tiny") is tiny
    assert slicer.util.getModuleWidget("Tiny") is panel
    assert slicer.modules.TinyWidget is panel
    assert panel.resourcePath("a.txt") == str(Path(tiny.path).parent / "Resources" / "a.txt")


def test_a_module_has_no_other_properties_than_slicers(tiny):
    with pytest.raises(AttributeError):
        tiny.dependancies = []


def test_sample_data_is_registered_when_slicer_has_started(host, tiny):
    assert host.sample_data == []
    host.startup_completed()
    assert [source["sampleName"] for source in host.sample_data] == ["Tiny1"]


def test_categories_of_sample_data_and_packaging_came_with_5_11(host, slicer, version):
    import SampleData

    newer = version != "5.10"
    assert hasattr(SampleData.SampleDataLogic, "registerCustomSampleDataCategory") is newer
    assert hasattr(slicer, "packaging") is newer
    assert (importlib.util.find_spec("slicer.packaging") is not None) is newer
    if not newer:
        with pytest.raises(ImportError):
            importlib.import_module("slicer.packaging")


def test_sample_data_takes_no_other_arguments_than_slicers(host):
    import SampleData

    with pytest.raises(TypeError):
        SampleData.SampleDataLogic.registerCustomSampleDataSource(category="Tiny", checksum="SHA256:0")


def test_a_panel_file_is_shown_with_its_properties_and_connections(host, panel):
    assert panel.ui.section.text == "Section"
    assert panel.ui.section.collapsed
    assert panel.ui.slider.suffix == " mm"
    assert panel.ui.selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert panel.ui.path.filters == 0x001 | 0x020
    assert not panel.ui.slider.visible
    panel.ui.go.enabled = False
    panel.ui.section.collapsed = False
    assert panel.ui.slider.visible
    assert panel.ui.go.enabled
    assert host.errors == host.missing == []


def test_the_scene_of_the_panel_reaches_its_selectors(panel, slicer):
    node = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.int16))
    panel.ui.selector.setCurrentNode(node)
    assert panel.node.scan is node


def test_a_connection_that_a_panel_file_gets_wrong_is_noted(host, tiny_file):
    file = tiny_file.parent / "Resources" / "UI" / "Tiny.ui"
    file.write_text(file.read_text("utf-8").replace("setEnabled(bool)", "enable(bool)"), "utf-8")
    module = host.load_module(tiny_file)
    host.open(module)
    assert len(host.errors) == 1
    assert "no slot enable(bool)" in host.errors[0]
    host.close(module)


def test_an_error_is_shown_and_noted(host, panel):
    panel.ui.go.click()
    assert host.dialogs.errors == ["It cannot be.\n\ntoo small"]
    assert host.errors == ["error dialog: It cannot be.\n\ntoo small", "TinyWidget.onGo: ValueError: too small"]


def test_questions_are_kept_and_answered(host, slicer):
    assert slicer.util.confirmOkCancelDisplay("Delete?")
    host.dialogs.answer = False
    assert not slicer.util.confirmYesNoDisplay("Really?", windowTitle="Tiny")
    slicer.util.infoDisplay("Done.")
    import qt

    assert qt.QMessageBox.question(None, "Tiny", "And?", qt.QMessageBox.Yes | qt.QMessageBox.No) == qt.QMessageBox.No
    assert host.dialogs.questions == ["Delete?", "Really?", "And?"]
    assert host.dialogs.messages == ["Done."]
    assert host.errors == []


def work(seconds):
    """Keep the processor busy. What is to be short is measured in its time: on a busy machine all takes long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_slot_that_takes_long_is_measured(host, panel):
    panel.ui.slider.connect("valueChanged(double)", lambda value: work(value / 10))
    host.reset_longest_block()
    panel.ui.slider.value = 4
    assert host.longest_block_s >= 0.4
    assert host.longest_work_s >= 0.4
    host.reset_longest_block()
    host.process_events(0.1)
    assert host.longest_work_s < 0.4


def test_a_timer_that_takes_long_is_measured_and_named(host):
    import qt

    def slow():
        time.sleep(0.2)

    qt.QTimer.singleShot(0, slow)
    host.process_events(0.05)
    assert host.longest_block_s >= 0.2
    assert host.longest_work_s < 0.2
    assert host.longest_block_in.endswith("slow")


def test_processing_events_ends_a_block(host, slicer):
    import qt

    def slow_but_polite():
        for _ in range(6):
            work(0.1)
            slicer.app.processEvents()

    qt.QTimer.singleShot(0, slow_but_polite)
    host.process_events(0.05)
    assert 0.1 <= host.longest_work_s < 0.6


def test_time_that_the_test_takes_is_no_block(host, slicer):
    work(0.4)
    slicer.app.processEvents()
    assert host.longest_work_s < 0.4


def test_waiting_ends_with_the_event_or_with_an_error(host):
    import qt

    fired, timer = [], qt.QTimer()
    timer.connect("timeout()", lambda: fired.append(1))
    timer.start(5)
    host.wait_until(lambda: len(fired) >= 3, timeout=5)
    timer.stop()
    with pytest.raises(TimeoutError):
        host.wait_until(lambda: len(fired) > 100, timeout=0.05)


def test_a_screenshot_shows_the_panel(host, panel, tmp_path):
    from PySide6.QtGui import QImage

    host.screenshot(panel, tmp_path / "folded.png")
    panel.ui.section.collapsed = False
    host.screenshot(panel, tmp_path / "open.png", width=400)
    folded, opened = QImage(str(tmp_path / "folded.png")), QImage(str(tmp_path / "open.png"))
    assert (folded.width(), opened.width()) == (520, 400)
    assert opened.height() > folded.height()
    colours = {opened.pixel(x, y) for x in range(0, 400, 3) for y in range(0, opened.height(), 3)}
    assert len(colours) > 5


def test_reloading_reads_the_file_again(host, tiny, panel, slicer):
    file = Path(tiny.path)
    file.write_text(file.read_text("utf-8").replace('append("setup")', 'append("set up anew")'), "utf-8")
    panel.onReload()
    anew = host.open(tiny)
    assert panel.calls[-1] == "cleanup"
    assert anew.calls[0] == "set up anew"
    assert host.errors == []


def test_the_self_test_runs_what_is_named_test(tiny, slicer):
    tiny.python.TinyTest.ran.clear()
    slicer.selfTests["Tiny"]()
    assert tiny.python.TinyTest.ran == ["first"]


def test_the_default_parameter_node_is_one_for_the_module(tiny, slicer):
    logic = tiny.python.TinyLogic()
    assert logic.getParameterNode().parameterNode is logic.getParameterNode().parameterNode
    assert slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")[0].GetAttribute("ModuleName") == "Tiny"


def test_volumes_come_back_from_their_files(slicer, tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    node = slicer.util.addVolumeFromArray(array, name="scan")
    for name in ("scan.nii.gz", "scan.nrrd"):
        assert slicer.util.saveNode(node, str(tmp_path / name))
        loaded = slicer.util.loadVolume(str(tmp_path / name))
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), array)
    with pytest.raises(RuntimeError, match=r"no\.nii"):
        slicer.util.loadVolume(str(tmp_path / "no.nii"))


def test_segmentations_come_back_from_their_files(slicer, tmp_path):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "labels")
    reference = slicer.util.addVolumeFromArray(np.zeros((4, 4, 4), np.int16))
    segment = node.GetSegmentation().AddEmptySegment("", "brain")
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[1:3, 1:3, 1:3] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment, reference)
    assert slicer.util.saveNode(node, str(tmp_path / "labels.seg.nrrd"))
    loaded = slicer.util.loadSegmentation(str(tmp_path / "labels.seg.nrrd"))
    assert loaded.GetSegmentation().GetNthSegment(0).GetName() == "brain"


def test_slice_views_show_what_they_are_told(slicer):
    node = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.int16))
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    layout = slicer.app.layoutManager()
    assert layout.sliceViewNames() == ("Red", "Green", "Yellow")
    for name in layout.sliceViewNames():
        composite = layout.sliceWidget(name).sliceLogic().GetSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == node.GetID()
    layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert layout.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView


def test_the_application_has_what_slicer_util_asks_for(slicer):
    assert slicer.util.startupEnvironment()["PATH"] == os.environ["PATH"]
    assert Path(slicer.util.tempDirectory()).is_dir()
    slicer.app.settings().setValue("Tiny/live", True)
    assert slicer.util.settingsValue("Tiny/live", False, converter=slicer.util.toBool) is True
    assert slicer.util.mainWindow().className() == "MainWindow"
    assert slicer.app.testingEnabled() is False
    assert slicer.modules.terminologies.logic().IsA("vtkSlicerTerminologiesModuleLogic")


def test_nothing_is_installed_but_what_was_wanted_is_kept(host, slicer, tmp_path):
    host.imitate("5.12")
    file = tmp_path / "requirements.txt"
    file.write_text("# for tests\nnumpy\nno-such-package>=2\n", "utf-8")
    slicer.packaging.pip_ensure(slicer.packaging.load_requirements(str(file)), requester="Tiny")
    assert [request.replace(" ", "") for request in host.pip_requests] == ["no-such-package>=2"]
    assert len(host.dialogs.questions) == 1
    host.dialogs.answer = False
    with pytest.raises(RuntimeError):
        slicer.packaging.pip_ensure("no-such-package", requester="Tiny")


def test_resetting_forgets_everything(host, slicer):
    slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.int16))
    slicer.util.errorDisplay("no")
    slicer.util.pip_install("no-such-package")
    host.reset()
    assert host.errors == host.pip_requests == host.dialogs.errors == []
    assert slicer.util.getNodesByClass("vtkMRMLVolumeNode") == []


def test_starting_again_gives_the_same_host(host):
    from slicerhost import start

    assert start() is host
