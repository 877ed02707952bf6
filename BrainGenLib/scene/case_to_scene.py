"""A case into an MRML scene: the same nodes in the Slicer application and on slicer-core."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from BrainGenLib.case import ATTRIBUTION, MARK, Case
from BrainGenLib.scene import judgements, sequences
from BrainGenLib.scene.maps import add_donors, add_map
from BrainGenLib.scene.segmentation import add_segmentation
from BrainGenLib.scene.tables import add_table
from BrainGenLib.scene.volumes import add_volume, is_left_handed

SYNTHETIC, CASE, CONTRAST, MAP = "BrainGen.synthetic", "BrainGen.case", "BrainGen.contrast", "BrainGen.map"
IDENTITY = "BrainGen.identity"
"""Attribute that tells cases of one name apart, as they come together when one scene is added to another."""
TURNED = "BrainGen.turned"
"""Attribute of the nodes of a left-handed grid, whose last axis is turned round in the scene."""

_OWNERS = {
    "vtkMRMLScalarVolumeNode": "Volumes",
    "vtkMRMLLabelMapVolumeNode": "LabelMaps",
    "vtkMRMLSegmentationNode": "Segmentations",
    "vtkMRMLTextNode": "Texts",
    "vtkMRMLTableNode": "Tables",
    "vtkMRMLPlotChartNode": "Plots",
}


@dataclass
class CaseNodes:
    """What a case became. ``folder`` is its item in the subject hierarchy.

    Of a sweep, the first nodes are those that show the frame to which the browser has come, ``measurements`` is the
    table of its frames, and ``film`` holds the rest: sequences, browser, chart.
    """

    volumes: dict[str, Any]
    segmentation: Any | None
    provenance: Any
    measurements: Any | None
    folder: int
    maps: dict[str, Any] = field(default_factory=dict)
    film: list[Any] = field(default_factory=list)

    @property
    def present(self) -> list[Any]:
        """All nodes that there are."""
        nodes = (*self.volumes.values(), *self.maps.values(), self.segmentation, self.provenance, self.measurements)
        return [node for node in (*nodes, *self.film) if node is not None]


def add_case(scene: Any, case: Case, name: str) -> CaseNodes:
    """Add a case to a scene, in one subject hierarchy folder.

    Args:
        scene: vtkMRMLScene, e.g. ``slicer.mrmlScene``.
        case: images and labels of one grid.
        name: of the case, e.g. ``sub-0001``; nodes are called ``sub-0001 T1w SYNTHETIC``.

    Raises:
        BadInput: the affine is sheared, or a label value is not in the label table.
    """
    *_, nodes = adding(scene, case, name)
    return nodes


def adding(scene: Any, case: Case, name: str) -> Iterator[CaseNodes]:
    """As :func:`add_case`, but pausing after each node: a front end that adds one at a time never stands still."""
    mark = f" {MARK}" if case.synthetic else ""
    nodes = CaseNodes({}, None, None, None, 0)
    shown = case.frames[0].case if case.frames else case
    describe = partial(_describe, case=case, name=name, identity=uuid.uuid4().hex)
    for contrast, image in shown.images.items():
        volume = add_volume(scene, image, shown.affine, f"{name} {contrast}{mark}")
        volume.SetAttribute(CONTRAST, contrast)
        describe(volume)
        nodes.volumes[contrast] = volume
        yield nodes
    for kind, values in shown.maps.items():
        title = f"{name} {kind}{mark}"
        if kind == ATTRIBUTION:
            donors = list(shown.measurements.get(ATTRIBUTION, {}).get("shares", {}))
            nodes.maps[kind] = add_donors(scene, values, shown.affine, title, donors)
        else:
            nodes.maps[kind] = add_map(scene, values, shown.affine, title)
        nodes.maps[kind].SetAttribute(MAP, kind)
        describe(nodes.maps[kind])
        yield nodes
    if shown.labels is not None:
        reference = next(iter(nodes.volumes.values()), None)
        nodes.segmentation = add_segmentation(
            scene, shown.labels, shown.affine, f"{name} segmentation{mark}", reference
        )
        describe(nodes.segmentation)
        yield nodes

    nodes.provenance = scene.AddNewNodeByClass("vtkMRMLTextNode", f"{name} request")
    nodes.provenance.SetText(json.dumps(case.provenance, indent=1))
    nodes.provenance.SetForceCreateStorageNode(nodes.provenance.CreateStorageNodeAlways)
    describe(nodes.provenance)
    if case.frames:
        nodes.measurements = sequences.add_table_of_frames(scene, case, name)
        nodes.film += sequences.add_chart(scene, case, name, nodes.measurements)
        for node in (nodes.measurements, *nodes.film):
            describe(node)
        for new in sequences.adding(scene, case, name, nodes.volumes, nodes.maps, nodes.segmentation):
            if new is not None:
                describe(new)
                nodes.film.append(new)
            yield nodes
    elif volumes_ml := case.measurements.get("volumes_ml"):
        columns = {"Structure": list(volumes_ml), "Volume (mL)": list(volumes_ml.values())}
        if had := case.measurements.get("volumes_before_ml"):
            columns["Before (mL)"] = [had[structure] for structure in volumes_ml]
            columns["Change (mL)"] = [volume - had[structure] for structure, volume in volumes_ml.items()]
        nodes.measurements = add_table(scene, columns, f"{name} volumes")
        describe(nodes.measurements)
    nodes.folder = _folder(scene, name, nodes)
    yield nodes


def _describe(node: Any, case: Case, name: str, identity: str) -> None:
    """How the case was made, on every node: a node may leave the scene without the others."""
    node.SetAttribute(CASE, name)
    node.SetAttribute(IDENTITY, identity)
    if case.synthetic:
        node.SetAttribute(SYNTHETIC, MARK)
    if is_left_handed((case.frames[0].case if case.frames else case).affine):
        node.SetAttribute(TURNED, "yes")
    judgements.note(node, case)
    request, bundles = case.provenance.get("request", {}), case.provenance.get("bundles", {})
    # A sweep says the other two in the request that its frames come from.
    facts = {"verb": request.get("verb")} | {key: request.get("of", request).get(key) for key in ("seed", "bundle")}
    if "edited" in case.provenance:
        facts["edited"] = ", ".join(case.provenance["edited"])
    facts["time"] = case.provenance.get("time")
    facts["version"] = case.provenance.get("software", {}).get("braingen")
    for name, bundle in bundles.items():
        facts[f"sha256.{name}"] = bundle["sha256"]
    for key, value in facts.items():
        if value is not None:
            node.SetAttribute(f"BrainGen.{key}", str(value))


def _folder(scene: Any, name: str, nodes: CaseNodes) -> int:
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), name)
    _own(hierarchy, folder, "Folder")
    for node in (node for node in nodes.present if node.GetClassName() in _OWNERS):
        # The application makes an item for every node; without its plugins nobody does (item 0).
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder, node)
        hierarchy.SetItemParent(item, folder)
        _own(hierarchy, item, _OWNERS[node.GetClassName()])
    return folder


def _own(hierarchy: Any, item: int, plugin: str) -> None:
    """Name the plugin that shows an item, where the application has not done so; without one it stays invisible."""
    if not hierarchy.GetItemOwnerPluginName(item):
        hierarchy.SetItemOwnerPluginName(item, plugin)
