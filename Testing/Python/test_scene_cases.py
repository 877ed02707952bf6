"""The cases of a scene: listed, shown, compared, edited, taken out; and nodes as the files of a job."""

import json

import nibabel as nib
import numpy as np
import pytest
import slicer

from BrainGenLib import anatomy, provenance
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.export.bids import read_case
from BrainGenLib.export.write import write
from BrainGenLib.reading.scans import read_scan
from BrainGenLib.reading.segmentations import read_segmentation
from BrainGenLib.scene import cases, changes, columns, judgements
from BrainGenLib.scene.annotations import shown_in
from BrainGenLib.scene.bootstrap import headless
from BrainGenLib.scene.case_to_scene import add_case
from BrainGenLib.scene.editing import copy_to_edit, is_copy
from BrainGenLib.scene.erasing import erase_segment, restore_segment
from BrainGenLib.scene.inputs import write_segmentation, write_volume
from BrainGenLib.scene.showing import ROWS, compare, most_to_see, show

SHAPE = (24, 28, 20)


def case_with(value, at=8):
    labels = np.full(SHAPE, 2, np.uint16)
    labels[at : at + 4, at : at + 4, at : at + 4] = value
    image = labels.astype(np.float32) / labels.max()
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return Case({"T1w": image, "FLAIR": 1 - image}, labels, affine, provenance={"request": {"seed": 1}})


@pytest.fixture
def stage():
    return headless()


@pytest.fixture
def layout_logic(stage):
    """Makes the nodes of views, as long as it lives."""
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(stage.scene)
    return logic


@pytest.fixture
def views(stage, layout_logic):
    """Six slice views, as the application makes them for two rows of three."""
    layout = layout_logic.GetLayoutNode()
    layout.SetViewArrangement(layout.SlicerLayoutThreeOverThreeView)
    return slice_views(stage, ROWS)


def slice_views(stage, rows):
    """Logics for the nodes of slice views, by name."""
    logics = []
    for name in (name for row in rows for name in row):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLScene(stage.scene)
        logic.SetSliceNode(stage.scene.GetSingletonNode(name, "vtkMRMLSliceNode"))
        logic.GetSliceNode().SetDimensions(300, 200, 1)
        logics.append(logic)
    return {logic.GetSliceNode().GetLayoutName(): logic for logic in logics}


@pytest.fixture
def two(stage):
    return [add_case(stage.scene, case_with(anatomy.lesions()[name].value), name) for name in ("wmh", "stroke")]


def test_a_scene_lists_its_cases_and_gives_their_nodes(stage, two):
    assert cases.case_names(stage.scene) == ["wmh", "stroke"]
    found = cases.nodes_of(stage.scene, "stroke")
    assert found.volumes == two[1].volumes
    assert (found.segmentation, found.provenance, found.folder) == (
        two[1].segmentation,
        two[1].provenance,
        two[1].folder,
    )
    with pytest.raises(KeyError):
        cases.nodes_of(stage.scene, "nothing")


def test_a_case_leaves_with_its_folder_and_the_other_one_stays(stage, two):
    before = stage.scene.GetNumberOfNodes()
    cases.remove_case(stage.scene, "wmh")
    assert cases.case_names(stage.scene) == ["stroke"]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(stage.scene)
    assert hierarchy.GetItemName(two[0].folder) == ""
    assert hierarchy.GetItemName(two[1].folder) == "stroke"
    # Two images, their displays, the segmentation with its display, the request: nothing is left behind.
    assert stage.scene.GetNumberOfNodes() <= before - 7


def test_a_segmentation_is_emptied_before_the_application_takes_out_its_segments(stage):
    nodes = add_case(stage.scene, case_with(77), "wmh")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(stage.scene)
    segmentation, item = nodes.segmentation.GetSegmentation(), hierarchy.GetItemByDataNode(nodes.segmentation)
    held = []

    def plugin(_caller, _event):
        if not hierarchy.GetItemByDataNode(nodes.segmentation):
            segments = [segmentation.GetNthSegment(i) for i in range(segmentation.GetNumberOfSegments())]
            held.append([segment.GetRepresentation("Binary labelmap") for segment in segments])

    assert item
    hierarchy.AddObserver(hierarchy.SubjectHierarchyItemRemovedEvent, plugin)
    cases.remove_case(stage.scene, "wmh")
    assert held
    assert not any(held[0])


def erased(nodes):
    """The lesion taken out, as in Segment Editor."""
    segmentation = nodes.segmentation.GetSegmentation()
    return erase_segment(nodes.segmentation, segmentation.GetSegmentIdBySegmentName("white matter hyperintensity"))


def test_old_images_never_come_with_labels_that_were_edited(stage):
    case = case_with(anatomy.lesions()["wmh"].value)
    case.provenance["arrays"] = provenance.hashes(case)
    nodes = add_case(stage.scene, case, "wmh")
    assert np.array_equal(cases.case_of(stage.scene, "wmh").labels, case.labels)
    undo = erased(nodes)
    with pytest.raises(BadInput, match=r"labels of wmh were edited.*Render"):
        cases.case_of(stage.scene, "wmh")
    restore_segment(nodes.segmentation, undo)
    back = cases.case_of(stage.scene, "wmh")
    assert provenance.hashes(back) == case.provenance["arrays"]
    assert back.synthetic
    assert back.provenance == case.provenance


def test_a_copy_is_edited_and_the_case_stays_as_it_was(stage, views):
    case = case_with(anatomy.lesions()["wmh"].value)
    case.affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    case.provenance["arrays"] = provenance.hashes(case)
    nodes = add_case(stage.scene, case, "wmh")
    copy = copy_to_edit(stage.scene, nodes.segmentation)
    assert (is_copy(nodes.segmentation), is_copy(copy.segmentation)) == (False, True)
    assert cases.case_names(stage.scene) == ["wmh", "wmh edited"]
    erased(copy)
    assert provenance.hashes(cases.case_of(stage.scene, "wmh")) == case.provenance["arrays"]
    edited = cases.case_of(stage.scene, "wmh edited")
    assert set(np.unique(edited.labels)) == {2}
    assert np.allclose(edited.affine, case.affine)
    assert (edited.images, edited.synthetic, edited.provenance["edited"]) == ({}, True, ["labels"])
    show(stage.scene, copy)
    assert views["Red"].GetSliceCompositeNode().GetBackgroundVolumeID() == nodes.volumes["T1w"].GetID()
    assert copy_to_edit(stage.scene, nodes.segmentation).segmentation.GetAttribute("BrainGen.case") == "wmh edited-2"


def test_a_changed_scan_comes_back_with_how_it_was_judged(stage):
    """Which cannot be read from its voxels."""
    case, judged = case_with(2), {"reached": {"model": 0.4, "age": 0.8}, "similarity": {"ssim": 0.97}}
    judged["looks_years_old"] = {"before": 37.2, "after": 58.1}
    volumes = {"volumes_ml": {"brainstem": 20.0}, "volumes_before_ml": {"brainstem": 21.5}}
    case.measurements = {**judged, **volumes, "contrast": "T1w"}
    nodes = add_case(stage.scene, case, "older")
    assert cases.case_of(stage.scene, "older").measurements == judged
    said = judgements.said(cases.nodes_of(stage.scene, "older"))
    who = "the model itself and the age judge"
    assert said == f"identity 0.97, 60% of what was asked for as measured by {who}, looks 37, then 58 years old"
    case.measurements = judged | {"reached": {}, "remarks": ["Nothing was to be taken away: no stroke lesion."]}
    unreached = judgements.said(add_case(stage.scene, case, "as it was"))
    assert unreached.endswith("years old. Nothing was to be taken away: no stroke lesion")
    case.measurements = judged | {"reached": {"wmh": 0.5}}
    assert "50% of what was asked for as measured by the label map" in judgements.said(
        add_case(stage.scene, case, "by labels")
    )
    judged["looks_years_old"] = {"before": -3.0, "after": 141.0}
    case.measurements = judged
    said = judgements.said(add_case(stage.scene, case, "oldest"))
    assert said.endswith("looks under 10, then over 100 years old")
    table = nodes.measurements.GetTable()
    row = {table.GetColumnName(i): table.GetValue(0, i).ToString() for i in range(table.GetNumberOfColumns())}
    assert row == {"Structure": "brainstem", "Volume (mL)": "20", "Before (mL)": "21.5", "Change (mL)": "-1.5"}
    plain = case_with(2)
    assert judgements.said(add_case(stage.scene, plain, "plain")) == ""
    plain.measurements = {"person": {"age": 70.0, "sex": 0.0, "percentiles": {"ventricles": 83.4, "brain": 9.6}}}
    said = judgements.said(add_case(stage.scene, plain, "of an age"))
    assert said == "70 years, female: ventricles at percentile 83, brain at percentile 10"
    assert cases.case_of(stage.scene, "of an age").measurements == plain.measurements


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        (-2.34, "midline shifted 2.3 mm to the left, tissue moved 3.5 mm at the lesion (4.0 mm asked for)"),
        (0.8, "midline shifted 0.8 mm to the right, tissue moved 3.5 mm at the lesion (4.0 mm asked for)"),
        (None, "tissue moved 3.5 mm at the lesion (4.0 mm asked for)"),
    ],
)
def test_what_a_lesion_displaces_is_said(stage, shift, said):
    case = case_with(2)
    case.measurements = {"mass_effect_mm": {"requested": 4.0, "obtained": 3.52, "midline_shift": shift}}
    assert judgements.said(add_case(stage.scene, case, "pushed")) == said
    assert cases.case_of(stage.scene, "pushed").measurements == case.measurements


@pytest.mark.parametrize("columns", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_case_of_any_orientation_comes_back_unedited(stage, columns, sign):
    case = case_with(anatomy.lesions()["wmh"].value)
    case.labels[3, 4, 5] = 0
    case.images["T1w"][1, 2, 3] = case.images["FLAIR"][1, 2, 3] = 0.25
    case.affine = np.diag([sign * 2.0, 2.0, 2.0, 1.0])[:, [*columns, 3]]
    case.provenance = {"request": {"seed": 1}, "arrays": provenance.hashes(case)}
    add_case(stage.scene, case, "turned")
    back = cases.case_of(stage.scene, "turned")
    assert provenance.hashes(back) == case.provenance["arrays"]
    assert np.allclose(back.affine, case.affine)
    back.images["T1w"][8, 8, 8] += 1
    assert provenance.hashes(back)["T1w"] != case.provenance["arrays"]["T1w"]


def test_an_image_alone_comes_back_and_can_be_exported(stage, tmp_path):
    case = case_with(2)
    del case.images["FLAIR"]
    case.provenance = {"request": {"verb": "generate", "bundle": "toy", "seed": 1, "contrasts": ["T1w"]}}
    add_case(stage.scene, Case(case.images, None, case.affine, provenance=case.provenance), "head")
    back = cases.case_of(stage.scene, "head")
    assert back.labels is None
    assert np.array_equal(back.images["T1w"], case.images["T1w"])
    back.save(tmp_path / "head")
    write(tmp_path / "out", [tmp_path / "head"])
    again = read_case(tmp_path / "out" / "sub-0001")
    assert again.labels is None
    assert np.allclose(again.images["T1w"], case.images["T1w"], atol=1e-4)


def test_a_segmentation_alone_comes_back_too(stage):
    case = case_with(anatomy.lesions()["wmh"].value)
    add_case(stage.scene, Case({}, case.labels, case.affine, synthetic=False), "scan")
    found = cases.case_of(stage.scene, "scan")
    assert np.array_equal(found.labels, case.labels)
    assert np.allclose(found.affine, case.affine)
    assert not found.synthetic


def test_one_case_is_shown_alone(stage, views, two):
    show(stage.scene, two[1], point=np.array([10.0, 12.0, 14.0]), contrast="FLAIR")
    for logic in views.values():
        assert logic.GetSliceCompositeNode().GetBackgroundVolumeID() == two[1].volumes["FLAIR"].GetID()
    assert [nodes.segmentation.GetDisplayNode().GetVisibility() for nodes in two] == [0, 1]
    cuts = {name: slicer.util.arrayFromVTKMatrix(views[name].GetSliceNode().GetSliceToRAS())[:3, 3] for name in views}
    assert np.allclose([cuts["Red"][2], cuts["Green"][1], cuts["Yellow"][0]], [14, 12, 10])
    # 48 × 56 mm lie within a view of 300 × 200 pixels, with square pixels.
    width, height, _ = views["Red"].GetSliceNode().GetFieldOfView()
    assert height == pytest.approx(56 * 1.15, rel=0.01)
    assert width / 300 == pytest.approx(height / 200)


def test_two_cases_stand_side_by_side_in_linked_views(stage, views, two):
    compare(stage.scene, *two, contrast="FLAIR")
    for nodes, row in zip(two, ROWS, strict=True):
        shown = {nodes.segmentation.GetDisplayNode().GetNthViewNodeID(index) for index in range(3)}
        assert shown == {views[name].GetSliceNode().GetID() for name in row}
        for name in row:
            composite = views[name].GetSliceCompositeNode()
            assert composite.GetBackgroundVolumeID() == nodes.volumes["FLAIR"].GetID()
            assert composite.GetLinkedControl()
    show(stage.scene, two[0])
    assert two[0].segmentation.GetDisplayNode().GetNumberOfViewNodeIDs() == 0


def moved(views, name):
    """Move a slice as a user does; where the others of its plane are then."""
    node = views[name].GetSliceNode()
    node.SetInteractionFlags(node.SliceToRASFlag)
    node.SetInteracting(True)
    node.SetSliceOffset(17.0)
    node.SetInteracting(False)
    return {other: logic.GetSliceNode().GetSliceOffset() for other, logic in views.items()}


def test_rows_follow_each_other_plane_by_plane(stage, views, two):
    compare(stage.scene, *two)
    found = moved(views, "Red")
    assert found["Red+"] == pytest.approx(17)
    assert found["Green"] == found["Green+"] != pytest.approx(17)


@pytest.fixture
def change(stage, two):
    """A case that is the first one's T1w with a cube made darker."""
    case = case_with(anatomy.lesions()["wmh"].value)
    difference = np.zeros(SHAPE, np.float32)
    difference[14:18, 20:24, 10:14] = -0.5
    case.images = {"T1w": case.images["T1w"] + difference}
    case.maps = {"difference": difference}
    return add_case(stage.scene, case, "changed")


def test_a_changed_scan_stands_beside_what_it_was(stage, layout_logic, two, change):
    layout, scan = layout_logic.GetLayoutNode(), two[0].volumes["T1w"]
    assert changes.before(change) is None
    scan.GetDisplayNode().SetWindowLevelMinMax(0.1, 0.7)
    changes.remember(change, scan)
    assert changes.before(cases.nodes_of(stage.scene, "changed")) is scan
    after = change.volumes["T1w"]
    assert after.GetDisplayNode().GetWindowLevelMax() == pytest.approx(0.7)

    changes.show_case(stage.scene, change)
    assert layout.GetViewArrangement() == changes.LAYOUT
    views = slice_views(stage, changes.COLUMNS)
    changes.show_case(stage.scene, change, point=np.array([31.0, 43.0, 23.0]))
    for column, shown in zip(changes.COLUMNS, (scan, after, scan), strict=True):
        for name in column:
            assert views[name].GetSliceCompositeNode().GetBackgroundVolumeID() == shown.GetID()
    added = [[views[name].GetSliceCompositeNode().GetForegroundVolumeID() for name in row] for row in changes.COLUMNS]
    assert added == [[None] * 3, [None] * 3, [change.maps["difference"].GetID()] * 3]
    display = change.segmentation.GetDisplayNode()
    assert [display.IsDisplayableInView(views[row[0]].GetSliceNode().GetID()) for row in changes.COLUMNS] == [0, 1, 0]
    orientations = [views[row[2]].GetSliceNode().GetOrientation() for row in changes.COLUMNS]
    assert orientations == ["Sagittal"] * 3
    found = moved(views, "Red++")
    assert found["Red"] == found["Red+"] == pytest.approx(17)
    assert found["Green"] == found["Green++"] == pytest.approx(43)

    changes.show_case(stage.scene, two[1])
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView
    assert views["Red"].GetSliceCompositeNode().GetForegroundVolumeID() is None
    # A scan that has left takes nothing along.
    stage.scene.RemoveNode(scan)
    assert changes.before(change) is None


@pytest.fixture
def mosaic():
    """A case with the donor of every voxel."""
    case = case_with(anatomy.lesions()["wmh"].value)
    whose = np.ones(SHAPE, np.uint16)
    whose[12:], whose[:, :4] = 2, 0
    case.maps = {"attribution": whose}
    case.measurements = {
        "attribution": {
            "shares": {"Anna": 0.6, "Ben": 0.4},
            "effective_donors": 1.92,
            "largest_region_ml": 51.8,
            "cortex_dice": {"nearest": 0.571, "donor": "Anna", "people_mean": 0.55, "people_largest": 0.562},
        },
        "remarks": ["Its cortex is nearer to Anna's than people's are to each other."],
    }
    return case


def test_whose_anatomy_a_case_has_is_shown_when_asked_for(stage, views, mosaic):
    nodes = add_case(stage.scene, mosaic, "mosaic")
    whose, composite = nodes.maps["attribution"], views["Red"].GetSliceCompositeNode()
    assert whose.IsA("vtkMRMLLabelMapVolumeNode")
    colours = whose.GetDisplayNode().GetColorNode()
    assert [colours.GetColorName(number) for number in range(3)] == ["nobody", "Anna", "Ben"]
    entries = np.zeros((3, 4))
    for number in range(3):
        colours.GetColor(number, entries[number])
    assert entries[0, 3] == 0
    assert not np.allclose(entries[1], entries[2])

    show(stage.scene, nodes)
    assert composite.GetLabelVolumeID() is None
    show(stage.scene, nodes, contrast="attribution")
    assert composite.GetLabelVolumeID() == whose.GetID()
    assert composite.GetBackgroundVolumeID() == nodes.volumes["T1w"].GetID()
    assert composite.GetForegroundVolumeID() is None
    assert shown_in(views["Red"].GetSliceNode()).name == "mosaic T1w + whose anatomy"
    show(stage.scene, nodes)
    assert composite.GetLabelVolumeID() is None


def test_the_map_of_donors_survives_scene_folder_and_dataset(stage, mosaic, tmp_path):
    mosaic.provenance = {"request": {"verb": "generate", "bundle": "toy", "seed": 1, "contrasts": ["T1w"]}}
    add_case(stage.scene, mosaic, "mosaic")
    add_case(stage.scene, mosaic, "twin")
    assert stage.scene.GetNodesByName("BrainGen donors").GetNumberOfItems() == 1
    back = cases.case_of(stage.scene, "mosaic")
    back.save(tmp_path / "mosaic")
    write(tmp_path / "out", [tmp_path / "mosaic"])
    subject = tmp_path / "out" / "sub-0001"
    for found in (back, Case.load(tmp_path / "mosaic"), read_case(subject)):
        assert found.maps["attribution"].dtype == np.uint16
        assert np.array_equal(found.maps["attribution"], mosaic.maps["attribution"])
        assert found.measurements["attribution"] == mosaic.measurements["attribution"]
    prefix = subject / "anat" / "sub-0001_desc-donors_dseg"
    assert (
        prefix.with_suffix(".tsv").read_text(encoding="utf-8")
        == "index\tname\tshare\n0\tnone\tn/a\n1\tAnna\t0.6\n2\tBen\t0.4\n"
    )
    sidecar = json.loads(prefix.with_suffix(".json").read_text(encoding="utf-8"))
    assert sidecar["SYNTHETIC"]
    assert list(sidecar["BrainGen"]["measurements"]["attribution"]["shares"]) == ["Anna", "Ben"]


def test_what_is_of_whom_is_said(stage, mosaic):
    assert judgements.said(add_case(stage.scene, mosaic, "mosaic")) == (
        "1.9 effective donors, largest region of one 52 mL, cortex Dice with the nearest 0.57 (between people at "
        "most 0.56). Its cortex is nearer to Anna's than people's are to each other"
    )


def test_slices_cross_where_most_was_changed():
    difference = np.zeros(SHAPE, np.float32)
    difference[14:18, 20:24, 10:14] = -0.5
    case = case_with(anatomy.lesions()["stroke"].value)
    case.maps = {"difference": difference}
    assert np.allclose(most_to_see(case), [32, 44, 24])


def test_slices_cross_where_most_lesion_is():
    case = case_with(anatomy.lesions()["stroke"].value, at=12)
    assert np.all(np.abs(most_to_see(case) / 2 - 13.5) <= 1.5)


def test_a_volume_becomes_a_file_where_the_scene_shows_it(stage, two, tmp_path):
    volume = two[0].volumes["T1w"]
    matrix = np.diag([1.0, 1.0, 1.0, 1.0])
    matrix[:3, 3] = (5, -3, 2)
    transform = stage.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    write_volume(volume, tmp_path / "scan.nii")
    scan = read_scan(tmp_path / "scan.nii")
    assert np.array_equal(scan.data, case_with(anatomy.lesions()["wmh"].value).images["T1w"])
    assert np.allclose(scan.affine, matrix @ np.diag([2.0, 2.0, 2.0, 1.0]))


def test_a_left_handed_scan_is_given_to_a_job_as_it_came(stage, tmp_path):
    """So that what the job makes of it lies on the grid of the user's file, axis by axis."""
    image = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    nodes = add_case(stage.scene, Case({"scan": image}, None, affine, synthetic=False), "las")
    write_volume(nodes.volumes["scan"], tmp_path / "scan.nii")
    written = nib.load(tmp_path / "scan.nii")
    assert np.array_equal(np.asarray(written.dataobj), image)
    assert np.allclose(written.affine, affine)
    labels = np.zeros(SHAPE, np.uint16)
    labels[2:5, 3:9, 4:6] = 77
    add_case(stage.scene, Case({}, labels, affine, synthetic=False), "found")
    back = cases.case_of(stage.scene, "found")
    assert np.array_equal(back.labels, labels)
    assert np.allclose(back.affine, affine)


def test_an_empty_volume_is_refused(stage, tmp_path):
    node = stage.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    with pytest.raises(BadInput, match="holds no image"):
        write_volume(node, tmp_path / "scan.nii")


def test_a_segmentation_becomes_a_label_map_on_the_grid_of_its_editing(stage, tmp_path):
    case = case_with(anatomy.lesions()["stroke"].value)
    nodes = add_case(stage.scene, Case({}, case.labels, case.affine), "alone")
    write_segmentation(nodes.segmentation, tmp_path / "labels.nii")
    found = read_segmentation(tmp_path / "labels.nii")
    assert np.array_equal(anatomy.to_values(found.data), case.labels)
    assert np.allclose(found.affine, case.affine)
    assert nib.load(tmp_path / "labels.nii").header.get_xyzt_units()[0] == "mm"


def test_a_segmentation_without_segments_or_grid_is_refused(stage, tmp_path):
    node = stage.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    node.GetSegmentation().AddEmptySegment("", "Segment_1")
    with pytest.raises(BadInput, match="has no segment"):
        write_segmentation(node, tmp_path / "labels.nii")
    node.GetSegmentation().AddEmptySegment("", "left hippocampus")
    with pytest.raises(BadInput, match="no source geometry"):
        write_segmentation(node, tmp_path / "labels.nii")


def test_a_saved_arrangement_of_three_columns_is_laid_out_when_it_is_known_before(stage, layout_logic, tmp_path):
    layout = layout_logic.GetLayoutNode()
    columns.offer(layout)
    layout.SetViewArrangement(columns.LAYOUT)
    stage.scene.SetURL(str(tmp_path / "scene.mrml"))
    stage.scene.Commit()
    for known_before in (True, False):
        other = headless()
        logic = slicer.vtkMRMLLayoutLogic()
        logic.SetMRMLScene(other.scene)
        if known_before:
            columns.offer(logic.GetLayoutNode())
        other.scene.SetURL(str(tmp_path / "scene.mrml"))
        other.scene.Import()
        assert logic.GetLayoutNode().GetViewArrangement() == columns.LAYOUT
        # A file that was opened with Slicer may be there before the arrangement is.
        columns.offer(logic.GetLayoutNode())
        views = other.scene.GetNumberOfNodesByClass("vtkMRMLSliceNode")
        assert views == 9
        assert "Red++" in logic.GetLayoutNode().GetCurrentLayoutDescription()
