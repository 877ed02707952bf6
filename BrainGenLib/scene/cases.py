"""The cases that a scene holds: nodes carry the name of their case, so a saved scene still knows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from BrainGenLib import provenance, sweeps
from BrainGenLib.case import Case, Frame, as_map
from BrainGenLib.errors import BadInput
from BrainGenLib.scene import judgements
from BrainGenLib.scene.case_to_scene import CASE, CONTRAST, IDENTITY, MAP, MARK, SYNTHETIC, TURNED, CaseNodes
from BrainGenLib.scene.segmentation import label_map_of, source_of
from BrainGenLib.scene.sequences import nodes_by_frame, swept_over
from BrainGenLib.scene.volumes import turned, world_affine

_FILM = ("vtkMRMLSequenceBrowserNode", "vtkMRMLSequenceNode", "vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode")


def case_names(scene: Any) -> list[str]:
    """Names of the cases in a scene, in the order of their nodes."""
    names = (node.GetAttribute(CASE) for node in _nodes(scene))
    return list(dict.fromkeys(name for name in names if name))


def free_name(scene: Any, wanted: str, taken: Iterable[str] = ()) -> str:
    """A name that no case of a scene has, and none of those ``taken``: the wanted one, or that with a number."""
    taken, number = {*case_names(scene), *taken}, 1
    name = wanted
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


def rename_twins(scene: Any) -> None:
    """Let every case have its own name, where a scene that was added brought one that was taken.

    The nodes of a case are found by its name, so two cases of one name would lend each other images and labels.
    """
    import slicer

    owners: dict[str, str | None] = {}
    names: dict[tuple[str, str | None], str] = {}
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    for node in _nodes(scene):
        name, identity = node.GetAttribute(CASE), node.GetAttribute(IDENTITY)
        if not name or owners.setdefault(name, identity) == identity:
            continue
        if (name, identity) not in names:
            names[name, identity] = free_name(scene, name)
        new = names[name, identity]
        frames = node.GetNumberOfDataNodes() if node.IsA("vtkMRMLSequenceNode") else 0
        # The nodes of frames hand their attributes on to those that show them.
        for one in (node, *(node.GetNthDataNode(number) for number in range(frames))):
            one.SetAttribute(CASE, new)
            one.SetName(one.GetName().replace(name, new, 1))
        folder = hierarchy.GetItemParent(item) if (item := hierarchy.GetItemByDataNode(node)) else 0
        if folder and hierarchy.GetItemName(folder) == name:
            hierarchy.SetItemName(folder, new)


def nodes_of(scene: Any, name: str) -> CaseNodes:
    """The nodes of a case that are still there.

    Raises:
        KeyError: the scene holds no such case.
    """
    import slicer

    nodes = [node for node in _nodes(scene) if node.GetAttribute(CASE) == name]
    if not nodes:
        raise KeyError(name)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)

    def first(kind: str) -> Any | None:
        return next((node for node in nodes if node.IsA(kind)), None)

    volumes = {node.GetAttribute(CONTRAST): node for node in nodes if node.GetAttribute(CONTRAST)}
    return CaseNodes(
        volumes,
        first("vtkMRMLSegmentationNode"),
        first("vtkMRMLTextNode"),
        first("vtkMRMLTableNode"),
        hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes[0])),
        {node.GetAttribute(MAP): node for node in nodes if node.GetAttribute(MAP)},
        [node for kind in _FILM for node in nodes if node.IsA(kind)],
    )


def of_another(segmentation: Any, scan: Any) -> bool:
    """Whether a segmentation is known to be of another scan: neither of this one nor of another image of its case.

    Args:
        segmentation: vtkMRMLSegmentationNode.
        scan: volume node.
    """
    source = source_of(segmentation)
    if source is None or source is scan:
        return False
    cases = {segmentation.GetAttribute(CASE), source.GetAttribute(CASE)} - {None}
    return scan.GetAttribute(CASE) not in cases


def remove_case(scene: Any, name: str) -> None:
    """Take a case with its folder out of the scene; nothing happens if it is not there."""
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    nodes = [node for node in _nodes(scene) if node.GetAttribute(CASE) == name]
    # What plays a film first: the application would give it other nodes to show it with.
    for node in sorted(nodes, key=lambda node: not node.IsA("vtkMRMLSequenceBrowserNode")):
        if node.IsA("vtkMRMLSegmentationNode"):
            # First: the application removes the segments one by one with their items.
            _release(node)
        item = hierarchy.GetItemByDataNode(node)
        folder = hierarchy.GetItemParent(item) if item else 0
        if item:
            # Without the application's plugins it would stay.
            hierarchy.RemoveItem(item, False, False)
        # What only serves this node: the scene would keep it.
        servants = []
        if node.IsA("vtkMRMLDisplayableNode"):
            servants = [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
        if node.IsA("vtkMRMLStorableNode"):
            servants += [node.GetNthStorageNode(index) for index in range(node.GetNumberOfStorageNodes())]
        for unwanted in (node, *servants):
            if unwanted is not None:
                scene.RemoveNode(unwanted)
        if folder and folder != hierarchy.GetSceneItemID() and not hierarchy.GetNumberOfItemChildren(folder):
            hierarchy.RemoveItem(folder)


def release_all(scene: Any) -> None:
    """Make the segmentations of cases quick to remove, before a scene is closed; they are empty then."""
    for node in _nodes(scene):
        if node.GetAttribute(CASE) and node.IsA("vtkMRMLSegmentationNode"):
            _release(node)


def _release(node: Any) -> None:
    import slicer

    # Segments that share an image are parted from it one by one when they go, which takes half a second at 1 mm.
    segmentation = node.GetSegmentation()
    # Views hear of it at the end: one that sees a segment with half of what the others have tries to convert it.
    with slicer.util.NodeModify(node):
        for index in range(segmentation.GetNumberOfSegments()):
            segmentation.GetNthSegment(index).RemoveAllRepresentations()


def case_of(scene: Any, name: str) -> Case:
    """A case as it stands in the scene, in the axis order that it came in, e.g. to export it.

    Raises:
        KeyError: the scene holds no such case.
        BadInput: a segment is no structure or lesion of the label table, neither volume nor segmentation is left, or
            the labels were edited, so that the images no longer show them.
    """
    *_, case = reading(scene, name)
    for one in (case, *(frame.case for frame in case.frames)):
        one.images = {contrast: image.copy(order="K") for contrast, image in one.images.items()}
    return case


def reading(scene: Any, name: str) -> Iterator[Case]:
    """As :func:`case_of`, but pausing after each array: a front end that takes one at a time never stands still.

    Images may be the memory of their nodes: they are to be read soon, and not changed.
    """
    nodes = nodes_of(scene, name)
    reference = next(iter(nodes.volumes.values()), None)
    if reference is None and nodes.segmentation is None:
        raise BadInput(f"Neither volume nor segmentation of {name} is left in the scene; choose another case.")
    case = Case(
        {},
        None,
        np.eye(4),
        provenance=json.loads(nodes.provenance.GetText()) if nodes.provenance is not None else {},
        synthetic=nodes.present[0].GetAttribute(SYNTHETIC) == MARK,
    )
    browser = next((node for node in nodes.film if node.IsA("vtkMRMLSequenceBrowserNode")), None)
    if browser is None:
        case.measurements = judgements.noted(nodes.present)
        for _ in _filling(case, nodes.volumes, nodes.maps, nodes.segmentation):
            yield case
        yield from _checked(case, name)
        return
    parts = nodes_by_frame(browser)
    for number, (value, found) in enumerate(parts.items(), 1):
        made = provenance.of_frame(case.provenance, number)
        frame = Case({}, None, case.affine, judgements.noted(found), made, case.synthetic)
        case.frames.append(Frame(value, frame))
    told = swept_over(browser)
    case.measurements = {**told, **sweeps.compromises(told["over"], case.frames)}
    for one, found in zip(case.frames, parts.values(), strict=True):
        volumes = {node.GetAttribute(CONTRAST): node for node in found if node.GetAttribute(CONTRAST)}
        maps = {node.GetAttribute(MAP): node for node in found if node.GetAttribute(MAP)}
        segmentation = next((node for node in found if node.IsA("vtkMRMLSegmentationNode")), None)
        for _ in _filling(one.case, volumes, maps, segmentation):
            yield case
        case.affine = one.case.affine
        for _ in _checked(one.case, name):
            yield case


def _filling(case: Case, volumes: dict[str, Any], maps: dict[str, Any], segmentation: Any | None) -> Iterator[Case]:
    """Put the arrays of nodes into a case, pausing after each."""
    import slicer

    def own(array: np.ndarray, affine: np.ndarray, node: Any) -> np.ndarray:
        """The array in the axis order that the case came in, with its affine put into the case."""
        array, case.affine = turned(array, affine) if node.GetAttribute(TURNED) else (array, affine)
        return array

    for contrast, node in volumes.items():
        array = np.asarray(slicer.util.arrayFromVolume(node).T, np.float32)
        case.images[contrast] = own(array, world_affine(node), node)
        yield case
    for kind, node in maps.items():
        array = as_map(kind, slicer.util.arrayFromVolume(node).T.copy(order="K"))
        case.maps[kind] = own(array, world_affine(node), node)
        yield case
    if segmentation is not None:
        case.labels = own(*label_map_of(segmentation, next(iter(volumes.values()), None)), segmentation)
        yield case


def _checked(case: Case, name: str) -> Iterator[Case]:
    """Refuse a case whose images were made of other labels, pausing on the way."""
    made = case.provenance.get("arrays", {}).get("labels")
    if case.images and case.labels is not None and made is not None:
        digests = []
        for digest in provenance.hashing(case.labels):
            digests.append(digest)
            yield case
        if digests[-1] != made:
            raise BadInput(
                f"The labels of {name} were edited, so its images no longer show them. Render the segmentation and "
                "use the new case, or undo the edit."
            )
    yield case


def _nodes(scene: Any) -> list[Any]:
    collection = scene.GetNodes()
    return [collection.GetItemAsObject(index) for index in range(collection.GetNumberOfItems())]
