"""While one request runs: what clicks and scripts may not do. No model runs here."""

import pytest
import slicer
from panels import add_scan
from quick_worker import cube

from BrainGenLib.errors import BadInput
from BrainGenLib.requests import Generate
from BrainGenLib.scene.case_to_scene import add_case


@pytest.fixture
def panel(idle_panel):
    return idle_panel


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
    panel.logic._runner._session = session
    others = [panel.ui.renderButton, panel.ui.segmentButton, panel.ui.changeButton]
    assert all(button.enabled for button in others)
    session.running = True
    panel.ui.generateButton.click()
    panel.logic._runner._timer.stop()
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
    running.running = False
    panel.logic.generate(Generate(seed=1, draft=True))
    running.running = True
    panel.updateSections()
    assert panel.ui.segmentButton.enabled
    panel.ui.segmentButton.click()
    assert len(running.started) == 3
    assert panel.ui.segmentButton.text == "Cancel"
    assert not panel.ui.generateButton.enabled
