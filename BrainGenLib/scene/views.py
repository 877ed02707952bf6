"""Slicer's four-up layout over a case: three slice views and a 3D view, as nodes that a scene file keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from BrainGenLib.scene.bootstrap import Headless
from BrainGenLib.scene.case_to_scene import CaseNodes
from BrainGenLib.scene.showing import bounds_of, show

_SLICE_VIEWS = ("Red", "Green", "Yellow")
# The camera stands in front, to the left and above, so many radii away.
_CAMERA = np.array([-0.72, 0.60, 0.34])
_RADII = 3.8


@dataclass
class FourUp:
    """The views: slice logics by view name, and the node of the 3D view."""

    slices: dict[str, Any]
    threed: Any


def four_up(stage: Headless, nodes: CaseNodes, point: np.ndarray, pixels: int) -> FourUp:
    """Lay out a scene without views: the first image behind the outlines, every view fitted to the brain.

    Args:
        stage: the scene that holds ``nodes``.
        nodes: a case with an image or a segmentation.
        point: (3,) RAS mm, where the slices cross.
        pixels: width and height of a slice view.
    """
    import slicer

    layout = slicer.vtkMRMLLayoutLogic()  # makes the view nodes as the application names, colours and orients them
    layout.SetMRMLScene(stage.scene)
    layout.GetLayoutNode().SetViewArrangement(layout.GetLayoutNode().SlicerLayoutFourUpView)

    slices = {}
    for name in _SLICE_VIEWS:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(stage.application)
        stage.application.GetSliceLogics().AddItem(logic)
        logic.SetMRMLScene(stage.scene)
        node = stage.scene.GetSingletonNode(name, "vtkMRMLSliceNode")
        logic.SetSliceNode(node)
        node.SetDimensions(pixels, pixels, 1)
        slices[name] = logic
    show(stage.scene, nodes, point)

    bounds = bounds_of(nodes)
    centre, sizes = bounds.mean(1), np.ptp(bounds, axis=1)
    view = stage.scene.GetSingletonNode("1", "vtkMRMLViewNode")
    view.SetBoxVisible(False)
    view.SetAxisLabelsVisible(False)
    camera = stage.scene.AddNewNodeByClass("vtkMRMLCameraNode")
    camera.SetLayoutName(view.GetLayoutName())
    camera.SetFocalPoint(*centre)
    camera.SetPosition(*(centre + _CAMERA / np.linalg.norm(_CAMERA) * sizes.max() / 2 * _RADII))
    camera.SetViewUp(0, 0, 1)
    return FourUp(slices, view)
