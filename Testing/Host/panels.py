"""What the tests of the panel share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import slicer
from patience import PATIENCE
from phantoms import phantom_image

from BrainGenLib import spaces
from BrainGenLib.scene.volumes import add_volume

MODULE = Path(__file__).parents[2] / "BrainGen" / "BrainGen.py"
# The most that the GUI thread of a panel that answers works without processing events, in seconds of processor time:
# .02 to .07 on a quiet machine, up to .13 where other programs share the caches of a core.
AT_ONCE_S = 0.3


def finish(host, panel):
    """Wait until nothing runs and the list of results is that of the scene."""
    host.wait_until(lambda: not panel.logic.running and not panel.resultsTimer.active, PATIENCE)


def kill_python(worker):
    """As the system does when memory is short: the process with the memory goes, not its launcher."""
    launcher = psutil.Process(worker.pid)
    for process in launcher.children() or [launcher]:
        process.kill()


def listed(panel):
    """Names in the list of results."""
    return [panel.ui.resultsList.item(index).text() for index in range(panel.ui.resultsList.count)]


@contextmanager
def ready_to_change(host, module) -> Iterator[object]:
    """The panel, scene empty, section Counterfactual open; afterwards nothing runs and nothing went wrong."""
    panel = host.open(module)
    host.wait_until(lambda: panel.counterfactualSection.metadata is not None, PATIENCE)
    panel.ui.changeSection.collapsed = False
    yield panel
    panel.logic.abandon()
    host.wait_until(lambda: not panel.logic.running, PATIENCE)
    assert host.errors == []
    assert not host.missing


def add_scan(classes):
    """A T1w-like scan of a phantom in the scene, brain alone, in scanner units."""
    return add_volume(slicer.mrmlScene, phantom_image(classes) * 800, spaces.GRID_2MM.affine, "scan")
