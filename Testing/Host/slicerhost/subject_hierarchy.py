"""What the application's plugins do to the subject hierarchy: slicer-core has none.

A node that is added gets an item; an item goes with its node. The segments of a segmentation are a virtual branch
below its item, and a segment whose item is removed is removed from the segmentation.
"""

from __future__ import annotations

from typing import Any

import slicer
import vtk

_OWNED = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLModelNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLTransformNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
    "vtkMRMLPlotChartNode",
)
_LABEL_MAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


class SubjectHierarchyPlugins:
    """Follows a scene.

    Attributes:
        costly: names of segments that were removed with their item while they still had a label map. Slicer parts
            each from the label map that it shares with others, which takes some 50 ms at 1 mm.
    """

    def __init__(self, scene: Any) -> None:
        self.costly: list[str] = []
        self._scene = scene
        self._followed: dict[Any, list[int]] = {}
        self._removing = False
        for event, slot in (
            (scene.NodeAddedEvent, self._node_added),
            (scene.NodeAboutToBeRemovedEvent, self._node_about_to_be_removed),
        ):
            slot.__func__.CallDataType = vtk.VTK_OBJECT
            scene.AddObserver(event, slot)
        scene.AddObserver(scene.EndImportEvent, self._add_all)
        scene.AddObserver(scene.EndCloseEvent, self._forget_removed)
        self._add_all()

    @property
    def _hierarchy(self) -> Any:
        node = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)
        if node not in self._followed:
            self._item_about_to_be_removed.__func__.CallDataType = vtk.VTK_LONG
            event = node.SubjectHierarchyItemAboutToBeRemovedEvent
            self._followed[node] = [node.AddObserver(event, self._item_about_to_be_removed)]
        return node

    def _add_all(self, *_args: Any) -> None:
        for index in range(self._scene.GetNumberOfNodes()):
            self._add(self._scene.GetNthNode(index))

    def _forget_removed(self, *_args: Any) -> None:
        """A scene that is closed tells of no single node; one that is held here would keep its items."""
        self._followed = {node: tags for node, tags in self._followed.items() if node.GetScene() is not None}

    def _node_added(self, _scene: Any, _event: str, node: Any) -> None:
        if not self._scene.IsImporting():
            self._add(node)

    def _add(self, node: Any) -> None:
        if node.GetHideFromEditors() or not any(node.IsA(kind) for kind in _OWNED):
            return
        hierarchy = self._hierarchy
        if not hierarchy.GetItemByDataNode(node):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
        if node.IsA("vtkMRMLSegmentationNode") and node not in self._followed:
            events = (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved)
            self._followed[node] = [node.AddObserver(event, self._match_segments) for event in events]
            self._match_segments(node)

    def _node_about_to_be_removed(self, _scene: Any, _event: str, node: Any) -> None:
        for tag in self._followed.pop(node, []):
            node.RemoveObserver(tag)
        if self._scene.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
            return
        if item := self._hierarchy.GetItemByDataNode(node):
            self._hierarchy.RemoveItem(item, False, False)

    def _match_segments(self, node: Any, *_args: Any) -> None:
        """Give each segment its item, and take away those of segments that have gone."""
        if self._removing or self._scene.IsImporting():
            return
        hierarchy, segmentation = self._hierarchy, node.GetSegmentation()
        branch = hierarchy.GetItemByDataNode(node)
        if not branch:
            return
        name = slicer.vtkMRMLSubjectHierarchyConstants.GetSubjectHierarchyVirtualBranchAttributeName()
        hierarchy.SetItemAttribute(branch, name, "1")
        children = vtk.vtkIdList()
        hierarchy.GetItemChildren(branch, children)
        known = {}
        for index in range(children.GetNumberOfIds()):
            known[hierarchy.GetItemAttribute(children.GetId(index), node.GetSegmentIDAttributeName())] = (
                children.GetId(index)
            )
        identifiers = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
        for identifier, item in known.items():
            if identifier and identifier not in identifiers:
                hierarchy.RemoveItem(item)
        for identifier in identifiers:
            if identifier not in known:
                item = hierarchy.CreateHierarchyItem(branch, segmentation.GetSegment(identifier).GetName(), name)
                hierarchy.SetItemAttribute(item, node.GetSegmentIDAttributeName(), identifier)

    def _item_about_to_be_removed(self, hierarchy: Any, _event: str, item: int) -> None:
        identifier = hierarchy.GetItemAttribute(item, slicer.vtkMRMLSegmentationNode.GetSegmentIDAttributeName())
        node = hierarchy.GetItemDataNode(hierarchy.GetItemParent(item)) if identifier else None
        if self._scene.IsClosing() or node is None:
            return
        segment = node.GetSegmentation().GetSegment(identifier)
        if segment is not None:
            if segment.GetRepresentation(_LABEL_MAP) is not None:
                self.costly.append(segment.GetName())
            self._removing = True
            node.GetSegmentation().RemoveSegment(identifier)
            self._removing = False
