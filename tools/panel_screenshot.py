"""The picture of the panel in the README and the Extensions Index, from the stand-in Slicer.

QT_QPA_PLATFORM=offscreen PYTHONPATH=.:Testing/Host python tools/panel_screenshot.py Resources/Screenshots/panel.png
"""

import sys
from pathlib import Path

from slicerhost import start

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0

host = start()
module = host.load_module(ROOT / "BrainGen" / "BrainGen.py")
panel = host.open(module)
host.wait_until(lambda: panel.controls.metadata is not None, PATIENCE)
panel.controls.rows[0].slider.setValue(0.3)
for box in list(panel.controls.contrastBoxes.values())[:3:2]:
    box.setChecked(True)
panel.ui.renderSection.collapsed = False
panel.ui.segmentSection.collapsed = False
host.screenshot(panel, Path(sys.argv[1]))
host.close(module)
