"""The panel in the real Slicer, clicked: the check that cannot be made without it.

    Slicer --testing --no-splash --additional-module-paths "$PWD/BrainGen" \\
        --python-script "$PWD/Testing/run_in_slicer.py"

Of an installed extension, the path is the folder ``qt-scripted-modules`` that holds ``BrainGen.py``: ``--testing``
leaves the settings out, where Slicer else finds its modules. The module's packages must be installed: open it once
and press Install. Prints a line ``ok`` or ``FAILED`` for each check and goes on, saves ``braingen-in-slicer.png`` to
the folder of temporary files, and ends Slicer with status 0 if all held.
"""

import os
import platform
import tempfile
import time
import traceback
from pathlib import Path

import qt
import slicer

PATIENCE_S = 600
# A timer that fires late by more than this means that the application stood still.
BLOCK_MS = 100

failures = []


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
            raise TimeoutError(f"not in time: {what}")
        slicer.app.processEvents()
        time.sleep(0.005)


def check(condition, what: str) -> None:
    print(f"{'ok    ' if condition else 'FAILED'} {what}", flush=True)
    if not condition:
        failures.append(what)


def note(text: str) -> None:
    print(f"       {text}", flush=True)


def done(panel, what: str) -> None:
    waitUntil(lambda: not panel.logic.running and not panel.resultsTimer.active, what)


def names(panel) -> list:
    return [panel.ui.resultsList.item(row).text() for row in range(panel.ui.resultsList.count)]


def nodesOf(name: str):
    from BrainGenLib.scene import cases

    return cases.nodes_of(slicer.mrmlScene, name)


def segmentNames(node) -> list:
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(index).GetName() for index in range(segmentation.GetNumberOfSegments())]


def arrangement() -> int:
    return slicer.app.layoutManager().layout


def words(view: str) -> list:
    """Texts in the picture of a slice view."""
    window = slicer.app.layoutManager().sliceWidget(view).sliceView().renderWindow()
    window.Render()
    renderers = window.GetRenderers()
    found = []
    for index in range(renderers.GetNumberOfItems()):
        props = renderers.GetItemAsObject(index).GetViewProps()
        found += [props.GetItemAsObject(number) for number in range(props.GetNumberOfItems())]
    return [prop.GetInput() for prop in found if prop.IsA("vtkTextActor") and prop.GetVisibility()]


def chooseBundle(panel, name: str) -> None:
    selector = panel.ui.bundleSelector
    selector.setCurrentIndex(selector.findData(name))
    panel.controls.onBundleChanged(selector.currentIndex)


def modelIsShown(panel) -> bool:
    metadata = panel.controls.metadata
    shown = [row.condition.name for row in panel.controls.rows]
    return metadata.name == panel._parameterNode.bundle and shown == [one.name for one in metadata.conditions]


# ---- the checks, in this order


def start(_panel) -> None:
    terminologies = slicer.modules.terminologies.logic()
    waitUntil(lambda: terminologies.IsTerminologyContextLoaded("BrainGen"), "the terminology list")
    check(True, "Segment Editor's terminologies have the list BrainGen")
    layout = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    check(layout.IsLayoutDescription(7201), "the arrangement of three columns is known")
    import SampleData

    for name in ("BrainGenSample T1w", "BrainGenSample FLAIR", "BrainGenSample segmentation"):
        SampleData.downloadSample(name)
        check(slicer.util.getFirstNodeByName(name) is not None, f"sample data: {name}")


def engine(panel) -> None:
    waitUntil(lambda: panel.ui.generateButton.enabled, "the engine answers")
    check(panel.ui.stateLabel.text == "Ready.", "the engine answers")
    note(f"engine: {panel.logic.engine.kind}, device: {panel.ui.deviceSelector.currentText}")
    check(modelIsShown(panel), "sliders are made from the bundle")
    for row in panel.controls.rows:
        asked, slider = row.condition, row.slider
        held = abs(slider.minimum - asked.minimum) < 0.01 and abs(slider.maximum - asked.maximum) < 0.01
        check(held, f"slider {asked.name}: {slider.minimum:g} to {slider.maximum:g}")
    check(list(panel.controls.contrastBoxes) == panel.controls.metadata.contrasts, "a box for each contrast")
    dialog = panel.controls.onCard(panel.controls.metadata.name)
    check(dialog.isVisible(), "the model card is shown in a window of Slicer")
    dialog.close()


def generate(panel) -> None:
    row = next(row for row in panel.controls.rows if row.isPathology)
    row.slider.setValue(0.3)
    heartbeat = Heartbeat()
    panel.ui.generateButton.click()
    check(panel.ui.generateButton.text == "Cancel", "Generate has become Cancel")
    waits = panel.ui.segmentButton
    check(not waits.enabled and "Something else runs" in waits.toolTip, "other sections wait, and say so")
    waitUntil(lambda: panel.ui.progressBar.value > 0, "progress")
    done(panel, "a case")
    check(names(panel) == ["sub-0001"], "the case is listed")
    check(heartbeat.longest_ms < BLOCK_MS, f"longest time without events: {heartbeat.longest_ms:.0f} ms")
    nodes = nodesOf("sub-0001")
    check(len(segmentNames(nodes.segmentation)) > 20, "the segmentation has its structures")
    check(row.condition.label in segmentNames(nodes.segmentation), f"and {row.condition.label}")
    image = next(iter(nodes.volumes.values()))
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    check(composite.GetBackgroundVolumeID() == image.GetID(), "the views show it")
    check("SYNTHETIC" in words("Red"), "their pictures say SYNTHETIC")
    scan = slicer.util.getFirstNodeByName("BrainGenSample T1w")
    slicer.util.setSliceViewerLayers(background=scan)
    nodes.segmentation.GetDisplayNode().SetVisibility(False)
    check("SYNTHETIC" not in words("Red"), "and do not over a volume that the module has not made")


def render(panel) -> None:
    row = next(row for row in panel.controls.rows if row.isPathology)
    panel.ui.segmentationSelector.setCurrentNode(nodesOf("sub-0001").segmentation)
    panel.ui.copyButton.click()
    copy = panel._parameterNode.segmentation
    check(row.condition.label in segmentNames(copy), "the labels of a case are copied, to be edited")
    segmentation = copy.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName(row.condition.label))
    segmentation.AddEmptySegment("", "Segment_1")
    panel.ui.renderButton.click()
    done(panel, "a rendered image")
    check("render-0001" in names(panel), "the edited copy was rendered, an empty Segment_1 ignored")
    check(row.condition.label in segmentNames(nodesOf("sub-0001").segmentation), "the case is as it was made")


def segment(panel) -> None:
    scan = slicer.util.getFirstNodeByName("BrainGenSample FLAIR")
    panel.ui.scanSelector.setCurrentNode(scan)
    panel.ui.segmentButton.click()
    done(panel, "a segmentation")
    check("segmentation-0001" in names(panel), "a scan was segmented")
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    check(composite.GetBackgroundVolumeID() == scan.GetID(), "the segmentation lies over its own scan")


def counterfactual(panel) -> None:
    from BrainGenLib.scene import changes

    contrast, image = next(iter(nodesOf("sub-0001").volumes.items()))
    panel.ui.changeScanSelector.setCurrentNode(image)
    panel._parameterNode.changeContrast = contrast
    wanted = next(each for each in panel.counterfactualSection.wanted if each.isPathology)
    wanted.given.setChecked(True)
    wanted.slider.setValue(0.5)
    told = panel.ui.lesionsFoundLabel
    check(not panel.ui.changeButton.enabled and "Find its lesions" in told.text, "lesions have to be known before")
    panel.ui.findLesionsButton.click()
    done(panel, "the lesions of the scan")
    check("The segmenter finds" in told.text, f"what was found is shown: {told.text}")
    panel.ui.lesionsSelector.setCurrentNode(nodesOf("sub-0001").segmentation)
    check("The segmentation has" in told.text, f"and what a segmentation holds: {told.text}")
    panel.ui.changeButton.click()
    done(panel, "a changed scan")
    check("counterfactual-0001" in names(panel), "a scan was changed")
    check(arrangement() == changes.LAYOUT, "it stands beside what it was")
    manager = slicer.app.layoutManager()
    views = [manager.sliceWidget(column[0]) for column in changes.COLUMNS]
    check(None not in views, "in three columns of views")
    shown = [view.mrmlSliceCompositeNode().GetBackgroundVolumeID() for view in views]
    check(shown[0] == shown[2] != shown[1], "scan, changed scan, scan with the difference")
    waitUntil(lambda: not panel.logic.views.settling, "the views are laid out")
    for view in views:
        size, field = view.mrmlSliceNode().GetDimensions(), view.mrmlSliceNode().GetFieldOfView()
        fits = abs(field[0] / field[1] - size[0] / size[1]) < 0.05
        check(
            fits, f"view {view.mrmlSliceNode().GetLayoutName()} is fitted to its size, {size[0]} × {size[1]} pixels"
        )
    check("SYNTHETIC" in words(changes.COLUMNS[1][0]), "the picture of the changed scan says SYNTHETIC")


def saved(panel) -> None:
    from BrainGenLib.scene import changes

    chooseBundle(panel, "brain-ldm")
    check(modelIsShown(panel) and panel._parameterNode.bundle == "brain-ldm", "another model shows its own sliders")
    listed = names(panel)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "scene.mrb")
        check(slicer.util.saveScene(path), "the scene is saved")
        slicer.mrmlScene.Clear(0)
        done(panel, "an empty list")
        check(names(panel) == [], "a closed scene is empty")
        check(modelIsShown(panel), "after closing, the model that is shown is the one that runs")
        slicer.app.layoutManager().layout = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
        slicer.util.loadScene(path)
        done(panel, "the list of the opened scene")
    check(names(panel) == listed, "its cases are listed")
    check(panel._parameterNode.bundle == "brain-ldm" and modelIsShown(panel), "its model is shown")
    check(arrangement() == changes.LAYOUT, "its three columns are shown")
    check(slicer.app.layoutManager().layoutLogic().GetLayoutNode().GetCurrentLayoutDescription(), "with their views")
    chooseBundle(panel, "brainspade3d")


def sweep(panel) -> None:
    contrast, image = next(iter(nodesOf("sub-0001").volumes.items()))
    panel.ui.changeScanSelector.setCurrentNode(image)
    panel._parameterNode.changeContrast = contrast
    # The first that is offered; the wish from above stays.
    panel._parameterNode.changeSweepFrames = 3
    panel._parameterNode.changeSweepOver = str(panel.ui.changeSweepSelector.itemData(1))
    check(panel.ui.changeButton.text == "Make sweep", "Apply has become Make sweep")
    panel.ui.changeButton.click()
    done(panel, "a sweep")
    check("sweep-0001" in names(panel), "the sweep is listed")
    film = nodesOf("sweep-0001")
    browser = next(node for node in film.film if node.IsA("vtkMRMLSequenceBrowserNode"))
    check(browser.GetNumberOfItems() == 3, "it is a film of three frames")
    frames = []
    for number in range(3):
        browser.SetSelectedItemNumber(number)
        slicer.app.processEvents()
        frames.append(slicer.util.arrayFromVolume(film.volumes[contrast]).copy())
    check((frames[0] != frames[2]).any(), "whose frames are shown one after the other")


def export(panel) -> None:
    with tempfile.TemporaryDirectory() as folder:
        panel.logic.export(["sub-0001", "sweep-0001"], folder, waitForCompletion=True)
        check(len(list(Path(folder).glob("sub-*/anat/*.nii.gz"))) > 0, "a case is exported")
        check(len(list(Path(folder).glob("sub-*/ses-*"))) == 3, "and a film as sessions")


def compare(panel) -> None:
    panel.logic.compare("sub-0001", "render-0001")
    waitUntil(lambda: not panel.logic.views.settling, "the views are laid out")
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    check(composite.GetHotLinkedControl(), "two cases are compared in linked views")
    path = os.path.join(slicer.app.temporaryPath, "braingen-in-slicer.png")
    check(slicer.util.mainWindow().grab().save(path), f"picture: {path}")
    panel.logic.show("sub-0001")
    check(not composite.GetHotLinkedControl(), "which are no longer linked for one case")


def remove(panel) -> None:
    began = time.perf_counter()
    panel.logic.delete(["sub-0001"])
    took_ms = 1000 * (time.perf_counter() - began)
    check(took_ms < BLOCK_MS, f"a case is removed in {took_ms:.0f} ms")
    done(panel, "the list")
    check("sub-0001" not in names(panel), "and from the list")


def cancel(panel) -> None:
    panel.ui.generateButton.click()
    waitUntil(lambda: panel.ui.progressBar.value > 0, "progress")
    panel.ui.generateButton.click()
    done(panel, "the end of a cancelled run")
    check("ancel" in panel.ui.stateLabel.text, "a run can be cancelled")


def visits(panel) -> None:
    node = panel._parameterNode
    for _ in range(3):
        slicer.util.selectModule("Volumes")
        slicer.util.selectModule("BrainGen")
    check(panel._parameterNode is node, "visits of the module add nothing to the scene")


def close(panel) -> None:
    from BrainGenLib.scene import cases

    panel.ui.generateButton.click()
    waitUntil(lambda: panel.ui.progressBar.value > 0, "progress")
    slicer.mrmlScene.Clear(0)
    done(panel, "the end of a run whose scene was closed")
    check(cases.case_names(slicer.mrmlScene) == [], "a scene that is closed in the middle of a run stays empty")


CHECKS = (
    start,
    engine,
    generate,
    render,
    segment,
    counterfactual,
    saved,
    sweep,
    export,
    compare,
    remove,
    cancel,
    visits,
    close,
)


def run() -> None:
    note(f"Slicer {slicer.app.applicationVersion}, Python {platform.python_version()}, {platform.platform()}")
    slicer.util.selectModule("BrainGen")
    panel = slicer.modules.BrainGenWidget
    for one in CHECKS:
        try:
            one(panel)
        except Exception as error:
            traceback.print_exc()
            check(False, f"{one.__name__}: {type(error).__name__}: {error}")


try:
    run()
except Exception:
    traceback.print_exc()
    failures.append("the module")
print(f"{len(failures)} checks failed." if failures else "All checks passed.", flush=True)
slicer.util.exit(1 if failures else 0)
