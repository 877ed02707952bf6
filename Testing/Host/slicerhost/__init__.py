"""A stand-in for 3D Slicer, in which scripted modules can be loaded, shown and clicked without it.

PySide6 plays PythonQt, the wheel ``slicer-core`` holds the scene, and small widgets stand in for CTK and qMRML. What
these offer is read from ``tools/pythonqt_table.json``, so ``tools`` is to be on Python's path.

    host = start()
    module = host.load_module(Path("BrainGen/BrainGen.py"))
    panel = host.open(module)
    panel.ui.generateButton.click()
    host.wait_until(lambda: panel.ui.stateLabel.text.startswith("Done."), timeout=60)
    assert host.errors == [] and host.longest_block_s < 0.1
    host.screenshot(panel, Path("panel.png"))
    host.close(module)
"""

from slicerhost.host import Host, start

__all__ = ["Host", "start"]
