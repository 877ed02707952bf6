"""A changed scan beside what it was: before, after, and the difference, in views that move together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from BrainGenLib.scene.case_to_scene import CaseNodes
from BrainGenLib.scene.columns import COLUMNS, LAYOUT, offer
from BrainGenLib.scene.showing import bounds_of, fit, layers, link, nodes_of_class, only_in, show

_BEFORE = "BrainGen.before"


def remember(nodes: CaseNodes, scan: Any) -> None:
    """Let a changed scan know the volume that it was made of, and look as bright; a segmentation, what it is of."""
    if nodes.segmentation is not None and not nodes.volumes:
        nodes.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(scan)
        return
    # Not the volume: when a film shows another frame it would be forgotten there.
    nodes.provenance.SetNodeReferenceID(_BEFORE, scan.GetID())
    for volume in nodes.volumes.values():
        old, new = scan.GetDisplayNode(), volume.GetDisplayNode()
        if old is not None:
            new.SetWindowLevelMinMax(old.GetWindowLevelMin(), old.GetWindowLevelMax())


def before(nodes: CaseNodes) -> Any | None:
    """The volume that a case is a change of, if it is one and the scene still holds it."""
    known = nodes.provenance is not None and bool(nodes.volumes) and "difference" in nodes.maps
    return nodes.provenance.GetNodeReference(_BEFORE) if known else None


def show_case(scene: Any, nodes: CaseNodes, point: np.ndarray | None = None, contrast: str | None = None) -> None:
    """Show a case as suits it: a changed scan in three columns, another alone, not in the arrangement of those.

    Args:
        scene: vtkMRMLScene with a layout node.
        nodes: of the case.
        point, contrast: as for :func:`BrainGenLib.scene.showing.show`; no contrast for a changed scan.
    """
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if before(nodes) is not None:
        offer(layout)
        layout.SetViewArrangement(LAYOUT)
        show_change(scene, nodes, point)
        return
    if layout.GetViewArrangement() == LAYOUT:
        layout.SetViewArrangement(layout.SlicerLayoutFourUpView)
    show(scene, nodes, point, contrast)


def show_change(
    scene: Any, nodes: CaseNodes, point: np.ndarray | None = None, columns: Sequence[Sequence[str]] = COLUMNS
) -> None:
    """Show a changed scan, the outlines of its structures over it, and the scan without and with the difference.

    Args:
        scene: vtkMRMLScene.
        nodes: of a case for which :func:`before` gives a volume.
        point: (3,) RAS mm, where the slices are to cross; None for the middle.
        columns: the views, where a front end has other names for them than Slicer.
    """
    scan, after = before(nodes), next(iter(nodes.volumes.values()))
    show(scene, nodes)
    for views, shown, added in zip(columns, (scan, after, scan), (None, None, nodes.maps["difference"]), strict=True):
        for composite in nodes_of_class(scene, "vtkMRMLSliceCompositeNode"):
            if composite.GetLayoutName() in views:
                layers(composite, shown, added)
        fit(scene, nodes, views, bounds_of(nodes).mean(1) if point is None else point)
    if nodes.segmentation is not None:
        only_in(scene, nodes.segmentation, columns[1])
    link(scene, [name for views in columns for name in views])
