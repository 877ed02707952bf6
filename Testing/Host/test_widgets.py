"""The stand-ins for widgets of CTK and Slicer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def slicer(host):
    import slicer

    return slicer


@pytest.fixture
def ctk(host):
    import ctk

    return ctk


@pytest.fixture
def selector(slicer):
    chooser = slicer.qMRMLNodeComboBox()
    chooser.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    chooser.noneEnabled = True
    chooser.setMRMLScene(slicer.mrmlScene)
    return chooser


def shown(selector):
    box = selector.findChild("QComboBox")
    return [box.itemText(index) for index in range(box.count)]


def volume(slicer, name):
    return slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.int16), name=name)


def test_a_selector_follows_the_scene(slicer, selector):
    first = volume(slicer, "first")
    volume(slicer, "second")
    assert shown(selector)[:3] == ["None", "first", "second"]
    first.SetName("renamed")
    assert shown(selector)[:3] == ["None", "renamed", "second"]
    slicer.mrmlScene.RemoveNode(first)
    assert shown(selector)[:2] == ["None", "second"]


def test_a_selector_offers_only_its_classes(slicer, selector):
    label_map = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    assert selector.nodeCount() == 1
    selector.showChildNodeTypes = False
    assert selector.nodeCount() == 0
    selector.setCurrentNode(label_map)
    assert selector.currentNode() is None


def test_a_selector_says_when_its_node_changes(slicer, selector):
    seen = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    node = volume(slicer, "first")
    assert seen == []
    selector.setCurrentNode(node)
    selector.setCurrentNode(node)
    assert seen == [node]
    assert selector.currentNodeID == node.GetID()
    slicer.mrmlScene.RemoveNode(node)
    assert seen == [node, None]


def test_a_selector_whose_node_goes_shows_the_one_above_as_qt_does(slicer, selector):
    first, second, third = (volume(slicer, name) for name in ("first", "second", "third"))
    selector.setCurrentNode(third)
    slicer.mrmlScene.RemoveNode(third)
    assert selector.currentNode() is second
    selector.setCurrentNode(first)
    slicer.mrmlScene.RemoveNode(first)
    assert selector.currentNode() is None
    selector.noneEnabled = False
    selector.setCurrentNode(second)
    volume(slicer, "fourth")
    slicer.mrmlScene.RemoveNode(second)
    assert selector.currentNode() is None


def test_a_selector_without_none_waits_to_be_told(slicer, selector):
    selector.noneEnabled = False
    node = volume(slicer, "first")
    assert shown(selector)[0] == "first"
    assert selector.currentNode() is None
    selector.setCurrentNode(node)
    selector.setCurrentNode(None)
    assert selector.currentNode() is None


def test_a_selector_makes_and_deletes_nodes(slicer, selector):
    selector.baseName = "Output"
    box = selector.findChild("QComboBox")
    box.activated.emit(box.findText("Create new Output"))
    assert selector.currentNode().GetName() == "Output"
    box.activated.emit(box.findText("Delete current node"))
    assert selector.currentNode() is None
    assert selector.nodeCount() == 0


def test_a_selector_that_is_gone_no_longer_follows(host, slicer, selector, capfd):
    selector.deleteLater()
    host.process_events()
    volume(slicer, "first")
    assert "Traceback" not in capfd.readouterr().err


def test_a_section_hides_and_shows_what_is_below_it(ctk, host):
    import qt

    section = ctk.ctkCollapsibleButton()
    section.text = "Section"
    layout = qt.QVBoxLayout(section)
    kept, hidden = qt.QLabel("kept"), qt.QLabel("hidden")
    layout.addWidget(kept)
    layout.addWidget(hidden)
    hidden.hide()
    section.show()
    assert kept.visible
    tall = section.sizeHint.height()

    collapsed = []
    section.connect("contentsCollapsed(bool)", collapsed.append)
    section.collapsed = True
    assert not kept.visible
    assert section.sizeHint.height() < tall
    section.click()
    assert kept.visible
    assert not hidden.visible
    assert collapsed == [True, False]


def test_a_slider_keeps_to_its_range_and_says_what_changed(ctk):
    slider, seen = ctk.ctkSliderWidget(), []
    slider.minimum, slider.maximum, slider.decimals = -3, 3, 1
    slider.connect("valueChanged(double)", seen.append)
    slider.value = 1.26
    slider.value = 9
    slider.value = 3
    assert seen == [1.3, 3.0]
    slider.minimum, slider.maximum = 0, 2
    assert slider.value == 2


def test_slider_and_spin_box_show_one_value(ctk):
    slider = ctk.ctkSliderWidget()
    slider.findChild("QSlider").setValue(7)
    assert slider.value == slider.findChild("QDoubleSpinBox").value == 7
    slider.suffix = " mm"
    assert slider.findChild("QDoubleSpinBox").suffix == " mm"


def test_a_range_says_both_ends(ctk):
    widget, seen = ctk.ctkRangeWidget(), []
    widget.connect("valuesChanged(double,double)", lambda low, high: seen.append((low, high)))
    widget.setValues(10, 20)
    widget.setValues(10, 20)
    assert seen == [(10, 20)]
    assert (widget.minimumValue, widget.maximumValue) == (10, 20)


def test_a_path_line_says_its_path(ctk, host, tmp_path):
    line, seen = ctk.ctkPathLineEdit(), []
    line.connect("currentPathChanged(QString)", seen.append)
    line.currentPath = "/a"
    host.dialogs.path = tmp_path
    line.findChild("QToolButton").click()
    assert seen == ["/a", str(tmp_path)]
    assert line.currentPath == str(tmp_path)


def test_a_directory_button_says_its_folder(ctk, host, tmp_path):
    button, seen = ctk.ctkDirectoryButton(), []
    button.connect("directoryChanged(QString)", seen.append)
    host.dialogs.path = tmp_path
    button.findChild("QPushButton").click()
    assert seen == [button.directory] == [str(tmp_path)]
    button.directory = "a"
    assert Path(button.directory) == Path("a").absolute()


def test_what_has_no_stand_in_is_listed_when_it_is_shown(ctk, host):
    assert ctk.ctkMatrixWidget is ctk.ctkMatrixWidget
    assert host.missing == []
    ctk.ctkMatrixWidget()
    assert host.missing == ["ctkMatrixWidget"]
