"""The section Counterfactual, clicked: a real worker on tiny bundles, and what stands beside a scan of the scene."""

import json
import re
import sys

import numpy as np
import pytest
import slicer
from panels import AT_ONCE_S, MODULE, add_scan, finish, listed, ready_to_change
from patience import PATIENCE
from phantoms import phantom_image

from BrainGenLib import anatomy, bundles, requests, spaces
from BrainGenLib.drift_curve import REACH
from BrainGenLib.errors import BadInput
from BrainGenLib.requests import MASS_EFFECT, MAX_SHARE, Counterfactual
from BrainGenLib.scene import cases, changes
from BrainGenLib.scene.segmentation import add_segmentation
from BrainGenLib.scene.volumes import add_volume

CURVE = {"contrast": "T1w", "units": [-2, -1, 0, 1, 2], "delta": [-0.1, -0.05, 0, 0.05, 0.1], "l1": [9, 4, 3, 2, 7]}


@pytest.fixture
def panel(host, module):
    """The panel, and afterwards no bundle with a drift curve."""
    with ready_to_change(host, module) as panel:
        yield panel
    for bundle in panel.controls._bundles.values():
        bundle.parameters.pop("drift_curve", None)


@pytest.fixture
def scan(panel, phantom_classes):
    return add_scan(phantom_classes)


@pytest.fixture
def asked(panel, monkeypatch):
    """What the section has asked the logic for."""
    calls = []
    monkeypatch.setattr(panel.logic, "counterfactual", lambda *args, **settings: calls.append((args, settings)))
    return calls


def row(rows, name):
    return next(row for row in rows if row.condition.name == name)


def set_to(rows, **values):
    for name, value in values.items():
        row(rows, name).given.setChecked(True)
        row(rows, name).slider.setValue(value)


def choose(selector, data):
    """As a user does: ``activated`` does not tell of what a program sets."""
    index = selector.findData(data)
    assert index >= 0
    selector.setCurrentIndex(index)
    selector.activated(index)


def test_both_ways_are_offered_and_what_has_no_meaning_is_hidden(panel):
    ui, section = panel.ui, panel.counterfactualSection
    offered = [ui.changeBundleSelector.itemData(i) for i in range(ui.changeBundleSelector.count)]
    assert offered == ["brain-ldm", "brainspade3d"]
    conditions = bundles.find("brain-ldm").metadata.conditions
    labels = bundles.find("brainspade3d").metadata
    drawn = [condition.name for condition in labels.conditions if condition.kind == "pathology"]
    names = [condition.name for condition in conditions if condition.kind != "pathology"]
    for rows, expected in ((section.known, names), (section.wanted, names + drawn)):
        assert [row.condition.name for row in rows] == expected
        assert row(rows, "age").slider.suffix == " years"
        assert row(rows, "ventricles").slider.suffix == " mL"
    assert ui.knownRows.isVisible()
    assert ui.strengthSlider.isVisible()
    assert ui.lesionsSelector.isVisible()
    # Lesions are drawn, unless they are left to the model, which knows one kind of them.
    set_to(section.wanted, age=75)
    ui.lesionsLeftCheckBox.setChecked(True)
    for rows in (section.known, section.wanted):
        assert [row.condition.name for row in rows] == [condition.name for condition in conditions]
    assert row(section.wanted, "age").value() == 75
    ui.lesionsLeftCheckBox.setChecked(False)

    choose(ui.changeBundleSelector, "brainspade3d")
    assert section.known == []
    able = requests.changeable(labels)
    assert [row.condition.name for row in section.wanted] == [condition.name for condition in able]
    assert not ui.lesionsLeftCheckBox.isVisible()
    assert not ui.knownTitle.isVisible()
    assert not ui.strengthSlider.isVisible()
    assert not ui.changeDriftSlider.isVisible()
    assert ui.lesionsSelector.isVisible()
    names = [condition.name for condition in conditions]
    files = [*MODULE.parent.glob("BrainGenPanel/*.py"), MODULE.parent / "Resources/UI/BrainGen.ui"]
    lines = [line for path in files for line in path.read_text("utf-8").splitlines() if ">>>" not in line]
    assert [name for name in names if any(f'"{name}"' in line for line in lines)] == []


def test_without_bundles_nothing_of_the_library_is_needed(panel, monkeypatch):
    """As when Slicer's Python lacks packages."""
    section = panel.counterfactualSection
    monkeypatch.setitem(sys.modules, "BrainGenLib.capabilities", None)
    monkeypatch.delattr("BrainGenLib.capabilities")
    monkeypatch.setattr(section, "_bundles", {})
    assert section.metadata is None
    section.update(panel._parameterNode, None)
    assert not panel.ui.changeSection.enabled
    monkeypatch.undo()
    section.update(panel._parameterNode, None)
    assert panel.ui.changeSection.enabled


def test_what_a_contrast_does_not_support_is_disabled_with_the_reason(panel, asked, scan):
    ui, section = panel.ui, panel.counterfactualSection
    ui.changeScanSelector.setCurrentNode(scan)
    ui.lesionsLeftCheckBox.setChecked(True)
    set_to(section.wanted, wmh=0.5)
    lesion = row(section.wanted, "wmh")
    assert lesion.volume.text == "25 mL"
    assert lesion.widget.enabled
    choose(ui.changeContrastSelector, "T1w")
    assert not lesion.widget.enabled
    assert "too few T1w scans" in lesion.widget.toolTip
    assert "T2w" in lesion.slider.toolTip
    # Nothing is left to ask for.
    assert not ui.changeButton.enabled
    choose(ui.changeContrastSelector, "T2w")
    assert lesion.widget.enabled
    ui.changeButton.click()
    [(_, settings)] = asked
    assert (settings["contrast"], settings["lesions"]) == ("T2w", "diffusion")


def painted_on(scan):
    """A segmentation of a scan with a cube of white matter hyperintensity, 0.5 mL."""
    labels = np.zeros(slicer.util.arrayFromVolume(scan).T.shape, np.uint16)
    labels[36:40, 50:54, 44:48] = anatomy.lesions()["wmh"].value
    return add_segmentation(slicer.mrmlScene, labels, spaces.GRID_2MM.affine, "painted", scan)


def test_the_sliders_become_a_request(panel, asked, scan):
    ui, section = panel.ui, panel.counterfactualSection
    assert not ui.changeButton.enabled
    ui.changeScanSelector.setCurrentNode(scan)
    assert not ui.changeButton.enabled
    set_to(section.known, age=45)
    set_to(section.wanted, age=75, wmh=0)
    ui.lesionsSelector.setCurrentNode(painted_on(scan))
    ui.strengthSlider.setValue(0.5)
    ui.guidanceSlider.setValue(3.5)
    ui.variantsSpinBox.setValue(4)
    ui.changeDriftSlider.setValue(-1.25)
    ui.changeButton.click()
    ui.autoDriftCheckBox.setChecked(True)
    assert not ui.changeDriftSlider.enabled
    ui.changeButton.click()
    (nodes, settings), (_, again) = asked
    assert nodes == (scan, {"age": 75, "wmh": 0})
    request = Counterfactual(scan="", wanted=nodes[1], **{**settings, "segmentation": None})
    assert (request.bundle, request.known, request.contrast) == ("brain-ldm", {"age": 45}, None)
    assert request.lesions == "labels"
    assert (request.strength, request.guidance, request.variants, request.drift) == (0.5, 3.5, 4, -1.25)
    assert again["drift"] == "auto"


def test_an_untouched_section_asks_with_the_defaults_of_the_request(panel):
    node = panel._parameterNode
    request = Counterfactual(scan="", wanted={"age": 50})
    assert (node.strength, node.guidance, node.variants) == (request.strength, request.guidance, request.variants)
    assert node.changeDrift == request.drift
    assert panel.ui.changeDriftSlider.maximum == -panel.ui.changeDriftSlider.minimum == REACH


def test_the_curve_behind_the_drift_is_shown_where_the_bundle_tells_it(host, panel):
    ui, section = panel.ui, panel.counterfactualSection
    assert not ui.changeDriftDelta.isVisible()
    assert not ui.changeDriftCurve.isVisible()
    section.metadata.parameters["drift_curve"] = CURVE
    ui.changeDriftSlider.setValue(-1.5)
    assert ui.changeDriftCurve.isVisible()
    assert ui.changeDriftDelta.text == "δ = -0.075"
    assert "T1w" in ui.changeDriftCurve.toolTip
    assert "+1" in ui.changeDriftCurve.toolTip
    first, best = coloured(ui.changeDriftCurve, (217, 98, 43)), coloured(ui.changeDriftCurve, (46, 158, 91))
    ui.changeDriftSlider.setValue(2.0)
    second = coloured(ui.changeDriftCurve, (217, 98, 43))
    # The slider's dot goes right, the best one's ring stays: one third of the way from no drift to the end.
    width = ui.changeDriftCurve.pixmap.width()
    assert first / width == pytest.approx(0.25, abs=0.03)
    assert second / width == pytest.approx(5 / 6, abs=0.03)
    assert best / width == pytest.approx(4 / 6, abs=0.03)
    ui.autoDriftCheckBox.setChecked(True)
    assert coloured(ui.changeDriftCurve, (217, 98, 43)) is None


def coloured(label, colour):
    """Mean x of the pixels of a colour, or None."""
    image = label.pixmap.toImage()
    found = []
    for x in range(image.width()):
        for y in range(image.height()):
            pixel = image.pixelColor(x, y)
            if pixel.alpha() > 200 and max(abs(np.subtract((pixel.red(), pixel.green(), pixel.blue()), colour))) < 25:
                found.append(x)
    return np.mean(found) if found else None


def test_a_scan_is_changed_and_stands_beside_itself(host, panel, scan):
    ui, section = panel.ui, panel.counterfactualSection
    before = slicer.util.arrayFromVolume(scan).copy()
    ui.changeScanSelector.setCurrentNode(scan)
    choose(ui.changeContrastSelector, "T1w")
    set_to(section.known, age=30)
    set_to(section.wanted, age=85)
    ui.guidanceSlider.setValue(8)
    host.reset_longest_block()
    ui.changeButton.click()
    assert ui.changeButton.text == "Cancel"
    assert ui.progressBar.isVisible()
    host.wait_until(lambda: "preview" in cases.case_names(slicer.mrmlScene), PATIENCE)
    finish(host, panel)
    assert host.longest_work_s < AT_ONCE_S, host.longest_block_in
    assert ui.changeButton.text == "Apply"
    assert re.fullmatch(r"Done\. identity \d\.\d\d, .* of what was asked for as measured by .*", ui.stateLabel.text)
    assert listed(panel) == ["counterfactual-0001"]

    nodes = cases.nodes_of(slicer.mrmlScene, "counterfactual-0001")
    made = nodes.volumes["T1w"], nodes.maps["difference"]
    after, difference = (slicer.util.arrayFromVolume(each) for each in made)
    assert np.array_equal(slicer.util.arrayFromVolume(scan), before)
    assert np.allclose(after - before, difference, atol=0.1)
    assert np.abs(difference).max() > 5
    request = json.loads(nodes.provenance.GetText())["request"]
    assert (request["known"], request["wanted"]) == ({"age": 30.0}, {"age": 85.0})

    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == changes.LAYOUT
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == scan.GetID()
    assert composite.GetLinkedControl()
    # Where the change is, the slices cross.
    offset = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceOffset()
    plane = np.abs(difference).sum((1, 2))
    assert plane[round((offset - spaces.GRID_2MM.affine[2, 3]) / 2)] > 0

    # The list shows it in the same way again.
    layout.SetViewArrangement(layout.SlicerLayoutFourUpView)
    ui.resultsList.item(0).setSelected(True)
    ui.showButton.click()
    assert layout.GetViewArrangement() == changes.LAYOUT


def test_a_lesion_goes_by_labels(host, panel, phantom_classes):
    ui, section = panel.ui, panel.counterfactualSection
    choose(ui.changeBundleSelector, "brainspade3d")
    choose(ui.changeContrastSelector, "FLAIR")
    scan, painted, lesion = lesion_scan(phantom_classes)
    ui.changeScanSelector.setCurrentNode(scan)
    ui.lesionsSelector.setCurrentNode(painted)
    set_to(section.wanted, wmh=0)
    ui.changeButton.click()
    finish(host, panel)
    assert ui.stateLabel.text.startswith("Done. identity ")
    nodes = cases.nodes_of(slicer.mrmlScene, "counterfactual-0001")
    before, after = (slicer.util.arrayFromVolume(each).T for each in (scan, nodes.volumes["FLAIR"]))
    assert np.abs(after - before)[lesion].mean() > 20
    assert changes.before(nodes) is scan


def lesion_scan(classes):
    """A scan with a bright cube in it, and a segmentation of that alone."""
    image = (phantom_image(classes, 0.3, 0.5, 0.9) * 800).astype(np.float32)
    lesion = np.zeros(classes.shape, bool)
    lesion[36:42, 50:56, 44:50] = True
    image[lesion] = 790
    scan = add_volume(slicer.mrmlScene, image, spaces.GRID_2MM.affine, "scan")
    labels = np.where(lesion, anatomy.lesions()["wmh"].value, 0).astype(np.uint16)
    return scan, add_segmentation(slicer.mrmlScene, labels, spaces.GRID_2MM.affine, "lesions", scan), lesion


def test_cancel_leaves_the_scan_alone(host, panel, scan):
    ui, section = panel.ui, panel.counterfactualSection
    ui.changeScanSelector.setCurrentNode(scan)
    set_to(section.wanted, age=85)
    ui.variantsSpinBox.setValue(16)
    ui.changeButton.click()
    host.wait_until(lambda: ui.stateLabel.text.startswith(("loading", "segmentation")), PATIENCE)
    ui.changeButton.click()
    finish(host, panel)
    assert ui.stateLabel.text == "Cancelled."
    assert listed(panel) == []


def test_a_script_changes_a_scan(panel, scan):
    settings = {"known": {"age": 30}, "contrast": "T1w", "steps": 4, "variants": 2, "seed": 1}
    [nodes] = panel.logic.counterfactual(scan, {"age": 85}, waitForCompletion=True, **settings)
    assert set(nodes.maps) == {"difference", "uncertainty"}
    assert changes.before(nodes) is scan
    with pytest.raises(BadInput, match="strength"):
        panel.logic.counterfactual(scan, {"age": 85}, strength=7)
    with pytest.raises(RuntimeError, match="does not know the condition"):
        panel.logic.counterfactual(scan, {"mood": 1}, waitForCompletion=True)


def test_choices_are_saved_with_the_scene(panel):
    section = panel.counterfactualSection
    set_to(section.known, age=45)
    set_to(section.wanted, age=75)
    node = panel._parameterNode.parameterNode
    saved = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    set_to(section.wanted, age=30)
    row(section.known, "age").given.setChecked(False)
    for name, value in saved.items():
        node.SetParameter(name, value)
    # A model that knows of lesions alone forgets nothing of the rest.
    choose(panel.ui.changeBundleSelector, "brainspade3d")
    set_to(section.wanted, wmh=0.5)
    choose(panel.ui.changeBundleSelector, "brain-ldm")
    assert row(section.known, "age").value() == 45
    assert [row(section.wanted, name).value() for name in ("age", "wmh")] == [75, 0.5]


@pytest.fixture
def images(panel):
    """The section Generate with the bundle that draws images without labels."""
    choose(panel.ui.bundleSelector, "brain-ldm")
    yield panel
    choose(panel.ui.bundleSelector, "brainspade3d")


def test_a_model_of_images_is_asked_for_what_it_can(host, images):
    panel, ui = images, images.ui
    ui.massEffectSlider.setValue(6)
    ui.maxShareSlider.setValue(65)
    for hidden in (ui.styleSelector, ui.liveCheckBox, ui.massEffectSlider, ui.maxShareSlider):
        assert not hidden.isVisible()
    request = panel.generateSection.request()
    assert (request.mass_effect, request.max_share) == (MASS_EFFECT, MAX_SHARE)
    assert ui.driftSlider.isVisible()
    assert not ui.renderSection.enabled
    boxes = panel.controls.contrastBoxes
    boxes["T2w"].setChecked(True)
    assert [name for name, box in boxes.items() if box.checked] == ["T2w"]
    row(panel.controls.rows, "wmh").slider.setValue(0.5)
    assert panel.generateSection.request().pathologies == {"wmh": 0.5}
    boxes["T1w"].setChecked(True)
    assert panel._parameterNode.contrasts == ["T1w"]
    assert not row(panel.controls.rows, "wmh").widget.enabled
    assert panel.generateSection.request().pathologies == {}

    assert panel.generateSection.request().drift is None
    assert not ui.driftSlider.enabled
    ui.ownDriftCheckBox.setChecked(False)
    ui.driftSlider.setValue(1.5)
    set_to(panel.controls.rows, age=75)
    ui.generateButton.click()
    finish(host, panel)
    nodes = cases.nodes_of(slicer.mrmlScene, "sub-0001")
    assert (list(nodes.volumes), nodes.segmentation) == (["T1w"], None)
    request = json.loads(nodes.provenance.GetText())["request"]
    assert (request["drift"], request["anatomy"]) == (1.5, {"age": 75.0})

    choose(ui.bundleSelector, "brainspade3d")
    assert ui.styleSelector.isVisible()
    assert not ui.driftSlider.isVisible()
    assert panel.generateSection.request().drift is None


def test_a_picture_of_the_section(host, panel, scan, tmp_path):
    section = panel.counterfactualSection
    section.metadata.parameters["drift_curve"] = CURVE
    panel.ui.changeScanSelector.setCurrentNode(scan)
    set_to(section.known, age=45)
    set_to(section.wanted, age=75)
    for name in ("engineSection", "generateSection"):
        getattr(panel.ui, name).collapsed = True
    host.screenshot(panel, tmp_path / "section.png")
    for name in ("engineSection", "generateSection"):
        getattr(panel.ui, name).collapsed = False
    assert (tmp_path / "section.png").stat().st_size > 20_000
