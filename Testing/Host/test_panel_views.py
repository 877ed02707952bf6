"""What the views of the application show of cases. No model runs here."""

import numpy as np
import pytest
import slicer
from panels import add_scan
from patience import PATIENCE
from quick_worker import cube

from BrainGenLib.case import Case
from BrainGenLib.scene import changes, columns, showing
from BrainGenLib.scene.case_to_scene import add_case


@pytest.fixture
def panel(idle_panel):
    return idle_panel


def changed_scan(panel, classes):
    """A case that is a change of a scan, and the scan."""
    scan = add_scan(classes)
    case = cube(1)
    case.maps["difference"] = case.images["T1w"] - 0.4
    nodes = add_case(slicer.mrmlScene, case, "counterfactual-0001")
    changes.remember(nodes, scan)
    return nodes, scan


def view(name):
    return slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode")


def test_views_are_fitted_when_they_have_their_size(host, panel, phantom_classes):
    nodes, _scan = changed_scan(panel, phantom_classes)
    panel.logic.show("counterfactual-0001")
    # Qt lays the new views out a moment later.
    view("Red").SetDimensions(100, 400, 1)
    host.wait_until(lambda: not panel.logic.views.settling, PATIENCE)
    width, height, _depth = view("Red").GetFieldOfView()
    assert height == pytest.approx(4 * width)
    assert width >= np.ptp(showing.bounds_of(nodes)[0])
    # Not when nothing was laid out, where the user may have moved the slices.
    panel.logic.show("counterfactual-0001")
    assert not panel.logic.views.settling


def test_a_case_that_is_gone_is_not_fitted(host, panel, phantom_classes):
    changed_scan(panel, phantom_classes)
    panel.logic.show("counterfactual-0001")
    panel.logic.delete(["counterfactual-0001"])
    host.wait_until(lambda: not panel.logic.views.settling, PATIENCE)


def test_a_comparison_leaves_the_views_as_they_were_linked(host, panel):
    for name in ("one", "two"):
        add_case(slicer.mrmlScene, cube(1), name)
    composites = showing.nodes_of_class(slicer.mrmlScene, "vtkMRMLSliceCompositeNode")
    panel.logic.compare("one", "two")
    assert all(node.GetHotLinkedControl() for node in composites)
    host.wait_until(lambda: not panel.logic.views.settling, PATIENCE)
    panel.logic.show("one")
    assert not any(node.GetHotLinkedControl() for node in composites)


def words(name):
    """What the picture of a slice view or of the 3D view says."""
    manager = slicer.app.layoutManager()
    widget = manager.threeDWidget(0).threeDView() if name == "1" else manager.sliceWidget(name).sliceView()
    window = widget.renderWindow()
    window.Render()
    found = []
    renderers = window.GetRenderers()
    for index in range(renderers.GetNumberOfItems()):
        props = renderers.GetItemAsObject(index).GetViewProps()
        texts = [props.GetItemAsObject(number) for number in range(props.GetNumberOfItems())]
        found += [text.GetInput() for text in texts if text.IsA("vtkTextActor") and text.GetVisibility()]
    return found


def test_what_is_synthetic_is_marked_in_the_picture_whoever_shows_it(panel, phantom_classes):
    nodes, scan = changed_scan(panel, phantom_classes)
    panel.logic.show("counterfactual-0001")
    # Also in the views that only this layout has.
    assert words("Red") == []
    assert words("Red+") == ["counterfactual-0001 T1w", "SYNTHETIC"]
    assert words("Green++") == ["scan + difference", "SYNTHETIC"]
    # By other means of Slicer than the panel.
    slicer.util.setSliceViewerLayers(background=nodes.volumes["T1w"])
    assert words("Red") == ["counterfactual-0001 T1w", "SYNTHETIC"]
    slicer.util.setSliceViewerLayers(background=scan, foreground=None)
    nodes.segmentation.GetDisplayNode().SetVisibility(False)
    assert words("Red") == []
    panel.logic.show("counterfactual-0001")
    panel.logic.delete(["counterfactual-0001"])
    assert words("Red+") == []


def test_no_labels_lie_over_the_image_of_another(panel, phantom_classes):
    add_case(slicer.mrmlScene, cube(1), "mine")
    scan = add_scan(phantom_classes)
    panel.logic.show("mine")
    upload = add_case(slicer.mrmlScene, Case({}, cube(2).labels, cube(2).affine, synthetic=False), "theirs")
    upload.segmentation.SetAttribute("BrainGen.case", None)
    background = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode().GetBackgroundVolumeID
    panel.logic.show("mine")
    assert not upload.segmentation.GetDisplayNode().GetVisibility()
    alone = add_case(slicer.mrmlScene, Case({}, cube(3).labels, cube(3).affine, synthetic=False), "alone")
    panel.logic.show("alone")
    assert background() is None
    changes.remember(alone, scan)
    panel.logic.show("alone")
    assert background() == scan.GetID()


def test_three_columns_are_there_in_the_next_session(host, panel, phantom_classes, tmp_path):
    changed_scan(panel, phantom_classes)
    panel.logic.show("counterfactual-0001")
    slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.Clear(0)
    host.new_session()
    host.startup_completed()
    slicer.util.loadScene(str(tmp_path / "scene.mrml"))
    assert host.views_shown() == [name for row in zip(*columns.COLUMNS, strict=True) for name in row]


class WithoutWindows:
    """The application as it is under ``--no-main-window``."""

    def __init__(self, application):
        self._application = application

    def __getattr__(self, name):
        return getattr(self._application, name)

    def layoutManager(self):
        return None


def test_without_windows_nothing_is_shown(host, panel, monkeypatch):
    nodes = add_case(slicer.mrmlScene, cube(1), "one")
    nodes.segmentation.GetDisplayNode().SetVisibility(False)
    monkeypatch.setattr(slicer, "app", WithoutWindows(slicer.app))
    panel.logic.show("one")
    assert not nodes.segmentation.GetDisplayNode().GetVisibility()
    host.startup_completed()
