"""The panel and scenes that are closed, saved and opened; and what a click may not do. No model runs here."""

import importlib.machinery
import sys
from types import ModuleType

import numpy as np
import pytest
import slicer
import vtk
from panels import MODULE, add_scan, finish
from patience import PATIENCE
from quick_worker import cube

from BrainGenLib import anatomy, bundles, spaces
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.requests import Generate
from BrainGenLib.scene import cases, changes, columns, showing
from BrainGenLib.scene.case_to_scene import add_case
from BrainGenLib.scene.segmentation import label_map_of, say_what


@pytest.fixture
def module(host):
    module = host.load_module(MODULE)
    yield module
    host.close(module)
    assert host.errors == []
    assert not host.missing


@pytest.fixture
def panel(host, module):
    """The panel with the shipped bundles, as if the engine had answered."""
    panel = host.open(module)
    panel.engineSection.close()
    panel.logic.importLibrary()
    panel.onBundles({name: bundle.metadata for name, bundle in bundles.available().items()})
    return panel


def choose(panel, name):
    selector = panel.ui.bundleSelector
    selector.setCurrentIndex(selector.findData(name))
    selector.activated(selector.currentIndex)


def assert_shown(panel, name):
    """The bundle of the parameter node is the one that the panel shows, in full."""
    metadata = bundles.find(name).metadata
    assert panel._parameterNode.bundle == name
    assert panel.ui.bundleSelector.itemData(panel.ui.bundleSelector.currentIndex) == name
    assert [row.condition.name for row in panel.controls.rows] == [one.name for one in metadata.conditions]
    assert list(panel.controls.contrastBoxes) == metadata.contrasts
    assert metadata.license in panel.ui.bundleCard.text
    assert panel.generateSection.request().bundle == name


def test_another_model_is_shown_as_soon_as_it_is_chosen(panel):
    assert_shown(panel, "brainspade3d")
    choose(panel, "brain-ldm")
    assert_shown(panel, "brain-ldm")


def test_a_closed_scene_shows_the_model_that_runs_next(host, panel):
    choose(panel, "brain-ldm")
    slicer.mrmlScene.Clear(0)
    finish(host, panel)
    assert_shown(panel, "brainspade3d")


def test_an_opened_scene_shows_its_model(host, panel, tmp_path):
    choose(panel, "brain-ldm")
    scene = slicer.mrmlScene
    url = scene.GetURL()
    scene.SetURL(str(tmp_path / "saved.mrml"))
    scene.Commit()
    choose(panel, "brainspade3d")
    scene.Import()
    scene.SetURL(url)
    finish(host, panel)
    assert_shown(panel, "brain-ldm")


def test_a_scene_of_an_unknown_model_shows_the_one_that_takes_its_place(panel):
    panel._parameterNode.bundle = "from-another-machine"
    assert_shown(panel, "brainspade3d")


def test_visits_of_the_module_do_not_make_it_slower(host, module, panel):
    node = panel.logic.getParameterNode()
    for _ in range(3):
        module.leave()
        host.open(module)
    assert panel._parameterNode is panel.logic.getParameterNode() is node
    # After a scene was closed its node is another, or empty.
    node.pathologies = {"wmh": 0.5}
    slicer.mrmlScene.Clear(0)
    assert dict(panel.logic.getParameterNode().pathologies) == {}


def test_the_model_card_is_shown_in_slicer(panel):
    assert "href" in panel.ui.bundleCard.text
    card = bundles.find("brainspade3d").folder / "docs" / "README.md"
    dialog = panel.controls.onCard("brainspade3d")
    assert dialog.isVisible()
    [text] = slicer.util.findChildren(dialog, className="QTextBrowser")
    assert text.plainText.splitlines()[0] == card.read_text("utf-8").splitlines()[0].lstrip("# ")
    dialog.close()


def test_a_path_that_is_typed_is_taken_at_the_end(host, panel, monkeypatch):
    asked = []
    monkeypatch.setattr(type(panel.engineSection), "update", lambda self: asked.append(self._logic.engine.python))
    for length in range(1, 12):
        panel.ui.pythonPath.setCurrentPath("/opt/python"[:length])
        host.process_events()
    assert asked == []
    host.wait_until(lambda: asked, PATIENCE)
    assert asked == ["/opt/python"]


def lacking(monkeypatch, *names):
    """As if these packages were not installed."""
    import importlib.metadata

    version = importlib.metadata.version

    def installed(name):
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", installed)


def test_installing_is_said_and_cannot_be_begun_twice(panel, monkeypatch):
    lacking(monkeypatch, "einops")
    panel.engineSection.update()
    begun = []

    def install(_requirements, **_options):
        begun.append((panel.ui.installButton.enabled, panel.ui.stateLabel.text))
        panel.ui.installButton.click()

    monkeypatch.setattr(slicer.util, "pip_install", install)
    if hasattr(slicer, "packaging"):  # since Slicer 5.11
        monkeypatch.setattr(slicer.packaging, "pip_ensure", install)
    panel.ui.installButton.click()
    assert begun == [(False, "Installing einops … This takes minutes; the Python console says more.")]
    assert panel.ui.installButton.enabled


def test_a_missing_extension_is_named_before_anything_is_asked(host, panel, monkeypatch):
    lacking(monkeypatch, "torch")
    panel.engineSection.update()
    panel.ui.installButton.click()
    assert "The extension PyTorch is not installed" in panel.ui.stateLabel.text
    assert host.dialogs.questions == []
    assert host.pip_requests == []


def test_pytorch_comes_through_its_extension(host, panel, monkeypatch):
    wanted = []

    class PyTorchUtilsLogic:
        def installTorch(self, torchVersionRequirement):
            wanted.append(torchVersionRequirement)

    extension = ModuleType("PyTorchUtils")
    extension.__spec__ = importlib.machinery.ModuleSpec("PyTorchUtils", None)
    extension.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    lacking(monkeypatch, "torch")
    panel.engineSection.update()
    panel.ui.installButton.click()
    assert wanted == [">=2.6"]
    assert "PyTorch could not be installed" in panel.ui.stateLabel.text
    assert host.pip_requests == []


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
    host.wait_until(lambda: not panel.logic._layoutTimer.active, PATIENCE)
    width, height, _depth = view("Red").GetFieldOfView()
    assert height == pytest.approx(4 * width)
    assert width >= np.ptp(showing.bounds_of(nodes)[0])
    # Not when nothing was laid out, where the user may have moved the slices.
    panel.logic.show("counterfactual-0001")
    assert not panel.logic._layoutTimer.active


def test_a_case_that_is_gone_is_not_fitted(host, panel, phantom_classes):
    changed_scan(panel, phantom_classes)
    panel.logic.show("counterfactual-0001")
    panel.logic.delete(["counterfactual-0001"])
    host.wait_until(lambda: not panel.logic._layoutTimer.active, PATIENCE)


def test_a_comparison_leaves_the_views_as_they_were_linked(host, panel):
    for name in ("one", "two"):
        add_case(slicer.mrmlScene, cube(1), name)
    composites = showing.nodes_of_class(slicer.mrmlScene, "vtkMRMLSliceCompositeNode")
    panel.logic.compare("one", "two")
    assert all(node.GetHotLinkedControl() for node in composites)
    host.wait_until(lambda: not panel.logic._layoutTimer.active, PATIENCE)
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


def test_what_is_painted_elsewhere_is_asked_for_at_the_next_visit(host, module, panel):
    nodes = add_case(slicer.mrmlScene, cube(1), "mine")
    panel.ui.renderSection.collapsed = False
    panel.ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    assert not panel.ui.renderLesionSelector.isVisible()
    module.leave()
    nodes.segmentation.GetSegmentation().AddEmptySegment("", "Segment_1")
    host.open(module)
    assert not panel.ui.renderLesionSelector.isVisible()
    module.leave()
    painted = mask().GetSegmentation().GetNthSegment(0)
    nodes.segmentation.GetSegmentation().AddSegment(painted)
    host.open(module)
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
    assert ui.scanSelector.findChild("QComboBox").itemText(0) == "choose a scan"
    for selector in selectors:
        selector.setCurrentNode(scan)
    spare, painted = mask(), mask()
    painted.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    for selector in (ui.segmentationSelector, ui.lesionsSelector):
        selector.setCurrentNode(painted)
    assert ui.segmentButton.enabled
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


def test_a_case_is_removed_without_parting_its_segments(host, panel):
    add_case(slicer.mrmlScene, cube(1), "one")
    panel.logic.delete(["one"])
    assert host.plugins.costly == []


def test_three_columns_are_there_in_the_next_session(host, panel, phantom_classes, tmp_path):
    changed_scan(panel, phantom_classes)
    panel.logic.show("counterfactual-0001")
    slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.Clear(0)
    host.new_session()
    host.startup_completed()
    slicer.util.loadScene(str(tmp_path / "scene.mrml"))
    assert host.views_shown() == [name for row in zip(*columns.COLUMNS, strict=True) for name in row]


def test_as_the_module_that_slicer_starts_with_it_finds_a_python(host, tmp_path):
    import qt  # there once the host has started

    settings = qt.QSettings()
    settings.setValue("Modules/AdditionalPaths", [str(MODULE.parent)])
    settings.setValue("Modules/HomeModule", "BrainGen")
    script = tmp_path / "look.py"
    script.write_text(
        "import os, slicer\n"
        "panel = slicer.modules.BrainGenWidget\n"
        "assert panel.engineSection._probe._process is not None, panel.engineSection._probe._problem\n"
        "assert os.path.basename(panel.logic.engine._interpreter()) == 'PythonSlicer'\n"
    )
    assert host.launch("--python-script", str(script)) == 0
    assert host.errors == []


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


class Running:
    """A session whose job never ends."""

    running = True

    def __init__(self):
        self.cancelled = 0
        self.started = []

    def start(self, requests, _files):
        self.started.append(requests)

    def poll(self):
        raise AssertionError("not in these tests")

    def cancel(self):
        self.cancelled += 1

    def close(self):
        self.running = False


@pytest.fixture
def running(panel, phantom_classes):
    """The panel while it generates, with all chosen that the other sections need."""
    session = Running()
    nodes = add_case(slicer.mrmlScene, cube(1), "mine")
    scan = add_scan(phantom_classes)
    panel.ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    for selector in (panel.ui.scanSelector, panel.ui.changeScanSelector):
        selector.setCurrentNode(scan)
    panel.counterfactualSection.wanted[0].given.setChecked(True)
    session.running = False
    panel.logic._session = session
    others = [panel.ui.renderButton, panel.ui.segmentButton, panel.ui.changeButton]
    assert all(button.enabled for button in others)
    session.running = True
    panel.ui.generateButton.click()
    panel.logic._timer.stop()
    return session


def test_what_runs_is_not_ended_by_the_button_of_another_section(panel, running):
    others = [panel.ui.renderButton, panel.ui.segmentButton, panel.ui.changeButton]
    titles = ["Render", "Segment", "Apply"]
    assert (panel.ui.generateButton.text, panel.ui.generateButton.enabled) == ("Cancel", True)
    assert [button.text for button in others] == titles
    assert [button.enabled for button in others] == [False] * 3
    assert all("Something else runs" in button.toolTip for button in others)
    for button in others:
        button.clicked()
    assert (len(running.started), running.cancelled) == (1, 0)
    assert "Another request runs" in panel.ui.stateLabel.text
    panel.ui.generateButton.click()
    assert running.cancelled == 1
    assert panel.ui.stateLabel.text == "Cancelling …"


def test_a_script_does_not_end_what_runs(panel, running):
    with pytest.raises(BadInput, match="Another request runs; wait for its end"):
        panel.logic.generate(Generate(seed=1))
    with pytest.raises(BadInput, match="Another request runs"):
        panel.logic.generate(Generate(seed=1, draft=True))
    assert (len(running.started), running.cancelled) == (1, 0)


def test_a_draft_gives_way_to_whatever_is_asked_for(panel, running):
    panel.logic._drafting = True
    panel.updateSections()
    assert panel.ui.segmentButton.enabled
    panel.ui.segmentButton.click()
    assert len(running.started) == 2
    assert panel.ui.segmentButton.text == "Cancel"
    assert not panel.ui.generateButton.enabled


def test_what_slicer_learns_at_its_start_is_learnt_once(host, module):
    for _ in range(2):
        host.startup_completed()
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert layout.IsLayoutDescription(columns.LAYOUT)
    assert cases.case_names(slicer.mrmlScene) == []
