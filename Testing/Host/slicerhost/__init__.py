"""A stand-in for 3D Slicer, in which scripted modules can be loaded, shown and clicked without it.

PySide6 plays PythonQt, the wheel ``slicer-core`` holds the scene, and small widgets stand in for CTK and qMRML.
"""

from slicerhost.host import Host, start

__all__ = ["Host", "start"]
