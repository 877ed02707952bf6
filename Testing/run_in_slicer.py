"""The panel in the real Slicer, clicked: the check that cannot be made without it.

    Slicer --testing --no-splash --additional-module-paths "$PWD/BrainGen" \\
        --python-script "$PWD/Testing/run_in_slicer.py"

Of an installed extension, the path is the folder ``qt-scripted-modules`` that holds ``BrainGen.py``: ``--testing``
leaves the settings out, where Slicer else finds its modules. The module's packages must be installed: open it once
and press Install. Prints one line for each check, saves ``braingen-in-slicer.png`` to the folder of temporary files,
and ends Slicer with status 0 if all held.
"""

import os
import tempfile
import time
import traceback
from pathlib import Path

import qt
import slicer

PATIENCE_S = 600
# A timer that fires late by more than this means that the application stood still.
BLOCK_MS = 100


class Heartbeat:
    """The longest time between two beats of a 10 ms timer."""

    def __init__(self) -> None:
        self.longest_ms = 0.0
        self._last = time.perf_counter()
        self._timer = qt.QTimer()
        self._timer.setInterval(10)
        self._timer.connect("timeout()", self.beat)
        self._timer.start()

    def beat(self) -> None:
        now = time.perf_counter()
        self.longest_ms = max(self.longest_ms, 1000 * (now - self._last))
        self._last = now


def waitUntil(done, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"Not in time: {what}")
        slicer.app.processEvents()
        time.sleep(0.005)


def check(condition, what: str) -> None:
    print(f"{'ok    ' if condition else 'FAILED'} {what}", flush=True)
    if not condition:
        raise AssertionError(what)


def names(panel) -> list:
    return [panel.ui.resultsList.item(row).text() for row in range(panel.ui.resultsList.count)]


def run() -> None:
    slicer.util.selectModule("BrainGen")
    panel = slicer.modules.BrainGenWidget
    waitUntil(lambda: panel.ui.generateButton.enabled, "the engine answers")
    check(len(panel.controls.rows) > 0, "sliders are made from the bundle")

    row = next(row for row in panel.controls.rows if row.isPathology)
    row.slider.setValue(0.3)
    heartbeat = Heartbeat()
    panel.ui.generateButton.click()
    check(panel.ui.generateButton.text == "Cancel", "Generate has become Cancel")
    waitUntil(lambda: panel.ui.progressBar.value > 0, "progress")
    waitUntil(lambda: not panel.logic.running, "a case")
    waitUntil(lambda: names(panel) == ["sub-0001"], "the case is listed")
    print(f"       longest time without events: {heartbeat.longest_ms:.0f} ms (target {BLOCK_MS})", flush=True)

    from BrainGenLib.scene import cases

    nodes = cases.nodes_of(slicer.mrmlScene, "sub-0001")
    segmentation = nodes.segmentation.GetSegmentation()
    check(segmentation.GetNumberOfSegments() > 20, "the segmentation has its structures")
    check(
        row.condition.label
        in [segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())],
        "and the lesion that was asked for",
    )

    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName(row.condition.label))
    panel.ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    panel.ui.renderButton.click()
    waitUntil(lambda: not panel.logic.running, "a rendered image")
    waitUntil(lambda: "render-0001" in names(panel), "the rendered image is listed")
    check(True, "the edited segmentation was rendered")

    from BrainGenLib.scene import changes

    contrast, image = next(iter(nodes.volumes.items()))
    panel.ui.changeScanSelector.setCurrentNode(image)
    panel._parameterNode.changeContrast = contrast
    wanted = next(each for each in panel.counterfactualSection.wanted if each.isPathology)
    wanted.given.setChecked(True)
    wanted.slider.setValue(0.5)
    panel.ui.changeButton.click()
    waitUntil(lambda: not panel.logic.running, "a changed scan")
    waitUntil(lambda: "counterfactual-0001" in names(panel), "the changed scan is listed")
    layout = slicer.app.layoutManager()
    check(layout.layout == changes.LAYOUT, "it stands beside what it was")
    views = [layout.sliceWidget(column[0]) for column in changes.COLUMNS]
    shown = [view.mrmlSliceCompositeNode().GetBackgroundVolumeID() for view in views]
    check(shown[0] == shown[2] != shown[1], "in three columns")

    # The first that is offered; the wish from above stays.
    panel._parameterNode.changeSweepFrames = 3
    panel._parameterNode.changeSweepOver = str(panel.ui.changeSweepSelector.itemData(1))
    check(panel.ui.changeButton.text == "Make sweep", "Apply has become Make sweep")
    panel.ui.changeButton.click()
    waitUntil(lambda: not panel.logic.running, "a sweep")
    waitUntil(lambda: "sweep-0001" in names(panel), "the sweep is listed")
    film = cases.nodes_of(slicer.mrmlScene, "sweep-0001")
    browser = next(node for node in film.film if node.IsA("vtkMRMLSequenceBrowserNode"))
    check(browser.GetNumberOfItems() == 3, "it is a film of three frames")
    frames = []
    for number in range(3):
        browser.SetSelectedItemNumber(number)
        slicer.app.processEvents()
        frames.append(slicer.util.arrayFromVolume(film.volumes[contrast]).copy())
    check((frames[0] != frames[2]).any(), "whose frames are shown one after the other")
    with tempfile.TemporaryDirectory() as folder:
        panel.logic.export(["sweep-0001"], folder, waitForCompletion=True)
        check(len(list(Path(folder).glob("sub-0001/ses-*"))) == 3, "and are exported as sessions")

    for index in range(2):
        panel.ui.resultsList.item(index).setSelected(True)
    panel.ui.compareButton.click()
    slicer.app.processEvents()
    path = os.path.join(slicer.app.temporaryPath, "braingen-in-slicer.png")
    slicer.util.mainWindow().grab().save(path)
    print(f"       picture: {path}", flush=True)

    panel.ui.generateButton.click()
    waitUntil(lambda: panel.ui.progressBar.value > 0, "progress")
    panel.ui.generateButton.click()
    waitUntil(lambda: not panel.logic.running, "the end of a cancelled run")
    check("ancel" in panel.ui.stateLabel.text, "a run can be cancelled")

    panel.ui.generateButton.click()
    waitUntil(lambda: panel.ui.progressBar.value > 0, "progress")
    slicer.mrmlScene.Clear(0)
    waitUntil(lambda: not panel.logic.running, "the end of a run whose scene was closed")
    check(cases.case_names(slicer.mrmlScene) == [], "a closed scene stays empty")


try:
    run()
except Exception:
    traceback.print_exc()
    slicer.util.exit(1)
else:
    print("All checks passed.", flush=True)
    slicer.util.exit(0)
