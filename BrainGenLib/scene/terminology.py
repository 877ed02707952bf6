"""Segments in coded terms: the label table as Slicer's terminology widget reads it.

A terminology entry is one string of seven parts, ``context ~ category ~ type ~ type modifier ~ region context ~
region ~ region modifier``, each code written ``scheme^value^meaning`` (vtkSlicerTerminologiesModuleLogic). What a
segment shows is the type, its side the type modifier; a lesion also names its anatomic region.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from BrainGenLib.anatomy import Code, Label, labels

CONTEXT = "BrainGen"
REGION_CONTEXT = "Anatomic codes - DICOM master list"

# Slicer's own contexts still write the older code of "Anatomical Structure"; DICOM CID 7150 has 91723000 today.
_CATEGORIES = {
    "structure": Code("SCT", "123037004", "Anatomical Structure"),
    "lesion": Code("SCT", "49755003", "Morphologically Altered Structure"),
}
# DICOM CID 244.
_SIDES = {"left": Code("SCT", "7771000", "Left"), "right": Code("SCT", "24028007", "Right")}


def entry(label: Label) -> str:
    """The serialized terminology entry of a label (not of the background, which is no segment)."""
    side = _SIDES.get(label.side)
    parts = [_CATEGORIES[label.kind], label.code, side, None, label.region, None]
    category, kind, modifier, _, region, region_modifier = ("^".join(code) if code else "^^" for code in parts)
    return "~".join([CONTEXT, category, kind, modifier, REGION_CONTEXT, region, region_modifier])


def label_of(serialized: str) -> Label | None:
    """The label that an entry names, whatever its context; None if the table has no such code and side."""
    parts = serialized.split("~")
    if len(parts) != 7:
        return None
    wanted = [part.split("^")[:2] for part in parts[2:4]]
    for label in labels()[1:]:
        if [part.split("^")[:2] for part in entry(label).split("~")[2:4]] == wanted:
            return label
    return None


def context() -> dict[str, Any]:
    """The label table as a Slicer terminology context (the content of a ``.term.json`` file)."""
    return {
        "SegmentationCategoryTypeContextName": CONTEXT,
        "@schema": "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/segment-context-schema.json#",
        "SegmentationCodes": {
            "Category": [
                {**_json(category), "showAnatomy": kind == "lesion", "Type": _types(kind)}
                for kind, category in _CATEGORIES.items()
            ]
        },
    }


def register(logic: Any) -> None:
    """Offer the label table in Slicer's terminology selector (``slicer.modules.terminologies.logic()``)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{CONTEXT}.term.json"
        file.write_text(json.dumps(context()), "utf-8")
        logic.LoadContextFromFile(str(file))


def _types(kind: str) -> list[dict[str, Any]]:
    types: dict[Code, dict[str, Any]] = {}
    for label in labels():
        if label.kind != kind:
            continue
        shown = {"recommendedDisplayRGBValue": list(label.color), "3dSlicerLabel": label.name}
        if label.side:
            sides = types.setdefault(label.code, {**_json(label.code), "Modifier": []})["Modifier"]
            sides.append({**_json(_SIDES[label.side]), **shown})
        else:
            types[label.code] = {**_json(label.code), **shown}
    return list(types.values())


def _json(code: Code) -> dict[str, str]:
    return {"CodingSchemeDesignator": code.scheme, "CodeValue": code.value, "CodeMeaning": code.meaning}
