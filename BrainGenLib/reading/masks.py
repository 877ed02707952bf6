"""Masks from files: one function decides what belongs to a mask."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput
from BrainGenLib.reading import conventions
from BrainGenLib.reading.names import names_of
from BrainGenLib.reading.volume import Volume, read_volume

BRATS = {1: "tumour", 2: "oedema", 3: "enhancing", 4: "enhancing"}
"""Tumour maps of the BraTS convention, to conditions. From 2024 on 4 is the resection cavity."""
CAVITY = 4
PARTS = {
    "cavity": r"cavity|resect|\brc\b",
    "oedema": r"o?edema|snfh|flair|\bed\b",
    "tumour": r"non.?enh|netc|necro|ncr|core",
    "enhancing": r"enhanc|\bet\b",
}
"""What the parts of a tumour are called in tables, the first that fits."""
OVERSHOOT = 0.5
"""Cubic interpolation of a mask makes values that are so far beyond it, in parts of its value."""
FULL_VALUES = (1.0, 100.0, 255.0)
"""What stands for wholly inside in masks with values between, e.g. probabilities, percent, bytes."""
PLATEAU = 0.1
"""Share of a resampled mask that has its full value; probabilities in percent or bytes may have less: refused."""


def read_mask(path: Path, *, by_sform: bool = False) -> Volume:
    """A mask as bool, true where it is set, or more probable than not.

    Args:
        by_sform: of :func:`~BrainGenLib.reading.volume.read_volume`.

    Raises:
        BadInput: as :func:`~BrainGenLib.reading.volume.read_volume`, or the file holds other values than a mask has.
    """
    volume = read_volume(path, by_sform=by_sform)
    return Volume(_inside(volume.data, path.name), volume.affine)


def read_lesion(path: Path, condition: str, *, cavities: bool = False, by_sform: bool = False) -> Volume:
    """A lesion mask as class indices (uint8) of :mod:`BrainGenLib.anatomy`, 0 outside.

    Masks have one value, whatever it is, or probabilities, of which those above 0.5 count. Tumour maps (``condition``
    is ``tumour``) have the values of BraTS, any subset of them, or are masks of the core.

    Args:
        cavities: whether 4 is a resection cavity, as in BraTS 2024.
        by_sform: of :func:`~BrainGenLib.reading.volume.read_volume`.

    Raises:
        BadInput: as :func:`read_mask`, or a tumour map has values of no convention, or a resection cavity, for which
            there is no class.
    """
    volume = read_volume(path, by_sform=by_sform)
    lesions = anatomy.lesions()
    whole = conventions.whole_numbers(volume.data)
    present = {int(value) for value in np.unique(whole)} - {0} if whole is not None else set()
    meaning = _tumour_parts(path, present, cavities) if condition == "tumour" else {}
    if whole is not None and meaning:
        table = np.zeros(max(meaning) + 1, np.uint8)
        for value, name in meaning.items():
            table[value] = lesions[name].index
        return Volume(table[whole], volume.affine)
    inside = _inside(volume.data, path.name)
    if inside.mean() > 0.5:
        raise BadInput(
            f"{path.name} is set in more than half of its voxels, as no lesion is: is it turned inside out?"
        )
    return Volume(np.where(inside, np.uint8(lesions[condition].index), np.uint8(0)), volume.affine)


def _tumour_parts(path: Path, present: set[int], cavities: bool) -> dict[int, str]:
    """Conditions of the values of a tumour map, by its table or the convention of BraTS; empty for a mask."""
    table = names_of(path)
    if present and present <= set(table):
        parts = {
            value: next((part for part, words in PARTS.items() if re.search(words, table[value].lower())), "")
            for value in present
        }
        if unknown := [table[value] for value in present if not parts[value]]:
            raise BadInput(
                f"{path.name}: its table (dseg.tsv) has {unknown[0]!r}, which is no part of a tumour here."
            )
    elif len(present) > 1 or present <= set(BRATS):
        if unknown := [str(value) for value in sorted(present - set(BRATS))]:
            raise BadInput(
                f"{path.name} holds the value(s) {', '.join(unknown[:8])}; tumour maps have 1 (core), 2 (oedema) and "
                "3 or 4 (enhancing), or one value for the core: relabel it."
            )
        parts = {value: BRATS[value] for value in present}
        if CAVITY in present and (cavities or 3 in present):
            parts[CAVITY] = "cavity"
    else:
        return {}
    if "cavity" in parts.values():
        raise BadInput(
            f"{path.name} holds a resection cavity (as 4 beside 3 is in BraTS 2024), for which BrainGen has no "
            "class; leave the file out, or give the cavity another label of the table."
        )
    return parts


def holds_cavity(path: Path) -> bool:
    """Whether a tumour map shows that its data set numbers as BraTS 2024: 3 and 4 in one map.

    Raises:
        BadInput: as :func:`~BrainGenLib.reading.volume.read_volume`.
    """
    whole = conventions.whole_numbers(read_volume(path, by_sform=True).data)
    return whole is not None and {3, CAVITY} <= set(np.unique(whole).tolist())


def _inside(data: np.ndarray, name: str) -> np.ndarray:
    whole = conventions.whole_numbers(data)
    values = np.nan_to_num(data, posinf=np.inf, neginf=-np.inf) if whole is None else whole
    present = np.unique(values[values != 0])
    if len(present) <= 1:
        return values != 0
    low, high = float(present[0]), float(present[-1])
    for full in FULL_VALUES:
        soft = -OVERSHOOT * full <= low and high <= (1 + OVERSHOOT) * full
        if full == 1:
            soft = soft and whole is None
        else:
            # Fewer values are those of a label map, and a label map has its highest value hardly anywhere.
            near = np.abs(values - full) <= 0.02 * full
            soft = soft and len(present) > 8 and near.sum() > PLATEAU * np.count_nonzero(values > full / 2)
        if soft:
            return values > full / 2
    listed = ", ".join(f"{value:g}" for value in present[:4]) + (", …" if len(present) > 4 else "")
    raise BadInput(
        f"{name} is no mask: beside 0 it holds {listed} up to {high:g}. A mask has one value, or probabilities from "
        "0 to 1; set what belongs to it to 1, and all else to 0."
    )
