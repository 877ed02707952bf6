"""What Slicer learns of BrainGen when it has started: samples, names of structures, an arrangement of views.

All of it must be there before the module is opened: a saved scene and Segment Editor need it too.
"""

import slicer

from BrainGenPanel import findLibrary, sample_data


def completed() -> None:
    """Slicer has started."""
    sample_data.register()
    findLibrary()
    from BrainGenLib.scene import columns, terminology

    terminology.register(slicer.modules.terminologies.logic())
    manager = slicer.app.layoutManager()
    if manager is not None:  # there is none without windows
        columns.offer(manager.layoutLogic().GetLayoutNode())
