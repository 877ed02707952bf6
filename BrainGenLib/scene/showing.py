"""Which case the views show: one alone, or two side by side. Only nodes are touched: every front end can use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from BrainGenLib import anatomy
from BrainGenLib.case import ATTRIBUTION, Case
from BrainGenLib.scene.case_to_scene import CaseNodes

# Slicer's layout of two rows of slice views, and the names of the views in each.
ROWS = (("Red", "Green", "Yellow"), ("Red+", "Green+", "Yellow+"))
_MARGIN = 1.15
# How views were linked before a comparison linked them.
_GROUP, _LINKED = "BrainGen.viewGroup", "BrainGen.linked"


def show(scene: Any, nodes: CaseNodes, point: np.ndarray | None = None, contrast: str | None = None) -> None:
    """Show a case in all slice views; all other segmentations are hidden.

    Labels lie as outlines over the image that they belong to, see :func:`image_of`; without one they stand alone, in
    filled colours.

    Args:
        scene: vtkMRMLScene.
        nodes: of the case.
        point: (3,) RAS mm, where the slices are to cross, with all of the case in view; None leaves the views as they
            are.
        contrast: of the image; None for the first. The name of a map puts that over the first.
    """
    for other in nodes_of_class(scene, "vtkMRMLSegmentationNode"):
        if other.GetDisplayNode() is not None:
            other.GetDisplayNode().SetVisibility(other is nodes.segmentation)
            other.GetDisplayNode().RemoveAllViewNodeIDs()
    _unlink(scene)
    views = [node.GetLayoutName() for node in nodes_of_class(scene, "vtkMRMLSliceNode")]
    _show_in(scene, nodes, views, contrast)
    if point is not None:
        fit(scene, nodes, views, point)


def clear(scene: Any) -> None:
    """Take all volumes and segmentations out of the views; they stay in the scene."""
    for segmentation in nodes_of_class(scene, "vtkMRMLSegmentationNode"):
        if segmentation.GetDisplayNode() is not None:
            segmentation.GetDisplayNode().SetVisibility(False)
    for composite in nodes_of_class(scene, "vtkMRMLSliceCompositeNode"):
        layers(composite, None)


def image_of(nodes: CaseNodes, contrast: str | None = None) -> Any | None:
    """The volume that a case's labels lie over: its own, or the one that they were made from.

    A segmentation knows that by its reference geometry, the source volume of Slicer's Segment Editor.

    Args:
        nodes: of the case.
        contrast: of the volume; None for the first.
    """
    own = nodes.volumes.get(contrast or "") or next(iter(nodes.volumes.values()), None)
    if own is not None or nodes.segmentation is None:
        return own
    return nodes.segmentation.GetNodeReference(nodes.segmentation.GetReferenceImageGeometryReferenceRole())


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
        rows: the views of each case, where a front end has other names for them than Slicer.
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
    image = image_of(nodes, contrast)
    if nodes.segmentation is not None:
        nodes.segmentation.GetDisplayNode().SetVisibility2DFill(image is None)
    for composite in nodes_of_class(scene, "vtkMRMLSliceCompositeNode"):
        if composite.GetLayoutName() in views:
            if contrast == ATTRIBUTION:
                layers(composite, image, donors=nodes.maps.get(ATTRIBUTION))
            else:
                layers(composite, image, nodes.maps.get(contrast or "", nodes.maps.get("difference")))


def layers(composite: Any, image: Any | None, added: Any | None = None, donors: Any | None = None) -> None:
    """Show a volume, or none, in a slice view, what was changed in it added in colour, and whose anatomy it has."""
    composite.SetBackgroundVolumeID(image.GetID() if image is not None else None)
    composite.SetForegroundVolumeID(added.GetID() if added is not None else None)
    composite.SetForegroundOpacity(1.0 if added is not None else 0.0)
    composite.SetCompositing(composite.Add if added is not None else composite.Alpha)
    composite.SetLabelVolumeID(donors.GetID() if donors is not None else None)


def only_in(scene: Any, segmentation: Any, views: Sequence[str]) -> None:
    """Show a segmentation in some slice views alone."""
    display = segmentation.GetDisplayNode()
    display.SetVisibility(True)
    for node in nodes_of_class(scene, "vtkMRMLSliceNode"):
        if node.GetLayoutName() in views:
            display.AddViewNodeID(node.GetID())


def link(scene: Any, views: Sequence[str]) -> None:
    """Let the views of a plane move together, until a case is shown alone."""
    for node in nodes_of_class(scene, "vtkMRMLSliceNode"):
        if node.GetLayoutName() in views:
            # Slicer's second row is a group of its own, which does not follow the first.
            node.SetAttribute(_GROUP, str(node.GetViewGroup()))
            node.SetViewGroup(0)
    for composite in nodes_of_class(scene, "vtkMRMLSliceCompositeNode"):
        composite.SetAttribute(_LINKED, f"{composite.GetLinkedControl()} {composite.GetHotLinkedControl()}")
        composite.SetLinkedControl(True)
        composite.SetHotLinkedControl(True)


def _unlink(scene: Any) -> None:
    """Undo :func:`link`: in linked views, another volume chosen in one would be chosen in all."""
    for node in nodes_of_class(scene, "vtkMRMLSliceNode"):
        if group := node.GetAttribute(_GROUP):
            node.SetViewGroup(int(group))
            node.RemoveAttribute(_GROUP)
    for composite in nodes_of_class(scene, "vtkMRMLSliceCompositeNode"):
        if linked := composite.GetAttribute(_LINKED):
            control, hot = map(int, linked.split())
            composite.SetLinkedControl(control)
            composite.SetHotLinkedControl(hot)
            composite.RemoveAttribute(_LINKED)


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
