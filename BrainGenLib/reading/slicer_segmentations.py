"""Segmentations as 3D Slicer saves them (``.seg.nrrd``): the header says what each segment is.

Values and layers of the voxels are Slicer's own: it numbers segments anew when it saves them. What a segment shows is
said by its terminology entry, or else by its name.
https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

from __future__ import annotations

import re

import numpy as np

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput
from BrainGenLib.reading.names import label_named
from BrainGenLib.reading.nrrd import Nrrd
from BrainGenLib.scene import terminology

_ENTRY = re.compile(r"TerminologyEntry:([^|]*)")


def is_segmentation(nrrd: Nrrd) -> bool:
    """Whether the header describes segments."""
    return any(re.fullmatch(r"Segment\d+_ID", key) for key in nrrd.pairs)


def classes_of(name: str, nrrd: Nrrd, lesion: str | None) -> np.ndarray:
    """Class indices (i, j, k), uint8; where segments overlap, lesions win.

    Args:
        name: of the file, for sentences.
        lesion: what a file with one segment (empty ones apart) shows, whatever its name; None goes by terminology and
            names.

    Raises:
        BadInput: a segment is no structure or lesion of the label table, or voxels belong to no segment.
    """
    layers = nrrd.data if nrrd.data.ndim == 4 else nrrd.data[None]
    numbers = sorted(int(match[1]) for key in nrrd.pairs if (match := re.fullmatch(r"Segment(\d{1,5})_ID", key)))
    classes = np.zeros(layers.shape[1:], np.uint8)
    seen = np.zeros(layers.shape, bool)
    shown = 0
    for number in numbers:
        layer = _number(name, nrrd, number, "Layer", number if len(layers) > 1 else 0)
        value = _number(name, nrrd, number, "LabelValue", 1)
        if layer >= len(layers):
            raise BadInput(f"{name} has {len(layers)} layers, but a segment in layer {layer + 1}; save it again.")
        inside = layers[layer] == value
        # An empty segment, as Slicer begins a segmentation with, shows nothing, whatever it is called.
        if not inside.any():
            continue
        shown += 1
        if lesion is not None and shown > 1:
            raise BadInput(
                f"{name} has several segments; which lesion it is can be said of a file with one. Leave it out, and "
                "give each segment its terminology entry."
            )
        seen[layer] |= inside
        index = anatomy.lesions()[lesion].index if lesion else _label(name, nrrd, number).index
        # Lesions are the last classes of the table.
        np.maximum(classes, np.uint8(index), out=classes, where=inside)
    if np.any((layers != 0) & ~seen):
        raise BadInput(f"{name} holds values that belong to none of its segments; save it again from Slicer.")
    return classes


def _number(name: str, nrrd: Nrrd, segment: int, field: str, missing: int) -> int:
    text = nrrd.pairs.get(f"Segment{segment}_{field}", str(missing))
    if not re.fullmatch(r"\d{1,5}", text):
        raise BadInput(f"{name} says {field} {text[:20]!r} of a segment, which is no number; save it again.")
    return int(text)


def _label(name: str, nrrd: Nrrd, number: int) -> anatomy.Label:
    shown = nrrd.pairs.get(f"Segment{number}_Name", nrrd.pairs[f"Segment{number}_ID"])
    entry = _ENTRY.search(nrrd.pairs.get(f"Segment{number}_Tags", ""))
    label = terminology.label_of(entry[1]) if entry else None
    if label is None:
        label = label_named(shown)
    if label is None:
        raise BadInput(
            f"{name}: the segment {shown!r} is no structure or lesion that BrainGen knows; give it a terminology "
            "entry of the list BrainGen, or a name of the label table."
        )
    return label
