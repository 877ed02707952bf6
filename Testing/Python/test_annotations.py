"""The words in the picture of a view: whatever changes its layers, they say what is in it."""

import numpy as np
import pytest
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from BrainGenLib.case import Case
from BrainGenLib.scene import changes
from BrainGenLib.scene.annotations import Annotation, Shown, shown_in
from BrainGenLib.scene.bootstrap import headless
from BrainGenLib.scene.case_to_scene import add_case
from BrainGenLib.scene.screenshot import render_window
from BrainGenLib.scene.showing import clear, compare, show
from BrainGenLib.scene.volumes import add_volume

SHAPE, AFFINE = (24, 28, 20), np.diag([2.0, 2.0, 2.0, 1.0])


def case_of(synthetic=True, images=("T1w", "FLAIR"), labels=True):
    classes = np.full(SHAPE, 2, np.uint16)
    classes[8:12, 8:12, 8:12] = 77
    volumes = {name: classes.astype(np.float32) / 77 for name in images}
    return Case(volumes, classes if labels else None, AFFINE, synthetic=synthetic)


@pytest.fixture
def stage():
    return headless()


@pytest.fixture
def slices(stage):
    """Nodes of the slice views of two rows, by name."""
    stage.layout = slicer.vtkMRMLLayoutLogic()
    stage.layout.SetMRMLScene(stage.scene)
    node = stage.layout.GetLayoutNode()
    node.SetViewArrangement(node.SlicerLayoutThreeOverThreeView)
    stage.logics = []
    found = {}
    for name in ("Red", "Green", "Yellow", "Red+", "Green+", "Yellow+"):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLScene(stage.scene)
        logic.SetSliceNode(stage.scene.GetSingletonNode(name, "vtkMRMLSliceNode"))
        stage.logics.append(logic)
        found[name] = logic.GetSliceNode()
    return found


@pytest.fixture
def threed(stage, slices):
    stage.layout.GetLayoutNode().SetViewArrangement(stage.layout.GetLayoutNode().SlicerLayoutFourUpView)
    return stage.scene.GetSingletonNode("1", "vtkMRMLViewNode")


def composite_of(stage, view):
    return next(one.GetSliceCompositeNode() for one in stage.logics if one.GetSliceNode() is view)


def test_a_view_says_the_name_of_its_volume_and_whether_it_is_synthetic(stage, slices, threed):
    made = add_case(stage.scene, case_of(), "generate-01")
    scan = add_volume(stage.scene, np.ones(SHAPE, np.float32), AFFINE, "patient26_T2")
    show(stage.scene, made)
    assert shown_in(slices["Red"]) == Shown("generate-01 T1w", True)
    assert shown_in(threed) == Shown("generate-01 labels", True)
    show(stage.scene, made, contrast="FLAIR")
    assert shown_in(slices["Red"]) == Shown("generate-01 FLAIR", True)
    # As the controls of the application do.
    composite_of(stage, slices["Red"]).SetBackgroundVolumeID(scan.GetID())
    made.segmentation.GetDisplayNode().SetVisibility(False)
    assert shown_in(slices["Red"]) == Shown("patient26_T2", False)
    assert shown_in(slices["Green"]) == Shown("generate-01 FLAIR", True)
    assert shown_in(threed) == Shown("", False)
    slices["Green"].SetSliceVisible(True)
    assert shown_in(threed) == Shown("generate-01 FLAIR", True)


def test_foreign_outlines_over_a_scan_are_named_and_mark_it(stage, slices):
    made = add_case(stage.scene, case_of(), "generate-01")
    scan = add_volume(stage.scene, np.ones(SHAPE, np.float32), AFFINE, "patient26_T2")
    show(stage.scene, made)
    composite_of(stage, slices["Red"]).SetBackgroundVolumeID(scan.GetID())
    assert shown_in(slices["Red"]) == Shown("patient26_T2 + generate-01 labels", True)
    composite_of(stage, slices["Red"]).SetForegroundVolumeID(made.volumes["T1w"].GetID())
    made.segmentation.GetDisplayNode().SetVisibility(False)
    composite_of(stage, slices["Red"]).SetForegroundOpacity(0)
    assert shown_in(slices["Red"]) == Shown("patient26_T2", False)
    composite_of(stage, slices["Red"]).SetForegroundOpacity(0.3)
    assert shown_in(slices["Red"]) == Shown("patient26_T2 + generate-01 T1w", True)


def test_labels_lie_over_their_own_image_or_stand_alone(stage, slices):
    """Not over that of another person, which was shown before."""
    made = add_case(stage.scene, case_of(), "generate-01")
    scan = add_volume(stage.scene, np.ones(SHAPE, np.float32), AFFINE, "patient26_T2")
    found = add_case(stage.scene, case_of(synthetic=False, images=()), "segment-01")
    foreign = add_case(stage.scene, case_of(synthetic=False, images=()), "lesions")
    users = stage.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "of the user")
    users.CreateDefaultDisplayNodes()
    changes.remember(found, scan)
    show(stage.scene, made)
    assert not users.GetDisplayNode().GetVisibility()
    show(stage.scene, found)
    assert shown_in(slices["Red"]) == Shown("patient26_T2 + segment-01 labels", False)
    assert not found.segmentation.GetDisplayNode().GetVisibility2DFill()
    show(stage.scene, foreign)
    assert shown_in(slices["Red"]) == Shown("lesions labels", False)
    assert composite_of(stage, slices["Red"]).GetBackgroundVolumeID() is None
    assert foreign.segmentation.GetDisplayNode().GetVisibility2DFill()
    stage.scene.RemoveNode(scan)
    show(stage.scene, found)
    assert shown_in(slices["Red"]) == Shown("segment-01 labels", False)
    preview = add_case(stage.scene, case_of(images=()), "preview")
    show(stage.scene, made)
    show(stage.scene, preview)
    assert shown_in(slices["Red"]) == Shown("preview labels", True)
    clear(stage.scene)
    assert shown_in(slices["Red"]) == Shown("", False)


def test_views_that_a_comparison_linked_are_free_again_when_a_case_is_shown_alone(stage, slices):
    first, second = (add_case(stage.scene, case_of(), name) for name in ("one", "two"))
    groups = {name: view.GetViewGroup() for name, view in slices.items()}
    compare(stage.scene, first, second)
    assert shown_in(slices["Red"]) == Shown("one T1w", True)
    assert shown_in(slices["Red+"]) == Shown("two T1w", True)
    show(stage.scene, first)
    assert {name: view.GetViewGroup() for name, view in slices.items()} == groups
    assert not any(composite_of(stage, view).GetLinkedControl() for view in slices.values())


def red(window):
    """Pixels of the mark in what a window shows."""
    import vtk

    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).astype(int)
    return np.count_nonzero(pixels[:, 0] - pixels[:, 1] > 80)


def test_the_words_are_in_the_picture_and_change_with_it(stage, slices):
    import vtk

    window = render_window()
    window.SetSize(300, 300)
    window.AddRenderer(vtk.vtkRenderer())
    annotation = Annotation(slices["Red"], window)
    assert red(window) == 0
    assert annotation.text == ""
    made = add_case(stage.scene, case_of(), "generate-01")
    show(stage.scene, made)
    assert red(window) > 50
    assert annotation.text == "generate-01 T1w SYNTHETIC"
    made.volumes["T1w"].SetName("renamed SYNTHETIC")
    assert red(window) > 50
    assert annotation.text == "renamed SYNTHETIC"
    scan = add_volume(stage.scene, np.ones(SHAPE, np.float32), AFFINE, "patient26_T2")
    made.segmentation.GetDisplayNode().SetVisibility(False)
    composite_of(stage, slices["Red"]).SetBackgroundVolumeID(scan.GetID())
    assert red(window) == 0
    assert annotation.text == "patient26_T2"


def test_labels_of_a_synthetic_image_and_what_a_file_names_so_are_synthetic(stage, slices, threed):
    made = add_case(stage.scene, case_of(), "generate-01")
    found = add_case(stage.scene, case_of(synthetic=False, images=()), "segment-01")
    changes.remember(found, made.volumes["T1w"])
    show(stage.scene, found)
    assert shown_in(threed) == Shown("segment-01 labels", True)
    again = add_volume(stage.scene, np.ones(SHAPE, np.float32), AFFINE, "generate-01 T1w SYNTHETIC_1")
    clear(stage.scene)
    composite_of(stage, slices["Red"]).SetBackgroundVolumeID(again.GetID())
    assert shown_in(slices["Red"]) == Shown("generate-01 T1w SYNTHETIC_1", True)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a$x$b $y$", "a$x$b $y$"),
        ("患者 T1 Müller", "?? T1 Müller"),
        ("Łódź-1 <b>{{7*7}}</b>", "Łódź-1 <b>{{7*7}}</b>"),
    ],
)
def test_names_are_written_as_they_are(stage, slices, name, written):
    volume = add_volume(stage.scene, np.ones(SHAPE, np.float32), AFFINE, name)
    composite_of(stage, slices["Red"]).SetBackgroundVolumeID(volume.GetID())
    window = render_window()
    window.SetSize(300, 200)
    annotation = Annotation(slices["Red"], window)
    window.Render()
    assert annotation.text == written


def test_a_name_that_is_too_wide_for_a_picture_keeps_both_ends(stage, slices):
    name = f"sub-01_{30 * 'long_'}T1w"
    volume = add_volume(stage.scene, np.ones(SHAPE, np.float32), AFFINE, name)
    composite_of(stage, slices["Red"]).SetBackgroundVolumeID(volume.GetID())
    window = render_window()
    window.SetSize(300, 200)
    annotation = Annotation(slices["Red"], window)
    window.Render()
    assert annotation.text.startswith("sub-01_long")
    assert annotation.text.endswith("_T1w")
    assert "..." in annotation.text
    assert 15 < len(annotation.text) < 50
