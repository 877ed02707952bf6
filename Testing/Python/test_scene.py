"""A case in an MRML scene on slicer-core, its file, its picture, and the way back."""

import json
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk

from BrainGenLib import anatomy
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.scene.bootstrap import headless
from BrainGenLib.scene.case_to_scene import add_case
from BrainGenLib.scene.export import save_scene
from BrainGenLib.scene.segmentation import label_map_of
from BrainGenLib.scene.volumes import affine_of

SHAPE = (40, 48, 44)
PRESENT = {"left hippocampus", "right hippocampus", "brainstem", "white matter hyperintensity", "stroke lesion"}


def oblique_affine():
    """A scan's own grid: stored from right to left, tilted, with voxels that are no cubes."""
    angle = np.deg2rad(12)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag([-1.0, -1.2, 1.5])
    affine[:3, 3] = (20.0, 30.0, -25.0)
    return affine


@pytest.fixture(scope="module")
def case():
    value = {label.name: label.value for label in anatomy.labels()}
    labels = np.zeros(SHAPE, np.uint16)
    labels[5:12, 10:25, 10:20] = value["right hippocampus"]  # the first axis runs from right to left
    labels[28:35, 10:25, 10:20] = value["left hippocampus"]
    labels[16:24, 8:20, 4:24] = value["brainstem"]
    labels[6:10, 12:16, 12:16] = value["white matter hyperintensity"]
    labels[26:34, 28:40, 24:36] = value["stroke lesion"]
    rng = np.random.default_rng(0)
    images = {name: (rng.random(SHAPE, np.float32) * (labels > 0)) for name in ("T1w", "FLAIR")}
    volumes = {name: float((labels == value[name]).sum()) / 1000 for name in PRESENT}
    provenance = {
        "request": {"verb": "generate", "seed": 7, "bundle": "brainspade3d", "contrasts": ["T1w", "FLAIR"]},
        "bundles": {"brainspade3d": {"version": "1", "sha256": "c0ffee"}},
        "software": {"braingen": "0.1.0"},
        "time": "2026-01-01T00:00:00+00:00",
    }
    return Case(images, labels, oblique_affine(), {"volumes_ml": volumes}, provenance)


@pytest.fixture
def stage():
    return headless()


@pytest.fixture
def nodes(stage, case):
    return add_case(stage.scene, case, "sub-0001")


def segments(node):
    segmentation = node.GetSegmentation()
    return {
        segmentation.GetNthSegment(index).GetName(): segmentation.GetNthSegment(index)
        for index in range(segmentation.GetNumberOfSegments())
    }


def check_against(case, volumes, segmentation):
    for contrast, volume in volumes.items():
        assert np.array_equal(slicer.util.arrayFromVolume(volume).T, case.images[contrast])
        assert np.allclose(affine_of(volume), case.affine, atol=1e-4)
    by_name = {label.name: label for label in anatomy.labels()}
    assert set(segments(segmentation)) == PRESENT
    for name, segment in segments(segmentation).items():
        assert np.allclose(np.array(segment.GetColor()) * 255, by_name[name].color, atol=0.6)
        assert by_name[name].code.value in segment.GetTerminology()
    values, affine = label_map_of(segmentation, volumes["T1w"])
    assert values.dtype == np.uint16
    assert np.array_equal(values, case.labels)
    assert np.allclose(affine, case.affine, atol=1e-4)


def test_the_scene_holds_the_case(case, nodes):
    check_against(case, nodes.volumes, nodes.segmentation)


def test_nodes_say_what_they_are_and_how_they_were_made(nodes):
    assert nodes.volumes["FLAIR"].GetName() == "sub-0001 FLAIR SYNTHETIC"
    assert nodes.segmentation.GetName() == "sub-0001 segmentation SYNTHETIC"
    for node in (*nodes.volumes.values(), nodes.segmentation, nodes.provenance, nodes.measurements):
        assert node.GetAttribute("BrainGen.synthetic") == "SYNTHETIC"
        assert node.GetAttribute("BrainGen.seed") == "7"
        assert node.GetAttribute("BrainGen.bundle") == "brainspade3d"
        assert node.GetAttribute("BrainGen.sha256.brainspade3d") == "c0ffee"


def test_what_is_not_made_up_is_not_called_synthetic(stage, case):
    real = add_case(stage.scene, Case(case.images, None, case.affine, synthetic=False), "scan")
    assert real.volumes["T1w"].GetName() == "scan T1w"
    assert real.volumes["T1w"].GetAttribute("BrainGen.synthetic") is None
    assert real.segmentation is None
    assert real.measurements is None


def test_the_request_can_be_read_from_the_scene(case, nodes):
    assert json.loads(nodes.provenance.GetText()) == case.provenance


def test_volumes_of_structures_stand_in_a_table(case, nodes):
    table = nodes.measurements.GetTable()
    rows = {table.GetValue(row, 0).ToString(): table.GetValue(row, 1).ToDouble() for row in range(5)}
    assert rows == case.measurements["volumes_ml"]


def test_the_grey_window_spans_the_tissue(nodes):
    display = nodes.volumes["T1w"].GetDisplayNode()
    assert not display.GetAutoWindowLevel()
    assert display.GetWindowLevelMin() == 0
    assert 0.9 < display.GetWindowLevelMax() < 1


def test_slices_show_outlines_over_the_image(nodes):
    display = nodes.segmentation.GetDisplayNode()
    assert display.GetVisibility2DOutline()
    assert not display.GetVisibility2DFill()


def test_editing_follows_the_grid_of_the_image(case, nodes):
    geometry = nodes.segmentation.GetSegmentation().GetConversionParameter("Reference image geometry")
    extent = [int(number) for number in geometry.split(";")[16:22]]
    assert extent == [0, SHAPE[0] - 1, 0, SHAPE[1] - 1, 0, SHAPE[2] - 1]


def test_everything_lies_in_one_folder(stage, nodes):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(stage.scene)
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(nodes.folder, children)
    owners = [hierarchy.GetItemOwnerPluginName(children.GetId(index)) for index in range(children.GetNumberOfIds())]
    assert hierarchy.GetItemName(nodes.folder) == "sub-0001"
    assert sorted(owners) == ["Segmentations", "Tables", "Texts", "Volumes", "Volumes"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_left_handed_grid_keeps_every_voxel_in_its_place(stage, case, axis):
    """Slicer's reader turns such grids round, and would part an image from its scene."""
    affine = case.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
    affine[:3, axis] *= -1
    volumes = {name: np.flip(volume, axis) for name, volume in case.images.items()}
    nodes = add_case(stage.scene, Case(volumes, np.flip(case.labels, axis), affine), "sub-0001")
    values, stored = label_map_of(nodes.segmentation, nodes.volumes["T1w"])
    assert np.linalg.det(stored) > 0
    to_original = np.linalg.inv(stored) @ case.affine
    voxels = np.indices(SHAPE).reshape(3, -1)
    there = np.rint(to_original[:3, :3] @ voxels + to_original[:3, 3:]).astype(int)
    assert np.array_equal(values[tuple(there)], case.labels.ravel())
    image = slicer.util.arrayFromVolume(nodes.volumes["T1w"]).T
    assert np.array_equal(image[tuple(there)], case.images["T1w"].ravel())


def test_edits_come_back(stage, case, nodes):
    """A new segment, named in Segment Editor, is painted over the brainstem; lesions lie over anatomy."""
    reference = nodes.volumes["T1w"]
    painted = np.zeros(SHAPE, np.uint8)
    painted[18:22, 10:14, 10:14] = 1
    paint = stage.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Oedema")
    slicer.util.updateVolumeFromArray(paint, painted.T.copy())
    paint.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine_of(reference)))
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(paint, nodes.segmentation)
    nodes.segmentation.GetSegmentation().GetNthSegment(len(PRESENT)).SetName("Oedema")
    values, _ = label_map_of(nodes.segmentation, reference)
    expected = case.labels.copy()
    expected[painted > 0] = anatomy.lesions()["oedema"].value
    assert np.array_equal(values, expected)


def test_a_volume_that_was_moved_finds_the_labels_below_it(stage, case, nodes):
    shift = np.eye(4)
    shift[:3, 3] = case.affine[:3, 0]
    transform = stage.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    reference = nodes.volumes["T1w"]
    reference.SetAndObserveTransformNodeID(transform.GetID())
    values, affine = label_map_of(nodes.segmentation, reference)
    assert np.array_equal(values[:-1], case.labels[1:])
    assert np.allclose(affine, shift @ case.affine, atol=1e-4)
    nodes.segmentation.SetAndObserveTransformNodeID(transform.GetID())
    assert np.array_equal(label_map_of(nodes.segmentation, reference)[0], case.labels)


def test_a_warped_volume_is_refused(stage, nodes):
    points, moved = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        points.InsertNextPoint(corner)
        moved.InsertNextPoint(np.square(np.array(corner) + 0.1))
    warp = vtk.vtkThinPlateSplineTransform()
    warp.SetSourceLandmarks(points)
    warp.SetTargetLandmarks(moved)
    warp.SetBasisToR()
    transform = stage.scene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(warp)
    nodes.volumes["T1w"].SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(BadInput, match="not linear; harden it"):
        label_map_of(nodes.segmentation, nodes.volumes["T1w"])


def test_a_segment_that_nobody_knows_is_named_and_so_are_the_names_it_may_have(nodes):
    segment = nodes.segmentation.GetSegmentation().GetNthSegment(0)
    segment.SetName("Segment_1")
    segment.SetTag(segment.GetTerminologyEntryTagName(), "")
    with pytest.raises(BadInput, match=r"Segment_1.*list BrainGen.*stroke lesion.*left/right thalamus") as refused:
        label_map_of(nodes.segmentation, nodes.volumes["T1w"])
    assert "braingen " not in str(refused.value)


def test_a_segment_without_voxels_is_nothing(nodes):
    before, _ = label_map_of(nodes.segmentation, nodes.volumes["T1w"])
    nodes.segmentation.GetSegmentation().AddEmptySegment("", "Segment_1")
    after, _ = label_map_of(nodes.segmentation, nodes.volumes["T1w"])
    assert np.array_equal(before, after)


def test_a_sheared_grid_is_refused(stage, case):
    sheared = case.affine.copy()
    sheared[0, 1] += 0.2
    with pytest.raises(BadInput, match="right angles"):
        add_case(stage.scene, Case(case.images, case.labels, sheared), "sub-0001")


def test_an_unknown_label_value_is_refused(stage, case):
    with pytest.raises(BadInput, match="9999"):
        add_case(stage.scene, Case(case.images, np.full(SHAPE, 9999, np.uint16), case.affine), "sub-0001")


@pytest.fixture(scope="module")
def saved(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DISPLAY", raising=False)
        save_scene(case, folder / "case.mrb", folder / "case.png", "sub-0001")
    return folder


@pytest.fixture
def reopened(stage, saved, tmp_path):
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLApplicationLogic(stage.application)
    remote.SetMRMLScene(stage.scene)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(tmp_path))
    manager = slicer.vtkDataIOManagerLogic()
    manager.SetMRMLApplicationLogic(stage.application)
    manager.SetMRMLScene(stage.scene)
    manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    assert stage.scene.ReadFromMRB(str(saved / "case.mrb"), True)
    return stage.scene


def test_the_scene_file_gives_the_case_back(case, reopened):
    volumes = {
        name: reopened.GetFirstNode(f"sub-0001 {name} SYNTHETIC", "vtkMRMLScalarVolumeNode") for name in case.images
    }
    check_against(case, volumes, reopened.GetFirstNodeByClass("vtkMRMLSegmentationNode"))
    text = reopened.GetFirstNode("sub-0001 request", "vtkMRMLTextNode").GetText()
    assert json.loads(text) == case.provenance


def test_the_scene_file_opens_with_the_image_behind_the_outlines(reopened):
    image = reopened.GetFirstNode("sub-0001 T1w SYNTHETIC", "vtkMRMLScalarVolumeNode")
    for name in ("Red", "Green", "Yellow"):
        composite = reopened.GetSingletonNode(name, "vtkMRMLSliceCompositeNode")
        assert composite.GetBackgroundVolumeID() == image.GetID()
    layout = reopened.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView
    segmentation = reopened.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    assert segments(segmentation)["brainstem"].GetRepresentation("Closed surface").GetNumberOfPoints() > 0


def test_slices_of_the_scene_file_cut_the_lesion(case, reopened):
    offset = reopened.GetSingletonNode("Red", "vtkMRMLSliceNode").GetSliceOffset()
    lesion = np.argwhere(case.labels == anatomy.lesions()["stroke"].value)
    heights = (lesion @ case.affine[:3, :3].T + case.affine[:3, 3])[:, 2]
    assert heights.min() < offset < heights.max()


def test_the_screenshot_shows_image_outlines_and_surfaces(case, saved):
    reader = vtk.vtkPNGReader()
    reader.SetFileName(str(saved / "case.png"))
    reader.Update()
    width, height, _ = reader.GetOutput().GetDimensions()
    scalars = reader.GetOutput().GetPointData().GetScalars()
    picture = vtk.util.numpy_support.vtk_to_numpy(scalars).reshape(height, width, 3)[::-1].astype(int)
    axial = picture[: height // 2, : width // 2]
    threed = picture[: height // 2, width // 2 :]
    grey = np.ptp(axial, axis=2) == 0
    assert (axial[grey].max(1) > 60).sum() > 1000, "the image is not in the axial view"
    for view in (axial, threed):
        stroke = np.array(anatomy.lesions()["stroke"].color) / 255
        coloured = view[np.ptp(view, axis=2) > 60]
        direction = coloured / np.linalg.norm(coloured, axis=1, keepdims=True)
        assert (direction @ (stroke / np.linalg.norm(stroke)) > 0.99).sum() > 50, "the lesion is not in view"


@pytest.mark.parametrize(("out", "screenshot"), [("case.mrml", None), (None, "case.jpg"), ("file/case.mrb", None)])
def test_files_that_cannot_be_written_are_named_and_leave_nothing(case, tmp_path, out, screenshot):
    (tmp_path / "file").write_text("not a folder")
    paths = [tmp_path / name if name else None for name in (out, screenshot)]
    with pytest.raises(BadInput, match="case"):
        save_scene(case, *paths)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_scan_without_labels_can_be_shown(case, tmp_path):
    save_scene(Case(case.images, None, case.affine, synthetic=False), None, tmp_path / "scan.png", "scan")
    assert (tmp_path / "scan.png").stat().st_size > 10_000


def test_labels_without_an_image_can_be_shown(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_scene(Case({}, case.labels, case.affine), Path("labels.mrb"), Path("labels.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.mrb", "labels.png"]


def test_an_empty_case_is_refused(tmp_path):
    with pytest.raises(BadInput, match="nothing to show"):
        save_scene(Case({}, None, np.eye(4)), tmp_path / "case.mrb", None)


def test_an_input_is_written_under_the_users_name_for_it(tmp_path):
    from BrainGenLib.scene.inputs import path_for

    class Node:
        def GetName(self):  # noqa: N802
            return "Müller/T2 (1): a*b"

    assert path_for(Node(), tmp_path, "volume") == tmp_path / "volume" / "Müller_T2 _1__ a_b.nii"
