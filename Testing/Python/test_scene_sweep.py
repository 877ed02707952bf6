"""A sweep as a film in a scene on slicer-core: what plays, that it survives its file, and the way back."""

import numpy as np
import pytest
import slicer
import vtk

from BrainGenLib import anatomy, sweeps
from BrainGenLib.case import Case, Frame
from BrainGenLib.export import bids
from BrainGenLib.export.write import write
from BrainGenLib.scene import cases, changes
from BrainGenLib.scene.bootstrap import headless
from BrainGenLib.scene.case_to_scene import add_case, adding
from BrainGenLib.scene.export import save_scene
from BrainGenLib.scene.segmentation import label_map_of
from BrainGenLib.scene.sequences import segmentations_of
from BrainGenLib.scene.showing import most_to_see, show
from BrainGenLib.scene.volumes import add_volume

SHAPE = (24, 28, 20)
PLAYED = ("T1w", "difference", "attribution", "segmentation")
VALUES = [-0.0004, 0.0, 0.0004]
FRONT = [1, 2, 3]
LESION = anatomy.lesions()["wmh"].value


def frame(number, value):
    labels = np.full(SHAPE, 2, np.uint16)
    labels[8 : 10 + 2 * number, 8:16, 8:14] = 4
    if number == 2:
        labels[2:5, 2:5, 2:5] = LESION
    image = np.full(SHAPE, 100.0 * (number + 1), np.float32)
    image[:4] = 0
    measurements = {
        "reached": {"model": 0.4 * number},
        "similarity": {"ssim": 1 - 0.1 * number},
        "volumes_ml": {"left lateral ventricle": float((labels == 4).sum()) * 0.008},
    }
    case = Case({"T1w": image}, labels, np.diag([2.0, 2.0, 2.0, 1.0]), measurements)
    case.maps = {"difference": np.full(SHAPE, 10.0 * number, np.float32)}
    case.maps["attribution"] = np.full(SHAPE, number, np.uint16)
    return Frame(value, case)


@pytest.fixture(scope="module")
def sweep():
    frames = [frame(number, value) for number, value in enumerate(VALUES)]
    measurements = {"over": "drift", "unit": sweeps.SETTINGS["drift"], "front": FRONT, "best": 2}
    request = {"verb": "sweep", "of": {"verb": "counterfactual", "bundle": "brain-ldm", "seed": 5}, "over": "drift"}
    provenance = {"request": request, "bundles": {"brain-ldm": {"sha256": "c0ffee"}}, "arrays": {}}
    return Case({}, None, frames[0].case.affine, measurements, provenance, frames=frames)


@pytest.fixture
def stage():
    return headless()


@pytest.fixture
def nodes(stage, sweep):
    return add_case(stage.scene, sweep, "sub-0001")


def film_of(scene):
    """The browser, and its sequences by the name of what they play."""
    browser = scene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
    found = vtk.vtkCollection()
    browser.GetSynchronizedSequenceNodes(found, True)
    sequences = [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]
    return browser, {browser.GetProxyNode(sequence).GetName(): sequence for sequence in sequences}


def check_film(stage, sweep):
    browser, sequences = film_of(stage.scene)
    assert set(sequences) == {f"sub-0001 {what} SYNTHETIC" for what in PLAYED}
    assert browser.GetNumberOfItems() == 3
    assert browser.GetSelectedItemNumber() == 0
    assert browser.GetPlaybackRateFps() == 3
    assert browser.GetAttribute("BrainGen.synthetic") == "SYNTHETIC"
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLApplicationLogic(stage.application)
    logic.SetMRMLScene(stage.scene)
    image, difference, donors, segmentation = (
        stage.scene.GetFirstNodeByName(f"sub-0001 {what} SYNTHETIC") for what in PLAYED
    )
    windows = set()
    for number, one in enumerate(sweep.frames):
        browser.SetSelectedItemNumber(number)
        logic.UpdateProxyNodesFromSequences(browser)
        assert np.array_equal(slicer.util.arrayFromVolume(image).T, one.case.images["T1w"])
        assert np.array_equal(slicer.util.arrayFromVolume(difference).T, one.case.maps["difference"])
        assert np.array_equal(slicer.util.arrayFromVolume(donors).T, one.case.maps["attribution"])
        assert np.array_equal(label_map_of(segmentation, image)[0], one.case.labels)
        assert image.GetAttribute("BrainGen.synthetic") == "SYNTHETIC"
        assert not segmentation.GetDisplayNode().GetVisibility2DFill()
        windows.add((image.GetDisplayNode().GetWindowLevelMin(), image.GetDisplayNode().GetWindowLevelMax()))
    assert windows == {(0.0, 300.0)}
    for sequence in sequences.values():
        assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("drift", "standard deviations")
        assert sequence.GetAttribute("BrainGen.synthetic") == "SYNTHETIC"
        assert [float(sequence.GetNthIndexValue(index)) for index in range(3)] == VALUES
        assert all(
            sequence.GetNthDataNode(index).GetAttribute("BrainGen.synthetic") == "SYNTHETIC" for index in range(3)
        )


def test_the_film_plays_images_changes_and_labels_in_one_window(stage, nodes, sweep):
    check_film(stage, sweep)


def test_an_application_that_plays_films_adds_no_nodes_when_one_comes_or_goes(stage, sweep):
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLApplicationLogic(stage.application)
    logic.SetMRMLScene(stage.scene)
    nodes = add_case(stage.scene, sweep, "sub-0001")
    # The label map of donors is a scalar volume too.
    kinds = {"vtkMRMLScalarVolumeNode": 3, "vtkMRMLSegmentationNode": 1}
    assert {kind: stage.scene.GetNumberOfNodesByClass(kind) for kind in kinds} == kinds
    found = cases.nodes_of(stage.scene, "sub-0001")
    assert (found.volumes, found.maps, found.segmentation) == (nodes.volumes, nodes.maps, nodes.segmentation)
    cases.remove_case(stage.scene, "sub-0001")
    assert cases.case_names(stage.scene) == []


def test_a_film_of_a_changed_scan_knows_the_scan_in_every_frame(stage, sweep):
    nodes = add_case(stage.scene, sweep, "sub-0001")
    scan = add_volume(stage.scene, np.full(SHAPE, 50, np.float32), sweep.affine, "scan")
    changes.remember(nodes, scan)
    browser, _ = film_of(stage.scene)
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(stage.scene)
    for number in (2, 0):
        browser.SetSelectedItemNumber(number)
        logic.UpdateProxyNodesFromSequences(browser)
        assert changes.before(cases.nodes_of(stage.scene, "sub-0001")) is scan


def test_the_film_survives_its_file(stage, sweep, tmp_path):
    save_scene(sweep, tmp_path / "sweep.mrb", tmp_path / "sweep.png", "sub-0001")
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLApplicationLogic(stage.application)
    remote.SetMRMLScene(stage.scene)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(tmp_path))
    manager = slicer.vtkDataIOManagerLogic()
    manager.SetMRMLApplicationLogic(stage.application)
    manager.SetMRMLScene(stage.scene)
    manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    # Registers the kinds of sequences' files, as the application does when it starts.
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLApplicationLogic(stage.application)
    logic.SetMRMLScene(stage.scene)
    assert stage.scene.ReadFromMRB(str(tmp_path / "sweep.mrb"), True)
    check_film(stage, sweep)
    again = cases.nodes_of(stage.scene, "sub-0001")
    assert cases.case_of(stage.scene, "sub-0001").measurements == sweep.measurements
    for segmentation in (again.segmentation, *segmentations_of(again.film)):
        surface = segmentation.GetSegmentation().GetNthSegment(0).GetRepresentation("Closed surface")
        assert surface.GetNumberOfPoints() > 0
    chart = stage.scene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    assert chart.GetNumberOfPlotSeriesNodes() == 2


def test_slices_show_the_film(stage, nodes, sweep):
    composite = stage.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    composite.SetLayoutName("Red")
    view = stage.scene.AddNewNodeByClass("vtkMRMLSliceNode")
    view.SetLayoutName("Red")
    show(stage.scene, nodes, most_to_see(sweep))
    assert composite.GetBackgroundVolumeID() == nodes.volumes["T1w"].GetID()
    assert composite.GetForegroundVolumeID() == nodes.maps["difference"].GetID()


def test_the_table_and_the_chart_say_what_was_traded(nodes):
    table = nodes.measurements.GetTable()
    columns = {
        table.GetColumnName(column): [table.GetValue(row, column).ToDouble() for row in range(3)]
        for column in range(table.GetNumberOfColumns())
    }
    assert columns["drift"] == VALUES
    assert columns["flip"] == pytest.approx([0, 0.4, 0.8])
    assert columns["identity"] == pytest.approx([1, 0.9, 0.8])
    assert columns["left lateral ventricle (mL)"] == sorted(columns["left lateral ventricle (mL)"])
    (chart,) = (node for node in nodes.film if node.IsA("vtkMRMLPlotChartNode"))
    assert "SYNTHETIC" in chart.GetTitle()
    assert "best: 0" in chart.GetTitle()
    series = [chart.GetNthPlotSeriesNode(index) for index in range(2)]
    assert [(one.GetXColumnName(), one.GetYColumnName()) for one in series] == [("identity", "flip")] * 2
    assert series[0].GetTableNode() == nodes.measurements
    assert series[1].GetTableNode().GetNumberOfRows() == 3


def test_a_sweep_without_labels_and_judges_is_a_film_too(stage, sweep):
    frames = [Frame(one.value, Case(one.case.images, None, one.case.affine)) for one in sweep.frames]
    plain = Case({}, None, np.eye(4), {"over": "age", "unit": "years"}, sweep.provenance, frames=frames)
    nodes = add_case(stage.scene, plain, "sub-0002")
    assert nodes.segmentation is None
    assert [node.GetClassName() for node in nodes.film] == ["vtkMRMLSequenceBrowserNode", "vtkMRMLSequenceNode"]
    assert nodes.measurements.GetNumberOfColumns() == 1


def test_a_film_is_added_a_frame_at_a_time(stage, sweep):
    """So that a front end never stands still, and can take back what it has begun."""
    before = stage.scene.GetNumberOfNodes()
    assert len(list(adding(stage.scene, sweep, "sub-0001"))) > 9
    cases.remove_case(stage.scene, "sub-0001")
    left = stage.scene.GetNumberOfNodes()
    assert left <= before + 2
    for _, nodes in zip(range(9), adding(stage.scene, sweep, "sub-0001"), strict=False):
        assert len(nodes.film) < 8
    cases.remove_case(stage.scene, "sub-0001")
    assert stage.scene.GetNumberOfNodes() == left


def test_the_frames_come_back_for_export(stage, nodes, sweep, tmp_path):
    assert cases.nodes_of(stage.scene, "sub-0001").measurements == nodes.measurements
    again = cases.case_of(stage.scene, "sub-0001")
    assert [one.value for one in again.frames] == VALUES
    assert again.measurements == {"over": "drift", "unit": "standard deviations", "front": FRONT, "best": 2}
    for one, other in zip(again.frames, sweep.frames, strict=True):
        assert np.array_equal(one.case.images["T1w"], other.case.images["T1w"])
        assert np.array_equal(one.case.maps["difference"], other.case.maps["difference"])
        assert np.array_equal(one.case.labels, other.case.labels)
    (tmp_path / "cases").mkdir()
    again.save(tmp_path / "cases" / "sub-0001")
    (subject,) = write(tmp_path / "out", [tmp_path / "cases" / "sub-0001"])
    assert (subject / "ses-03" / "anat" / "sub-0001_ses-03_dseg.nii.gz").is_file()
    # What stands beside the sessions is what the sweep itself would have written there.
    direct = bids.write_case(tmp_path / "direct", sweep)
    for beside in ("sub-0001_sessions.tsv", "figures/sub-0001_desc-tradeoff_plot.svg"):
        assert (subject / beside).read_text("utf-8") == (direct / beside).read_text("utf-8")


def test_a_film_of_which_a_frame_was_taken_out_names_the_best_of_the_others(stage, nodes):
    _, sequences = film_of(stage.scene)
    for sequence in sequences.values():
        sequence.RemoveDataNodeAtValue(sequence.GetNthIndexValue(1))
    again = cases.case_of(stage.scene, "sub-0001")
    assert [one.value for one in again.frames] == [VALUES[0], VALUES[2]]
    assert [sweeps.flip(one.case) for one in again.frames] == pytest.approx([0, 0.8])
    assert again.measurements["front"] == [1, 2]


def test_a_sweep_leaves_the_scene_with_all_that_plays_it(stage, sweep):
    before = stage.scene.GetNumberOfNodes()
    add_case(stage.scene, sweep, "sub-0001")
    cases.remove_case(stage.scene, "sub-0001")
    # The colours of changes stay, for the next one.
    assert stage.scene.GetNumberOfNodes() <= before + 2
    for kind in ("Sequence", "SequenceBrowser", "PlotChart", "PlotSeries", "Table", "ScalarVolume", "Segmentation"):
        assert stage.scene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node") == 0
