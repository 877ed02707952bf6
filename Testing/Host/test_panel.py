"""The panel as a clinician meets it: the real .ui, clicked; a real worker on tiny bundles; the scene that results."""

import numpy as np
import pytest
import slicer
import vtk
from panels import AT_ONCE_S, MODULE, finish, kill_python, listed
from patience import PATIENCE

from BrainGenLib import anatomy, bundles
from BrainGenLib.case import Case
from BrainGenLib.export import bids
from BrainGenLib.requests import LEAST_MAX_SHARE, MASS_EFFECT, MAX_SHARE, MOST_MASS_EFFECT, Generate
from BrainGenLib.scene import cases
from BrainGenLib.scene.case_to_scene import add_case
from BrainGenLib.scene.segmentation import label_map_of


@pytest.fixture
def panel(host, module):
    """The panel with an empty scene, ready."""
    panel = host.open(module)
    host.wait_until(lambda: panel.controls.metadata is not None, PATIENCE)
    finish(host, panel)
    yield panel
    panel.logic.abandon()
    host.wait_until(lambda: not panel.logic.running, PATIENCE)
    assert host.errors == []
    assert not host.missing


def row(panel, name):
    return next(row for row in panel.controls.rows if row.condition.name == name)


def choose(panel, contrasts=("T1w",), **loads):
    for name, value in loads.items():
        row(panel, name).slider.setValue(value)
    for name, box in panel.controls.contrastBoxes.items():
        box.setChecked(name in contrasts)


def under_way(host, panel):
    """Wait until the state line tells of the run that was just started."""
    host.wait_until(lambda: panel.ui.stateLabel.text.partition(" ")[0] in ("loading", "labels", "case"), PATIENCE)


def generate(host, panel, **choices):
    choose(panel, **choices)
    panel.ui.generateButton.click()
    finish(host, panel)
    return cases.nodes_of(slicer.mrmlScene, panel.logic.caseNames()[-1])


def select(panel, *chosen):
    for index in range(panel.ui.resultsList.count):
        item = panel.ui.resultsList.item(index)
        item.setSelected(item.text() in chosen)


def test_sliders_and_boxes_are_those_of_the_bundle(panel):
    metadata = bundles.find("brainspade3d").metadata
    shown = [row.condition.name for row in panel.controls.rows]
    assert shown == [condition.name for condition in metadata.conditions]
    for condition in metadata.conditions:
        slider = row(panel, condition.name).slider
        assert (slider.minimum, slider.maximum) == pytest.approx((condition.minimum, condition.maximum))
    assert list(panel.controls.contrastBoxes) == metadata.contrasts
    assert metadata.license in panel.ui.bundleCard.text
    assert metadata.limits[0] in panel.ui.bundleCard.text
    assert "Model card" in panel.ui.bundleCard.text
    assert panel.ui.deviceSelector.findData("cpu") > 0
    files = [MODULE, *MODULE.parent.glob("BrainGenPanel/*.py"), MODULE.parent / "Resources/UI/BrainGen.ui"]
    lines = [line for path in files for line in path.read_text("utf-8").splitlines() if ">>>" not in line]
    text = "\n".join(lines)
    for condition in metadata.conditions:
        assert f'"{condition.name}"' not in text
        assert f">{condition.name}<" not in text


def test_generate_puts_a_case_into_the_scene_and_the_panel_stays_alive(host, panel):
    choose(panel, contrasts=("T1w", "FLAIR"), wmh=0.4)
    assert row(panel, "wmh").volume.text == "20 mL"
    host.reset_longest_block()
    panel.ui.keepSeedCheckBox.setChecked(True)
    panel.ui.seedSpinBox.setValue(5)
    panel.ui.generateButton.click()
    assert panel.ui.generateButton.text == "Cancel"
    assert panel.ui.progressBar.isVisible()
    host.wait_until(lambda: "preview" in cases.case_names(slicer.mrmlScene), PATIENCE)
    assert "preview" not in listed(panel)
    finish(host, panel)
    assert host.longest_work_s < AT_ONCE_S, host.longest_block_in
    assert panel.ui.generateButton.text == "Generate"
    assert panel.ui.stateLabel.text.startswith("Done. 2.0 effective donors, ")
    assert not panel.ui.progressBar.isVisible()
    assert cases.case_names(slicer.mrmlScene) == listed(panel) == ["sub-0001"]
    nodes = cases.nodes_of(slicer.mrmlScene, "sub-0001")
    assert list(nodes.volumes) == ["T1w", "FLAIR"]
    assert nodes.segmentation.GetAttribute("BrainGen.seed") == "5"
    labels, _ = label_map_of(nodes.segmentation)
    wmh = np.count_nonzero(labels == anatomy.lesions()["wmh"].value) / 1000
    assert wmh == pytest.approx(20, rel=0.1)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == nodes.volumes["T1w"].GetID()


def test_a_lesion_is_placed_and_an_anatomy_given(host, panel):
    wmh, ventricles = row(panel, "wmh"), row(panel, "ventricles")
    assert not wmh.details.isVisible()
    choose(panel, wmh=0.3)
    # What was just put into a layout is shown with the next events.
    host.wait_until(wmh.details.isVisible, PATIENCE)
    wmh.side.setCurrentIndex(wmh.side.findData("left"))
    assert not ventricles.slider.enabled
    ventricles.given.setChecked(True)
    ventricles.slider.setValue(40)
    for name, value in (("age", 70), ("sex", 1)):
        row(panel, name).given.setChecked(True)
        row(panel, name).slider.setValue(value)
    request = panel.generateSection.request()
    assert request.pathologies == {"wmh": pytest.approx(0.3)}
    assert request.locations["wmh"].side == "left"
    assert request.locations["wmh"].lobe is None
    assert request.anatomy == pytest.approx({"ventricles": 40, "age": 70, "sex": 1})
    assert request.mass_effect == MASS_EFFECT
    panel.ui.massEffectSlider.setValue(6.5)
    assert panel.generateSection.request().mass_effect == 6.5
    assert panel.ui.massEffectSlider.maximum == MOST_MASS_EFFECT
    assert request.max_share == MAX_SHARE
    share = panel.ui.maxShareSlider
    assert share.isVisible()
    assert (share.minimum, share.maximum) == (100 * LEAST_MAX_SHARE, 100)
    share.setValue(65)
    assert panel.generateSection.request().max_share == 0.65
    nodes = generate(host, panel)
    assert "70 years, male: ventricles at percentile " in panel.logic.verdict
    labels, affine = label_map_of(nodes.segmentation)
    where = np.argwhere(labels == anatomy.lesions()["wmh"].value) @ affine[:3, :3].T + affine[:3, 3]
    assert (where[:, 0] < 0).all()


def test_several_cases_come_one_after_the_other(host, panel):
    panel.ui.countSpinBox.setValue(2)
    generate(host, panel)
    assert listed(panel) == ["sub-0001", "sub-0002"]
    seeds = [
        int(cases.nodes_of(slicer.mrmlScene, name).segmentation.GetAttribute("BrainGen.seed"))
        for name in listed(panel)
    ]
    assert seeds[1] == seeds[0] + 1


def test_a_new_scene_begins_with_a_contrast_chosen(host, panel):
    assert panel.ui.generateButton.enabled
    assert [name for name, box in panel.controls.contrastBoxes.items() if box.checked] == ["T1w"]


def test_cancel_stops_and_the_panel_says_so(host, panel):
    panel.ui.countSpinBox.setValue(50)
    panel.ui.generateButton.click()
    under_way(host, panel)
    panel.ui.generateButton.click()
    finish(host, panel)
    assert panel.ui.stateLabel.text == "Cancelled."
    assert panel.ui.generateButton.text == "Generate"
    assert "preview" not in cases.case_names(slicer.mrmlScene)


def test_live_sliders_show_drafts_and_the_newest_counts(host, panel):
    panel.ui.liveCheckBox.setChecked(True)
    choose(panel, wmh=0.2)
    host.wait_until(lambda: panel.logic.drafting, PATIENCE)
    assert panel.ui.generateButton.text == "Generate"
    choose(panel, wmh=0.6)
    host.wait_until(lambda: not panel.generateSection.liveTimer.active, PATIENCE)
    finish(host, panel)
    assert cases.case_names(slicer.mrmlScene) == ["preview"]
    assert listed(panel) == []
    labels, affine = label_map_of(cases.nodes_of(slicer.mrmlScene, "preview").segmentation)
    assert np.count_nonzero(labels == anatomy.lesions()["wmh"].value) * 0.008 == pytest.approx(30, rel=0.1)
    assert affine[0, 0] == 2
    # The draft gives way to the case.
    nodes = generate(host, panel)
    assert cases.case_names(slicer.mrmlScene) == ["sub-0001"]
    assert nodes.volumes


def test_an_erased_lesion_disappears_from_the_image(host, panel):
    nodes = generate(host, panel, contrasts=("FLAIR",), wmh=0.5)
    before, _ = label_map_of(nodes.segmentation)
    segmentation = nodes.segmentation.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("white matter hyperintensity"))
    panel.ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    for name, box in panel.controls.renderContrastBoxes.items():
        box.setChecked(name == "FLAIR")
    host.reset_longest_block()
    panel.ui.renderButton.click()
    assert panel.ui.renderButton.text == "Cancel"
    finish(host, panel)
    assert host.longest_work_s < AT_ONCE_S, host.longest_block_in
    rendered = cases.nodes_of(slicer.mrmlScene, "render-0001")
    lesion = before == anatomy.lesions()["wmh"].value
    images = [slicer.util.arrayFromVolume(each.volumes["FLAIR"]).T for each in (nodes, rendered)]
    assert np.abs(images[0] - images[1])[lesion].mean() > 0.002
    after, _ = label_map_of(rendered.segmentation)
    assert not (after == anatomy.lesions()["wmh"].value).any()
    # Brain has taken its place, not air, but for where it reached the surface of this small brain.
    assert (after[lesion] > 0).mean() > 0.6


def test_a_scan_is_segmented_over_itself(host, panel):
    scan = generate(host, panel).volumes["T1w"]
    panel.ui.scanSelector.setCurrentNode(scan)
    panel.ui.segmentButton.click()
    finish(host, panel)
    nodes = cases.nodes_of(slicer.mrmlScene, "segmentation-0001")
    assert nodes.segmentation.GetAttribute("BrainGen.synthetic") is None
    assert label_map_of(nodes.segmentation)[0].shape == slicer.util.arrayFromVolume(scan).T.shape
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == scan.GetID()


def test_results_are_shown_compared_exported_and_deleted(host, panel, tmp_path):
    panel.ui.countSpinBox.setValue(2)
    generate(host, panel)
    buttons = [panel.ui.showButton, panel.ui.compareButton, panel.ui.deleteButton, panel.ui.exportButton]
    assert [button.enabled for button in buttons] == [False] * 4
    select(panel, "sub-0001")
    assert [button.enabled for button in buttons] == [True, False, True, False]
    panel.ui.showButton.click()
    first, second = (cases.nodes_of(slicer.mrmlScene, name) for name in listed(panel))
    assert first.segmentation.GetDisplayNode().GetVisibility()
    assert not second.segmentation.GetDisplayNode().GetVisibility()

    select(panel, "sub-0001", "sub-0002")
    panel.ui.compareButton.click()
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView

    panel.ui.exportPath.setCurrentPath(str(tmp_path / "out"))
    host.reset_longest_block()
    panel.ui.exportButton.click()
    host.wait_until(lambda: not panel.logic.exporting, PATIENCE)
    assert host.longest_work_s < AT_ONCE_S, host.longest_block_in
    assert "sub-0002" in panel.ui.stateLabel.text
    exported = bids.read_case(tmp_path / "out" / "sub-0001")
    assert np.array_equal(exported.labels, label_map_of(first.segmentation)[0])
    assert "edited" not in exported.provenance

    panel.ui.deleteButton.click()
    finish(host, panel)
    assert listed(panel) == []
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_whose_anatomy_a_case_has_is_laid_over_it_until_it_is_shown_without(host, panel):
    image = np.ones((16, 16, 16), np.float32)
    mosaic = Case({"T1w": image}, None, np.eye(4), maps={"attribution": np.ones(image.shape, np.uint16)})
    add_case(slicer.mrmlScene, Case({"T1w": image}, None, np.eye(4)), "plain")
    nodes = add_case(slicer.mrmlScene, mosaic, "mosaic")
    panel.resultsSection.listCases()
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    for names, able in (((), False), (("plain",), False), (("plain", "mosaic"), False), (("mosaic",), True)):
        select(panel, *names)
        assert panel.ui.donorsButton.enabled == able
    panel.ui.showButton.click()
    assert composite.GetLabelVolumeID() is None
    panel.ui.donorsButton.click()
    assert composite.GetLabelVolumeID() == nodes.maps["attribution"].GetID()
    panel.ui.showButton.click()
    assert composite.GetLabelVolumeID() is None


def test_closing_the_scene_in_the_middle_leaves_an_empty_scene(host, panel):
    choose(panel, wmh=0.4)
    panel.ui.generateButton.click()
    under_way(host, panel)
    slicer.mrmlScene.Clear(0)
    finish(host, panel)
    assert cases.case_names(slicer.mrmlScene) == []
    assert panel.ui.stateLabel.text == "Cancelled: the scene was closed."
    assert panel.ui.generateButton.text == "Generate"
    # The new scene has choices of its own.
    assert dict(panel._parameterNode.pathologies) == {}
    assert row(panel, "wmh").slider.value == 0


def test_leaving_the_panel_does_not_end_the_run(host, module, panel):
    choose(panel)
    panel.ui.generateButton.click()
    module.leave()
    finish(host, panel)
    assert panel.logic.caseNames() == ["sub-0001"]
    host.open(module)
    assert listed(panel) == ["sub-0001"]


def test_a_killed_worker_gives_a_sentence_and_the_next_click_works(host, panel):
    panel.ui.generateButton.click()
    under_way(host, panel)
    kill_python(panel.logic._runner._session._worker)
    finish(host, panel)
    assert "memory" in panel.ui.stateLabel.text
    assert "try again" in panel.ui.stateLabel.text
    assert generate(host, panel).volumes


def painted():
    """An image of a segment that has a voxel."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(4, 4, 4)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    image.GetPointData().GetScalars().Fill(0)
    image.SetScalarComponentFromDouble(1, 1, 1, 0, 1)
    return image


def test_a_segmentation_that_cannot_be_rendered_is_named(host, panel):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    segment = slicer.vtkSegment()
    segment.SetName("Segment_1")
    segment.AddRepresentation("Binary labelmap", painted())
    node.GetSegmentation().AddSegment(segment)
    panel.ui.segmentationSelector.setCurrentNode(node)
    panel.ui.renderButton.click()
    assert "Segment_1" in panel.ui.stateLabel.text
    assert not panel.logic.running


def test_choices_are_saved_with_the_scene(host, panel):
    choose(panel, contrasts=("FLAIR",), wmh=0.25)
    node = panel._parameterNode.parameterNode
    saved = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    choose(panel, contrasts=("T1w",), wmh=0.75)
    for name, value in saved.items():
        node.SetParameter(name, value)
    assert row(panel, "wmh").slider.value == pytest.approx(0.25)
    assert panel.controls.contrastBoxes["FLAIR"].checked
    assert not panel.controls.contrastBoxes["T1w"].checked


def test_a_script_gets_nodes(host, panel):
    request = Generate(pathologies={"wmh": 0.2}, contrasts=["FLAIR"], seed=3)
    [first, second] = panel.logic.generate(request, count=2, waitForCompletion=True)
    assert second.segmentation.GetAttribute("BrainGen.seed") == "4"
    [rendered] = panel.logic.render(first.segmentation, ["T1w"], waitForCompletion=True)
    assert list(rendered.volumes) == ["T1w"]
    with pytest.raises(RuntimeError, match="does not know contrast"):
        panel.logic.render(first.segmentation, ["CT"], waitForCompletion=True)


def test_the_self_test_of_the_module_passes(host, module, panel):
    """With a logic of its own, as a person has who never opens the panel."""
    module.python.BrainGenTest().runTest()
    assert panel.logic.caseNames() == ["sub-0001", "render-0001", "segmentation-0001"]


def test_a_picture_of_the_panel(host, panel, tmp_path):
    choose(panel, contrasts=("T1w", "FLAIR"), wmh=0.3)
    host.screenshot(panel, tmp_path / "panel.png")
    assert (tmp_path / "panel.png").stat().st_size > 20_000
