"""A module in the host: loaded, shown, clicked, timed, closed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
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
    assert slicer.modules.tiny.title == "Tiny"
    assert slicer.util.modulePath("Tiny") == slicer.modules.tiny.path == tiny.path
    assert slicer.util.getModule("Tiny") is slicer.modules.tiny
    assert isinstance(slicer.modules.tiny, slicer.qSlicerScriptedLoadableModule)
    assert slicer.util.getModuleWidget("Tiny") is panel
    assert slicer.modules.TinyWidget is panel
    assert panel.resourcePath("a.txt") == str(Path(tiny.path).parent / "Resources" / "a.txt")


def test_a_module_offers_no_more_than_slicers(tiny, slicer):
    module = slicer.modules.tiny
    with pytest.raises(AttributeError, match="has no attribute named 'dependancies'"):
        module.dependancies = []
    with pytest.raises(AttributeError, match="not writable"):
        module.name = "Other"
    # Lists come back as a copy, which cannot be changed.
    module.categories = ["Tests"]
    assert module.categories == ("Tests",)
    for kind, name in (("tiny", "enter"), ("tiny", "python"), ("segmentations", "enter"), ("sequences", "active")):
        with pytest.raises(AttributeError, match=f"has no attribute named '{name}'"):
            getattr(getattr(slicer.modules, kind), name)


def test_the_toolbar_of_sequences_plays_what_is_in_the_scene(host, slicer):
    toolbar = slicer.modules.sequences.toolBar()
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    assert slicer.modules.sequences.showSequenceBrowser(browser)
    assert toolbar.activeBrowserNode() is browser
    slicer.mrmlScene.Clear(0)
    assert toolbar.activeBrowserNode() is None


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


def test_what_only_the_stand_in_does_is_no_block(host):
    from slicerhost.pulse import pulse

    host.reset_longest_block()
    with pulse.busy("a slot"), pulse.apart():
        work(0.2)
    assert host.longest_work_s < 0.2


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


def test_the_application_has_what_slicer_util_asks_for(slicer, python_slicer):
    assert os.environ["PATH"] == f"{python_slicer.parent}{os.pathsep}{slicer.util.startupEnvironment()['PATH']}"
    assert Path(slicer.util.tempDirectory()).is_dir()
    slicer.app.settings().setValue("Tiny/live", True)
    assert slicer.util.settingsValue("Tiny/live", False, converter=slicer.util.toBool) is True
    assert slicer.util.mainWindow().className() == "qSlicerMainWindow"
    assert slicer.app.testingEnabled() is False
    assert slicer.modules.terminologies.logic().IsA("vtkSlicerTerminologiesModuleLogic")


def test_an_application_offers_no_more_than_slicers(slicer):
    with pytest.raises(AttributeError, match="qSlicerApplication has no attribute named 'mainWindow'"):
        slicer.app.mainWindow()
    with pytest.raises(AttributeError, match="qSlicerLayoutManager has no attribute named 'forget_layouts'"):
        slicer.app.layoutManager().forget_layouts()


def add_segmentation(slicer, count):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "labels")
    image = slicer.util.addVolumeFromArray(np.arange(64, dtype=np.int16).reshape(4, 4, 4) % (count + 1))
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "map")
    labels.CopyContent(image)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, node)
    for each in (image, labels):
        slicer.mrmlScene.RemoveNode(each)
    return node


def hierarchy_of(slicer):
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def test_nodes_and_segments_have_items_in_the_subject_hierarchy(slicer):
    node = add_segmentation(slicer, 3)
    hierarchy = hierarchy_of(slicer)
    item = hierarchy.GetItemByDataNode(node)
    assert hierarchy.IsItemVirtualBranchParent(item)
    assert hierarchy.GetNumberOfItemChildren(item) == 3
    node.GetSegmentation().RemoveSegment(node.GetSegmentation().GetNthSegmentID(0))
    assert hierarchy.GetNumberOfItemChildren(item) == 2
    slicer.mrmlScene.RemoveNode(node)
    assert hierarchy.GetNumberOfItems() == 0


def test_removing_the_item_of_a_segmentation_removes_its_segments_one_by_one(host, slicer):
    node = add_segmentation(slicer, 3)
    hierarchy_of(slicer).RemoveItem(hierarchy_of(slicer).GetItemByDataNode(node), False, False)
    assert node.GetSegmentation().GetNumberOfSegments() == 0
    assert len(host.plugins.costly) == 3


def test_that_costs_nothing_where_the_label_maps_are_gone(host, slicer):
    node = add_segmentation(slicer, 3)
    for index in range(3):
        node.GetSegmentation().GetNthSegment(index).RemoveAllRepresentations()
    slicer.mrmlScene.RemoveNode(node)
    assert host.plugins.costly == []


def test_closing_a_scene_removes_no_segment(host, slicer):
    add_segmentation(slicer, 3)
    slicer.mrmlScene.Clear(0)
    assert host.plugins.costly == []
    add_segmentation(slicer, 2)
    assert hierarchy_of(slicer).GetNumberOfItems() == 3


def test_a_scene_keeps_the_number_of_a_layout_and_not_its_description(host, slicer, tmp_path):
    assert {*host.views_shown()} == {"Red", "Green", "Yellow", "1"}
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    described = '<layout><item><view class="vtkMRMLSliceNode" singletontag="Red"/></item></layout>'
    node.AddLayoutDescription(7000, described)
    node.SetViewArrangement(7000)
    assert host.views_shown() == ["Red"]
    slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    host.new_session()
    slicer.util.loadScene(str(tmp_path / "scene.mrml"))
    assert slicer.app.layoutManager().layout == 7000
    assert host.views_shown() == []


def test_a_terminology_is_there_when_it_is_loaded_and_not_in_the_next_session(host, slicer):
    from BrainGenLib.scene import terminology

    terminology.register(slicer.modules.terminologies.logic())
    assert slicer.modules.terminologies.logic().IsTerminologyContextLoaded("BrainGen")
    host.new_session()
    assert not slicer.modules.terminologies.logic().IsTerminologyContextLoaded("BrainGen")


def test_a_process_of_slicers_python_runs_behind_a_launcher(python_slicer):
    assert sys.executable == shutil.which("PythonSlicer") == str(python_slicer)
    run = subprocess.run([sys.executable, "-c", "print(input())"], input="in and out", capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "in and out\n")
    assert subprocess.run([sys.executable, "-c", "raise SystemExit(3)"]).returncode == 3
    # Killed, and crashed.
    for name in ("SIGKILL", "SIGSEGV"):
        end = f"import os, signal; os.kill(os.getpid(), signal.{name})"
        assert subprocess.run([sys.executable, "-c", end], stderr=subprocess.DEVNULL).returncode == 1


def test_killing_the_launcher_leaves_python_running():
    sleeper = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    launcher = subprocess.Popen([sys.executable, "-c", sleeper], stdout=subprocess.PIPE, text=True)
    python = psutil.Process(int(launcher.stdout.readline()))
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    assert python.is_running()
    python.kill()


def test_a_pipe_that_nobody_reads_is_soon_full():
    command = [sys.executable, "-c", "print('x' * 5000)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as talker:
        with pytest.raises(subprocess.TimeoutExpired):
            talker.wait(1)
        assert len(talker.stdout.read()) == 5001


def test_the_module_that_slicer_starts_with_finds_no_python(host, tiny_file):
    from PySide6.QtCore import QSettings

    QSettings().setValue("Modules/AdditionalPaths", [str(tiny_file.parent)])
    QSettings().setValue("Modules/HomeModule", "Tiny")
    source = tiny_file.read_text("utf-8").replace('append("setup")', "append(__import__('sys').executable)")
    tiny_file.write_text(source, "utf-8")
    script = tiny_file.parent / "script" / "look.py"
    script.parent.mkdir()
    script.write_text("import slicer, sys\nassert slicer.modules.TinyWidget.calls[0] == ''\nassert sys.executable")
    assert host.launch("--python-script", str(script)) == 0
    assert host.errors == []


def test_a_test_run_has_no_settings_and_is_told_where_modules_are(host, slicer, tiny_file, tmp_path):
    from PySide6.QtCore import QSettings

    QSettings().setValue("Modules/AdditionalPaths", [str(tiny_file.parent)])
    script = tmp_path / "script" / "look.py"
    script.parent.mkdir()
    script.write_text("import slicer\nslicer.util.selectModule('Tiny')\nassert slicer.app.testingEnabled()")
    assert host.launch("--testing", "--no-splash", "--python-script", str(script)) == 1
    host.reset()
    paths = ("--additional-module-paths", str(tiny_file.parent))
    assert host.launch("--testing", "--no-splash", *paths, "--python-script", str(script)) == 0
    script.write_text("import slicer, qt\nqt.QTimer.singleShot(0, lambda: 1 / 0)\nslicer.util.exit(0)")
    assert host.launch("--testing", "--python-script", str(script)) == 1
    host.reset()
    script.write_text("import slicer\nslicer.util.exit(3)")
    assert host.launch("--python-script", str(script)) == 3
    assert not slicer.app.testingEnabled()


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
