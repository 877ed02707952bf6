"""Slicer's four-up layout over a case: three slice views and a 3D view, as nodes that a scene file keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from BrainGenLib import anatomy
from BrainGenLib.case import Case
from BrainGenLib.scene.bootstrap import Headless
from BrainGenLib.scene.case_to_scene import CaseNodes

# Slicer's slice views and the RAS axis that each looks along.
_SLICE_VIEWS = {"Red": 2, "Green": 1, "Yellow": 0}
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

    background = next(iter(nodes.volumes.values()), None)
    bounds = np.zeros(6)
    shown: Any = nodes.segmentation or background
    shown.GetRASBounds(bounds)
    centre, sizes = (bounds[::2] + bounds[1::2]) / 2, bounds[1::2] - bounds[::2]
    slices = {}
    for name, axis in _SLICE_VIEWS.items():
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(stage.application)
        stage.application.GetSliceLogics().AddItem(logic)
        logic.SetMRMLScene(stage.scene)
        node = stage.scene.GetSingletonNode(name, "vtkMRMLSliceNode")
        logic.SetSliceNode(node)
        if background is not None:
            logic.GetSliceCompositeNode().SetBackgroundVolumeID(background.GetID())
        node.SetDimensions(pixels, pixels, 1)
        width = 1.15 * np.delete(sizes, axis).max()
        node.SetFieldOfView(width, width, 1.0)
        node.JumpSliceByCentering(*centre)
        logic.SetSliceOffset(point[axis])
        slices[name] = logic

    view = stage.scene.GetSingletonNode("1", "vtkMRMLViewNode")
    view.SetBoxVisible(False)
    view.SetAxisLabelsVisible(False)
    camera = stage.scene.AddNewNodeByClass("vtkMRMLCameraNode")
    camera.SetLayoutName(view.GetLayoutName())
    camera.SetFocalPoint(*centre)
    camera.SetPosition(*(centre + _CAMERA / np.linalg.norm(_CAMERA) * sizes.max() / 2 * _RADII))
    camera.SetViewUp(0, 0, 1)
    return FourUp(slices, view)


def most_to_see(case: Case) -> np.ndarray:
    """(3,) RAS mm where slices cut most lesion, or else most deep grey matter, or else most of what there is."""
    if case.labels is None:
        shown = next(iter(case.images.values())) > 0
    else:
        classes = anatomy.to_classes(case.labels)
        for wanted in (anatomy.classes_of(kind="lesion"), anatomy.classes_of(tissue="deep_gm")):
            shown = np.isin(classes, wanted)
            if shown.any():
                break
        else:
            shown = classes > 0
    voxel = []
    for axis in range(3):
        counts = shown.sum(tuple({0, 1, 2} - {axis}))
        most = np.flatnonzero(counts > 0.95 * counts.max())
        voxel.append(most[len(most) // 2] if most.size else counts.size // 2)
    return (case.affine @ np.array([*voxel, 1.0]))[:3]
