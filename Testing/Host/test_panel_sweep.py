"""Sweeps from the panel, clicked: a real worker on tiny bundles, and the film that stands in the scene."""

import json

import numpy as np
import pytest
import slicer
import vtk
from panels import add_scan, finish, listed, ready_to_change
from patience import PATIENCE

from BrainGenLib import bundles, requests
from BrainGenLib.errors import BadInput
from BrainGenLib.requests import Counterfactual, Generate
from BrainGenLib.scene import cases, changes


@pytest.fixture
def panel(host, module):
    """The panel, and no film shown yet."""
    slicer.modules.sequences.toolBar().setActiveBrowserNode(None)
    with ready_to_change(host, module) as panel:
        yield panel


@pytest.fixture
def scan(panel, phantom_classes):
    return add_scan(phantom_classes)


@pytest.fixture
def asked(panel, monkeypatch):
    """What the sections have asked the logic to sweep over."""
    calls = []
    monkeypatch.setattr(panel.logic, "sweep", lambda *args, **nodes: calls.append((*args, nodes)))
    return calls


def choose(selector, data):
    """As a user does: ``activated`` does not tell of what a program sets."""
    index = selector.findData(data)
    assert index >= 0
    selector.setCurrentIndex(index)
    selector.activated(index)


def offered(selector):
    return {selector.itemData(index): selector.itemText(index) for index in range(1, selector.count)}


def frames(name):
    """The number of frames of each sequence of a film, by what it plays."""
    [browser] = [
        node for node in cases.nodes_of(slicer.mrmlScene, name).film if node.IsA("vtkMRMLSequenceBrowserNode")
    ]
    assert slicer.modules.sequences.toolBar().activeBrowserNode() is browser
    found = vtk.vtkCollection()
    browser.GetSynchronizedSequenceNodes(found, True)
    sequences = [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]
    return {browser.GetProxyNode(one).GetName(): one.GetNumberOfDataNodes() for one in sequences}


def test_the_line_offers_what_the_bundle_and_the_contrast_can(panel, asked, scan):
    ui = panel.ui
    metadata = bundles.find("brain-ldm").metadata
    ui.lesionsLeftCheckBox.setChecked(True)
    labels = {condition.name: condition.label for condition in metadata.conditions}
    settings = {name: name for name in ("drift", "strength", "guidance")}
    assert offered(ui.changeSweepSelector) == settings | labels
    assert not ui.changeSweepRange.isVisible()
    choose(ui.changeContrastSelector, "T1w")
    assert set(settings | labels) - set(offered(ui.changeSweepSelector)) == {
        condition.name
        for condition in metadata.conditions
        if condition.contrasts and "T1w" not in condition.contrasts
    }
    choose(ui.changeContrastSelector, "")

    ranges = {"drift": (-2, 2), "strength": (0.1, 1), "guidance": (0, 4)}
    ranges |= {one.name: (one.minimum, one.maximum) for one in metadata.conditions}
    for name, (low, high) in ranges.items():
        choose(ui.changeSweepSelector, name)
        assert ui.changeSweepRange.isVisible()
        for box, value in ((ui.changeSweepFrom, low), (ui.changeSweepTo, high)):
            digits = 2 if high <= 10 else 0
            assert (box.value, box.minimum, box.maximum) == tuple(round(each, digits) for each in (value, low, high))
    choose(ui.changeSweepSelector, "age")
    assert ui.changeSweepTo.suffix == " years"
    assert (ui.changeSweepFrames.value, ui.changeSweepFrames.minimum, ui.changeSweepFrames.maximum) == (7, 2, 32)

    choose(ui.changeBundleSelector, "brainspade3d")
    # Age is no longer offered.
    assert ui.changeButton.text == "Apply"
    able = requests.sweepable("counterfactual", bundles.find("brainspade3d").metadata)
    assert list(offered(ui.changeSweepSelector)) == able
    choose(ui.changeBundleSelector, "brain-ldm")
    assert ui.changeButton.text == "Make sweep"


def test_the_line_becomes_a_request(panel, asked, scan):
    ui = panel.ui
    ui.changeScanSelector.setCurrentNode(scan)
    choose(ui.changeSweepSelector, "drift")
    # A setting needs something to change, a condition is that itself.
    assert ui.changeButton.text == "Make sweep"
    assert not ui.changeButton.enabled
    choose(ui.changeSweepSelector, "age")
    assert ui.changeButton.enabled
    ui.changeSweepFrom.setValue(30)
    ui.changeSweepTo.setValue(60)
    ui.changeSweepFrames.setValue(4)
    ui.strengthSlider.setValue(0.5)
    ui.changeButton.click()
    choose(ui.changeSweepSelector, "ventricles")
    ui.changeButton.click()
    [(request, over, values, nodes), (_, _, volumes, _)] = asked
    assert isinstance(request, Counterfactual)
    assert (request.bundle, request.strength, request.wanted) == ("brain-ldm", 0.5, {})
    assert (over, values, nodes) == ("age", [30, 40, 50, 60], {"scan": scan, "segmentation": None})
    metadata = panel.counterfactualSection.metadata
    # What the boxes have rounded lies within the range that the bundle takes.
    requests.check(requests.Sweep(of=request, over="ventricles", values=volumes), metadata)

    ui.countSpinBox.setValue(3)
    choose(ui.sweepSelector, "wmh")
    assert ui.generateButton.text == "Make sweep"
    assert not ui.countSpinBox.enabled
    ui.generateButton.click()
    request, over, values, nodes = asked[-1]
    assert isinstance(request, Generate)
    assert (over, len(values), values[0], values[-1], nodes) == ("wmh", 7, 0, 1, {"style": None})
    choose(ui.sweepSelector, "")
    assert (ui.generateButton.text, ui.countSpinBox.enabled) == ("Generate", True)


def test_choices_are_saved_with_the_scene(panel):
    ui, node = panel.ui, panel._parameterNode.parameterNode
    choose(ui.changeSweepSelector, "age")
    ui.changeSweepFrom.setValue(40)
    saved = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    choose(ui.changeSweepSelector, "strength")
    for name, value in saved.items():
        node.SetParameter(name, value)
    assert ui.changeSweepSelector.currentText == bundles.find("brain-ldm").metadata.conditions[0].label
    assert ui.changeSweepFrom.value == 40


def test_a_growing_drift_is_a_film_beside_the_scan(host, panel, scan, tmp_path):
    ui = panel.ui
    ui.changeScanSelector.setCurrentNode(scan)
    choose(ui.changeContrastSelector, "T1w")
    row = next(row for row in panel.counterfactualSection.wanted if row.condition.name == "age")
    row.given.setChecked(True)
    row.slider.setValue(85)
    choose(ui.changeSweepSelector, "drift")
    ui.changeSweepFrames.setValue(3)
    ui.changeButton.click()
    assert ui.changeButton.text == "Cancel"
    assert ui.progressBar.isVisible()
    finish(host, panel)
    assert ui.changeButton.text == "Make sweep"
    assert ui.stateLabel.text.startswith("Done.")
    assert listed(panel) == ["sweep-0001"]
    nodes = cases.nodes_of(slicer.mrmlScene, "sweep-0001")
    counts = frames("sweep-0001")
    assert {"sweep-0001 T1w SYNTHETIC", "sweep-0001 difference SYNTHETIC"} <= set(counts)
    assert set(counts.values()) == {3}
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == changes.LAYOUT

    # Each frame stands beside the scan, as bright as it.
    before = slicer.util.arrayFromVolume(scan)
    browser, seen = slicer.modules.sequences.toolBar().activeBrowserNode(), []
    for number in range(3):
        browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        seen.append(slicer.util.arrayFromVolume(nodes.volumes["T1w"]).copy())
        assert np.allclose(seen[-1] - before, slicer.util.arrayFromVolume(nodes.maps["difference"]), atol=0.1)
        assert changes.before(nodes) is scan
        levels = [one.GetDisplayNode().GetWindowLevelMax() for one in (scan, nodes.volumes["T1w"])]
        assert levels[0] == levels[1]
    assert not np.array_equal(seen[0], seen[2])

    slicer.modules.sequences.toolBar().setActiveBrowserNode(None)
    layout.SetViewArrangement(layout.SlicerLayoutFourUpView)
    ui.resultsList.item(0).setSelected(True)
    ui.showButton.click()
    assert layout.GetViewArrangement() == changes.LAYOUT
    assert set(frames("sweep-0001").values()) == {3}
    panel.logic.export(["sweep-0001"], str(tmp_path / "bids"), waitForCompletion=True)
    assert len(list((tmp_path / "bids").rglob("ses-*/anat/*_T1w.nii.gz"))) == 3
    assert "n/a" not in (tmp_path / "bids" / "sub-0001" / "sub-0001_sessions.tsv").read_text("utf-8")
    assert (tmp_path / "bids" / "sub-0001" / "figures" / "sub-0001_desc-tradeoff_plot.svg").is_file()
    ui.deleteButton.click()
    finish(host, panel)
    assert listed(panel) == []
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 0


def test_cancel_leaves_no_film(host, panel):
    ui = panel.ui
    choose(ui.sweepSelector, "wmh")
    ui.generateButton.click()
    host.wait_until(lambda: "preview" in cases.case_names(slicer.mrmlScene), PATIENCE)
    ui.generateButton.click()
    finish(host, panel)
    assert ui.stateLabel.text == "Cancelled."
    assert listed(panel) == cases.case_names(slicer.mrmlScene) == []


def test_a_script_makes_a_film(panel, scan):
    request = Generate(bundle="brain-ldm", contrasts=["T1w"], steps=4, seed=1)
    [nodes] = panel.logic.sweep(request, "age", [30, 80], waitForCompletion=True)
    assert set(frames("sweep-0001").values()) == {2}
    assert json.loads(nodes.provenance.GetText())["request"]["values"] == [30, 80]
    with pytest.raises(BadInput, match="comes twice"):
        panel.logic.sweep(request, "age", [30, 30])
    with pytest.raises(RuntimeError, match="cannot sweep over 'mood'"):
        panel.logic.sweep(request, "mood", [0, 1], waitForCompletion=True)


def test_a_picture_of_the_line(host, panel, scan, tmp_path):
    choose(panel.ui.changeSweepSelector, "age")
    choose(panel.ui.sweepSelector, "ventricles")
    panel.ui.engineSection.collapsed = True
    host.screenshot(panel, tmp_path / "section.png")
    panel.ui.engineSection.collapsed = False
    assert (tmp_path / "section.png").stat().st_size > 20_000
