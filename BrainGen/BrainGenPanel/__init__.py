"""Parts of the BrainGen module. Nothing here imports what Slicer does not bring, before it is asked to work."""

import importlib.util
import os
import sys


def findLibrary() -> None:
    """Make BrainGenLib importable when the module is loaded from a checkout; installed, it is beside the module."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if importlib.util.find_spec("BrainGenLib") is None and os.path.isdir(os.path.join(root, "BrainGenLib")):
        sys.path.append(root)
