"""An MRML scene without the Slicer application, from the wheel ``slicer-core``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from BrainGenLib.errors import BadInput

# What scene files say wrote them; Slicer warns when it is another application or a newer Slicer.
_FILE_VERSION = "Slicer 5.8.0 0"


@dataclass
class Headless:
    """A scene of its own with the application logic that its colours and views need."""

    scene: Any
    application: Any


def headless() -> Headless:
    """A new scene with Slicer's colour tables, orientations and place for views.

    Raises:
        BadInput: slicer-core is not installed.
    """
    try:
        import slicer
    except ImportError as error:
        raise BadInput(
            "Writing a Slicer scene needs slicer-core; install it with `pip install 'braingen[scene]'`."
        ) from error
    import vtk

    scene = slicer.vtkMRMLScene()
    scene.SetVersion(_FILE_VERSION)
    for singleton in ("vtkMRMLInteractionNode", "vtkMRMLCrosshairNode"):  # views look for them
        scene.AddNewNodeByClass(singleton)
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.GetColorLogic().SetMRMLScene(scene)
    application.GetColorLogic().AddDefaultColorNodes()
    # Registers its node classes and the conversion of label maps to surfaces.
    segmentations = slicer.vtkSlicerSegmentationsModuleLogic()
    segmentations.SetMRMLApplicationLogic(application)
    segmentations.SetMRMLScene(scene)
    application.SetModuleLogic("Segmentations", segmentations)
    application.SetSliceLogics(vtk.vtkCollection())
    application.SetViewLogics(vtk.vtkCollection())
    # True: the patient's right is on the left of the screen, as radiologists look at slices.
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return Headless(scene, application)
