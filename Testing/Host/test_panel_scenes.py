"""The panel and scenes that are closed, saved and opened. No model runs here."""

import pytest
import slicer
from panels import finish, listed
from patience import PATIENCE
from quick_worker import cube

from BrainGenLib import bundles
from BrainGenLib.scene import cases, columns
from BrainGenLib.scene.case_to_scene import add_case


@pytest.fixture
def panel(idle_panel):
    return idle_panel


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


def test_a_case_that_comes_with_a_scene_never_mixes_with_one_of_its_name(host, panel, tmp_path):
    add_case(slicer.mrmlScene, cube(1), "sub-0001")
    url = slicer.mrmlScene.GetURL()
    slicer.mrmlScene.SetURL(str(tmp_path / "theirs.mrml"))
    slicer.mrmlScene.Commit()
    panel.logic.delete(["sub-0001"])
    other = add_case(slicer.mrmlScene, cube(2), "sub-0001")
    slicer.mrmlScene.Import()
    slicer.mrmlScene.SetURL(url)
    host.wait_until(lambda: listed(panel) == ["sub-0001", "sub-0001-2"], PATIENCE)
    assert cases.nodes_of(slicer.mrmlScene, "sub-0001").present == other.present
    theirs = cases.nodes_of(slicer.mrmlScene, "sub-0001-2")
    assert {node.GetName().split()[0] for node in theirs.present} == {"sub-0001-2"}
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    assert hierarchy.GetItemName(theirs.folder) == "sub-0001-2"


def test_a_scene_of_an_unknown_model_shows_the_one_that_takes_its_place(panel):
    panel._parameterNode.bundle = "from-another-machine"
    assert_shown(panel, "brainspade3d")


def test_visits_of_the_module_do_not_make_it_slower(host, idle_module, panel):
    node = panel.logic.getParameterNode()
    for _ in range(3):
        idle_module.leave()
        host.open(idle_module)
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


def test_a_case_is_removed_without_parting_its_segments(host, panel):
    add_case(slicer.mrmlScene, cube(1), "one")
    panel.logic.delete(["one"])
    assert host.plugins.costly == []


def test_what_slicer_learns_at_its_start_is_learnt_once(host, idle_module):
    for _ in range(2):
        host.startup_completed()
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert layout.IsLayoutDescription(columns.LAYOUT)
    assert cases.case_names(slicer.mrmlScene) == []
