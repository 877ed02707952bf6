"""Which case the views show: one alone, or two side by side. Only nodes are touched: every front end can use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from BrainGenLib import anatomy
from BrainGenLib.case import Case
from BrainGenLib.scene.case_to_scene import CASE, CaseNodes

# Slicer's layout of two rows of slice views, and the names of the views in each.
ROWS = (("Red", "Green", "Yellow"), ("Red+", "Green+", "Yellow+"))
_MARGIN = 1.15


def show(scene: Any, nodes: CaseNodes, point: np.ndarray | None = None, contrast: str | None = None) -> None:
    """Show a case in all slice views; the segmentations of other cases are hidden.

    Args:
        scene: vtkMRMLScene.
        nodes: of the case.
        point: (3,) RAS mm, where the slices are to cross, with all of the case in view; None leaves the views as they
            are.
        contrast: of the image; None for the first.
    """
    for other in nodes_of_class(scene, "vtkMRMLSegmentationNode"):
        if other.GetAttribute(CASE) and other.GetDisplayNode() is not None:
            other.GetDisplayNode().SetVisibility(other is nodes.segmentation)
            other.GetDisplayNode().RemoveAllViewNodeIDs()
    views = [node.GetLayoutName() for node in nodes_of_class(scene, "vtkMRMLSliceNode")]
    _show_in(scene, nodes, views, contrast)
    if point is not None:
        fit(scene, nodes, views, point)


def compare(
    scene: Any,
    first: CaseNodes,
    second: CaseNodes,
    contrast: str | None = None,
    rows: Sequence[Sequence[str]] = ROWS,
) -> None:
    """Show two cases in a row of slice views each; the views of a plane move together.

    Args:
        scene: vtkMRMLScene with a layout node.
        first, second: of the cases.
        contrast: of the images, where a case has it.
        rows: the views of each case, where a front end names them otherwise than Slicer.
    """
    import slicer

    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView)
    show(scene, first, contrast=contrast)
    for nodes, views in zip((first, second), rows, strict=True):
        _show_in(scene, nodes, views, contrast)
        fit(scene, nodes, views, bounds_of(first).mean(1))
        if nodes.segmentation is not None:
            only_in(scene, nodes.segmentation, views)
    link(scene, [name for row in rows for name in row])


def most_to_see(case: Case) -> np.ndarray:
    """(3,) RAS mm where slices cut most of what was changed, or else most lesion, deep grey matter, anything."""
    if case.frames:
        return most_to_see(case.frames[0].case)
    # Every second voxel: a front end waits for this.
    if (change := case.maps.get("difference")) is not None and change.any():
        size = np.abs(change[::2, ::2, ::2])
        shown = size > size.max() / 4
    elif case.labels is None:
        shown = next(iter(case.images.values()))[::2, ::2, ::2] > 0
    else:
        classes = anatomy.to_classes(case.labels[::2, ::2, ::2])
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
        voxel.append(2 * (most[len(most) // 2] if most.size else counts.size // 2))
    return (case.affine @ np.array([*voxel, 1.0]))[:3]


def bounds_of(nodes: CaseNodes) -> np.ndarray:
    """(3, 2) lowest and highest RAS mm of a case."""
    bounds = np.zeros(6)
    shown: Any = nodes.segmentation or next(iter(nodes.volumes.values()))
    shown.GetRASBounds(bounds)
    return bounds.reshape(3, 2)


def _show_in(scene: Any, nodes: CaseNodes, views: Sequence[str], contrast: str | None) -> None:
    image = nodes.volumes.get(contrast or "") or next(iter(nodes.volumes.values()), None)
    for composite in nodes_of_class(scene, "vtkMRMLSliceCompositeNode"):
        # A segmentation without an image lies over what is shown already.
        if image is not None and composite.GetLayoutName() in views:
            layers(composite, image, nodes.maps.get("difference"))


def layers(composite: Any, image: Any, added: Any | None = None) -> None:
    """Show a volume in a slice view, and what was changed in it added in colour."""
    composite.SetBackgroundVolumeID(image.GetID())
    composite.SetForegroundVolumeID(added.GetID() if added is not None else None)
    composite.SetForegroundOpacity(1.0 if added is not None else 0.0)
    composite.SetCompositing(composite.Add if added is not None else composite.Alpha)
    composite.SetLabelVolumeID(None)


def only_in(scene: Any, segmentation: Any, views: Sequence[str]) -> None:
    """Show a segmentation in some slice views alone."""
    display = segmentation.GetDisplayNode()
    display.SetVisibility(True)
    for node in nodes_of_class(scene, "vtkMRMLSliceNode"):
        if node.GetLayoutName() in views:
            display.AddViewNodeID(node.GetID())


def link(scene: Any, views: Sequence[str]) -> None:
    """Let the views of a plane move together."""
    for node in nodes_of_class(scene, "vtkMRMLSliceNode"):
        if node.GetLayoutName() in views:
            # Slicer's second row is a group of its own, which does not follow the first.
            node.SetViewGroup(0)
    for composite in nodes_of_class(scene, "vtkMRMLSliceCompositeNode"):
        composite.SetLinkedControl(True)
        composite.SetHotLinkedControl(True)


def fit(scene: Any, nodes: CaseNodes, views: Sequence[str], point: np.ndarray) -> None:
    """Let slice views show all of a case, cut at a point (3,) in RAS mm."""
    for node in nodes_of_class(scene, "vtkMRMLSliceNode"):
        if node.GetLayoutName() in views:
            _fit_view(node, bounds_of(nodes), point)


def _fit_view(node: Any, bounds: np.ndarray, point: np.ndarray) -> None:
    """Let a slice view show all of a box, cut at a point."""
    import slicer

    axes = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, :2]
    width, height = np.abs(axes.T) @ np.ptp(bounds, axis=1) * _MARGIN
    pixels = node.GetDimensions()
    scale = max(width / max(pixels[0], 1), height / max(pixels[1], 1))
    node.SetFieldOfView(scale * pixels[0], scale * pixels[1], node.GetFieldOfView()[2])
    node.JumpSliceByCentering(*bounds.mean(1))
    node.JumpSliceByOffsetting(*point)


def nodes_of_class(scene: Any, kind: str) -> list[Any]:
    """The nodes of a class."""
    return [scene.GetNthNodeByClass(index, kind) for index in range(scene.GetNumberOfNodesByClass(kind))]
