"""Segmentations in the panel: masks, painted segments, copies, lesions that were found. No model runs here."""

import numpy as np
import pytest
import slicer
import vtk
from panels import add_scan
from quick_worker import cube

from BrainGenLib import anatomy, spaces
from BrainGenLib.case import Case
from BrainGenLib.scene import changes
from BrainGenLib.scene.case_to_scene import add_case
from BrainGenLib.scene.segmentation import label_map_of, say_what


@pytest.fixture
def panel(idle_panel):
    return idle_panel


def mask(name="patient26_lesions"):
    """A segmentation as Slicer makes one of a 0/1 file."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(4, 4, 4)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    image.GetPointData().GetScalars().Fill(1)
    converter = slicer.vtkSegmentationConverter
    node.GetSegmentation().SetConversionParameter(
        converter.GetReferenceImageGeometryParameterName(), converter.SerializeImageGeometry(image)
    )
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.AddRepresentation("Binary labelmap", image)
    node.GetSegmentation().AddSegment(segment)
    return node


@pytest.mark.parametrize("section", ["change", "render"])
def test_a_mask_is_asked_which_lesion_it_shows(panel, section):
    ui, node = panel.ui, mask()
    selector, question = (
        (ui.lesionsSelector, ui.lesionNameSelector)
        if section == "change"
        else (ui.segmentationSelector, ui.renderLesionSelector)
    )
    label = ui.lesionNameLabel if section == "change" else ui.renderLesionLabel
    ui.changeSection.collapsed = False
    ui.renderSection.collapsed = False
    selector.setCurrentNode(node)
    assert question.isVisible()
    assert label.text == "patient26_lesions is:"
    question.setCurrentIndex(question.findData("ms"))
    question.activated(question.currentIndex)
    assert not question.isVisible()
    labels, _affine = label_map_of(node)
    assert set(np.unique(labels)) == {anatomy.lesions()["ms"].value}
    assert node.GetSegmentation().GetNthSegment(0).GetName() == "patient26_lesions"


def test_what_is_painted_elsewhere_is_asked_for_at_the_next_visit(host, idle_module, panel):
    nodes = add_case(slicer.mrmlScene, cube(1), "mine")
    panel.ui.renderSection.collapsed = False
    panel.ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    assert not panel.ui.renderLesionSelector.isVisible()
    idle_module.leave()
    nodes.segmentation.GetSegmentation().AddEmptySegment("", "Segment_1")
    host.open(idle_module)
    assert not panel.ui.renderLesionSelector.isVisible()
    idle_module.leave()
    painted = mask().GetSegmentation().GetNthSegment(0)
    nodes.segmentation.GetSegmentation().AddSegment(painted)
    host.open(idle_module)
    assert panel.ui.renderLesionSelector.isVisible()


def test_a_case_is_edited_in_a_copy(panel):
    nodes = add_case(slicer.mrmlScene, cube(1), "sub-0001")
    before, _affine = label_map_of(nodes.segmentation)
    assert not panel.ui.copyButton.enabled
    panel.ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    panel.ui.copyButton.click()
    copy = panel._parameterNode.segmentation
    assert copy is not nodes.segmentation
    assert panel.ui.segmentationSelector.currentNode() is copy
    assert "can be changed in Segment Editor" in panel.ui.stateLabel.text
    # A copy of a copy would say nothing new.
    assert not panel.ui.copyButton.enabled
    copy.GetSegmentation().RemoveSegment(copy.GetSegmentation().GetNthSegmentID(0))
    assert np.array_equal(label_map_of(nodes.segmentation)[0], before)
    background = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode().GetBackgroundVolumeID()
    assert background == nodes.volumes["T1w"].GetID()


def test_what_is_known_of_lesions_stands_there_before_they_are_changed(panel, phantom_classes):
    ui, section = panel.ui, panel.counterfactualSection
    ui.changeSection.collapsed = False
    scan = add_scan(phantom_classes)
    ui.changeScanSelector.setCurrentNode(scan)
    age, wmh = (next(row for row in section.wanted if row.condition.name == name) for name in ("age", "wmh"))
    # What is no lesion needs no segmentation.
    age.given.setChecked(True)
    assert ui.changeButton.enabled
    wmh.given.setChecked(True)
    wmh.slider.setValue(0)
    assert not ui.changeButton.enabled
    assert ui.lesionsFoundLabel.text == "Find its lesions first, or choose a segmentation of them."
    asked = []
    panel.logic.segment, before = asked.append, panel.logic.segment
    ui.findLesionsButton.click()
    panel.logic.segment = before
    assert asked == [scan]
    # Left to the diffusion it does not matter where they are.
    ui.lesionsLeftCheckBox.setChecked(True)
    assert ui.changeButton.enabled
    ui.lesionsLeftCheckBox.setChecked(False)

    labels = np.zeros(phantom_classes.shape, np.uint16)
    labels[30:34, 30:34, 30:34] = anatomy.lesions()["ms"].value
    request = {"request": {"verb": "segment"}}
    found = add_case(
        slicer.mrmlScene, Case({}, labels, spaces.GRID_2MM.affine, provenance=request), "segmentation-0001"
    )
    changes.remember(found, scan)
    panel.updateSections()
    text = ui.lesionsFoundLabel.text
    assert text.startswith("The segmenter finds 0.51 mL multiple sclerosis lesion.")
    assert "Nothing to take away: no white matter hyperintensity." in text
    assert "mean Dice" in text
    assert not ui.findLesionsButton.isVisible()
    assert ui.changeButton.enabled

    painted = mask()
    ui.lesionsSelector.setCurrentNode(painted)
    say_what(painted, painted.GetSegmentation().GetNthSegmentID(0), anatomy.lesions()["wmh"])
    panel.updateSections()
    assert ui.lesionsFoundLabel.text == "The segmentation has 0.064 mL white matter hyperintensity."


def test_a_node_that_was_chosen_and_leaves_gives_way_to_no_other(panel, phantom_classes):
    """No request runs on another person's scan, or with the lesions of another."""
    ui, node = panel.ui, panel._parameterNode
    other, scan = add_scan(phantom_classes), add_scan(phantom_classes)
    selectors = (ui.scanSelector, ui.changeScanSelector, ui.styleSelector, ui.renderStyleSelector)
    assert [selector.currentNode() for selector in selectors] == [None] * 4
    assert ui.segmentButton.toolTip == "Choose a scan first."
    assert ui.scanSelector.findChild("QComboBox").itemText(0) == "choose a scan"
    for selector in selectors:
        selector.setCurrentNode(scan)
    spare, painted = mask(), mask()
    painted.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    for selector in (ui.segmentationSelector, ui.lesionsSelector):
        selector.setCurrentNode(painted)
    assert ui.segmentButton.enabled
    assert ui.segmentButton.toolTip == "Label the structures of this scan."
    slicer.mrmlScene.RemoveNode(scan)
    assert [selector.currentNode() for selector in selectors] == [None] * 4
    assert (node.scan, node.changeScan, node.styleVolume, node.lesions) == (None,) * 4
    assert not ui.segmentButton.enabled
    slicer.mrmlScene.RemoveNode(painted)
    assert ui.segmentationSelector.currentNode() is None
    assert (spare.GetScene(), other.GetScene()) == (slicer.mrmlScene,) * 2


def test_lesions_go_with_their_scan_and_stay_for_another_contrast_of_it(panel, phantom_classes):
    ui, node = panel.ui, panel._parameterNode
    image = np.ones((8, 8, 8), np.float32)
    labels = np.full((8, 8, 8), anatomy.lesions()["wmh"].value, np.uint16)
    case = Case({"T1w": image, "FLAIR": image}, labels, np.eye(4))
    mine = add_case(slicer.mrmlScene, case, "mine")
    ui.changeScanSelector.setCurrentNode(mine.volumes["T1w"])
    ui.lesionsSelector.setCurrentNode(mine.segmentation)
    ui.changeScanSelector.setCurrentNode(mine.volumes["FLAIR"])
    assert node.lesions is mine.segmentation
    ui.changeScanSelector.setCurrentNode(add_scan(phantom_classes))
    assert node.lesions is None
    # Nothing is known of what was painted without a source volume.
    unknown = mask()
    unknown.SetNodeReferenceID(unknown.GetReferenceImageGeometryReferenceRole(), None)
    ui.lesionsSelector.setCurrentNode(unknown)
    ui.changeScanSelector.setCurrentNode(mine.volumes["T1w"])
    assert node.lesions is unknown
