"""A copy of a case's labels that may be edited: the case itself stays as it was made."""

from __future__ import annotations

import json
from typing import Any

from BrainGenLib.case import Case
from BrainGenLib.scene.case_to_scene import CASE, MARK, SYNTHETIC, TURNED, CaseNodes, add_case
from BrainGenLib.scene.cases import free_name, nodes_of
from BrainGenLib.scene.changes import remember
from BrainGenLib.scene.segmentation import label_map_of
from BrainGenLib.scene.showing import image_of
from BrainGenLib.scene.volumes import turned

_EDITED = "edited"


def is_copy(segmentation: Any) -> bool:
    """Whether a segmentation is one that :func:`copy_to_edit` made."""
    return segmentation.GetAttribute(f"BrainGen.{_EDITED}") is not None


def copy_to_edit(scene: Any, segmentation: Any) -> CaseNodes:
    """Add a copy of a case's segmentation as a case without images, ``NAME edited``, over the image that it had.

    Args:
        scene: vtkMRMLScene.
        segmentation: node of a case.

    Raises:
        BadInput: as :func:`BrainGenLib.scene.segmentation.label_map_of`.
    """
    name = segmentation.GetAttribute(CASE)
    nodes = nodes_of(scene, name)
    image = image_of(nodes)
    labels, affine = label_map_of(segmentation, image)
    if segmentation.GetAttribute(TURNED):
        labels, affine = turned(labels, affine)
    made = json.loads(nodes.provenance.GetText()) if nodes.provenance is not None else {}
    case = Case({}, labels, affine, provenance=made | {_EDITED: ["labels"]})
    case.synthetic = segmentation.GetAttribute(SYNTHETIC) == MARK
    copy = add_case(scene, case, free_name(scene, f"{name} {_EDITED}"))
    if image is not None:
        remember(copy, image)
    return copy
