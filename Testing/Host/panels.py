"""What the tests of the panel share."""

from pathlib import Path

MODULE = Path(__file__).parents[2] / "BrainGen" / "BrainGen.py"
# Seconds after which something will not come any more, also on a busy machine.
PATIENCE = 300.0


def finish(host, panel):
    """Wait until nothing runs and the list of results is that of the scene."""
    host.wait_until(lambda: not panel.logic.running and not panel.resultsTimer.active, PATIENCE)


def listed(panel):
    """Names in the list of results."""
    return [panel.ui.resultsList.item(index).text() for index in range(panel.ui.resultsList.count)]
