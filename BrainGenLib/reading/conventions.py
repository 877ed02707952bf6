"""Label maps of the conventions in use to the classes of :mod:`BrainGenLib.anatomy`.

Understood: the project's own values, FreeSurfer's aseg, aparc+aseg, aparc.a2009s+aseg and wmparc, SAMSEG's, and
SynthSeg's, those of its generator for whole heads among them. Extra-cerebral tissue becomes class 64 + its position
in :data:`EXTRA_CEREBRAL`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput
from BrainGenLib.reading import names

EXTRA_CEREBRAL = (502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530, 165, 258, 259)
FIRST_EXTRA = 64
CSF = 24
WHOLE = 0.01
"""Values as near to whole numbers as this are whole: float files hold 2.9999 for 3."""
SMALL = 8
"""Numbers up to this are those of any numbering; of FreeSurfer they would be white matter, cortex, ventricles and
cerebellum, without anything else."""

# Values that are another value of the table under a second name: lesion (99 is SAMSEG's) and white-matter
# hypointensity; chambers and choroid plexus of the lateral ventricles.
SYNONYMS = {25: 77, 57: 77, 78: 77, 79: 77, 99: 77, 136: 4, 31: 4, 163: 43, 63: 43, 137: 5, 164: 44}
# Parcels of cortex and of white matter, first and last value: of Desikan and Killiany, and of Destrieux.
PARCELS = (
    *((1000, 1035, 3), (2000, 2035, 42), (3000, 3035, 2), (4000, 4035, 41), (5001, 5001, 2), (5002, 5002, 41)),
    *((11100, 11175, 3), (12100, 12175, 42), (13100, 13175, 2), (14100, 14175, 41)),
)
# Values that become the nearest of some others (None: of all structures): chiasm, callosum, then vessels, fifth
# ventricle and what FreeSurfer leaves undetermined.
NEAREST: dict[int, tuple[int, ...] | None] = {
    85: (28, 60),
    **dict.fromkeys(range(251, 256), (2, 41)),
    **dict.fromkeys((29, 30, 61, 62, 72, 80, 81, 82, 192), None),
}


def structures(values: np.ndarray) -> np.ndarray:
    """On-disk values of any understood convention to class indices, extra-cerebral tissue from 64 on (uint8).

    Raises:
        BadInput: a value is in none of the conventions, or all of them are the first numbers of any numbering.
    """
    values = _whole(np.asarray(values))
    present = np.unique(values)
    if 0 < present.max() <= SMALL:
        raise BadInput(
            f"it has the labels {', '.join(str(value) for value in present if value)}, which mean another thing in "
            "every tool. Relabel it to the values of the label table; of a tumour map of BraTS say that it is a "
            "tumour (--lesion-as tumour)."
        )
    lookup = {int(value): int(value) for value in present}
    for value in lookup:
        lookup[value] = SYNONYMS.get(value, value)
        for first, last, label in PARCELS:
            if first <= value <= last:
                lookup[value] = label
    table = np.array([lookup[int(value)] for value in present], np.int32)
    odd = [v for v in lookup if v in EXTRA_CEREBRAL or v in NEAREST]
    table[np.isin(present, odd)] = 0
    positions = np.searchsorted(present, values)
    classes = anatomy.to_classes(table).astype(np.uint8)[positions]
    for value in odd:
        here = values == value
        if value in EXTRA_CEREBRAL:
            classes[here] = FIRST_EXTRA + EXTRA_CEREBRAL.index(value)
        else:
            targets = NEAREST[value]
            wanted = None if targets is None else [int(c) for c in anatomy.to_classes(np.array(targets))]
            fill_nearest(classes, here, wanted)
    return classes


def whole_numbers(values: np.ndarray) -> np.ndarray | None:
    """Values as integers where all are whole, to rounding; None if they are not.

    NaN counts as 0: many tools write it outside of a brain.
    """
    if values.dtype.kind in "iu":
        return values
    if np.isinf(values).any():
        return None
    values = np.nan_to_num(values)
    rounded = np.rint(values)
    return rounded.astype(np.int64) if np.all(np.abs(values - rounded) <= WHOLE) else None


def _whole(values: np.ndarray) -> np.ndarray:
    whole = whole_numbers(values)
    if whole is None:
        raise BadInput("it is not a segmentation: it holds values that are not whole numbers.")
    if (highest := max(abs(int(whole.min())), abs(int(whole.max())))) > np.iinfo(np.int32).max:
        raise BadInput(f"label values reach to {highest}, which no convention has.")
    return whole.astype(np.int32)


def structures_of(path: Path, values: np.ndarray) -> np.ndarray:
    """As :func:`structures`, of a file of a BIDS tree: by the names that a table beside it gives to its values.

    Raises:
        BadInput: as :func:`structures`, or the table has names that are not those of a convention.
    """
    values = _whole(np.asarray(values))
    present = [int(value) for value in np.unique(values) if value]
    table = names.names_of(path)
    named = {value: label for value in present if value in table and (label := names.label_named(table[value]))}
    if present and len(named) == len(present):
        lookup = np.zeros(max(named) + 1, np.uint8)
        for value, label in named.items():
            lookup[value] = label.index
        return lookup[values]
    # FreeSurfer has names that the label table lacks; by the others it is FreeSurfer.
    odd = [value for value, label in named.items() if label.value != SYNONYMS.get(value, value)]
    if not named:
        odd = [value for value in present if value in table]
    if odd:
        raise BadInput(
            f"its table (dseg.tsv) calls {odd[0]} {table[odd[0]]!r}, and not all of its names are known here; "
            "relabel it to the values that `braingen info --labels` lists."
        )
    return structures(values)


def fill_nearest(classes: np.ndarray, where: np.ndarray, wanted: Sequence[int] | None = None) -> None:
    """Give the voxels ``where`` the class of the nearest ``wanted`` one (None: any structure), in place."""
    if not where.any():
        return
    if wanted is None:
        csf = int(anatomy.to_classes(np.array([CSF]))[0])
        wanted = [c for c in anatomy.classes_of(kind="structure") if c != csf]
    for box in ndimage.find_objects(ndimage.label(ndimage.binary_dilation(where, iterations=3))[0]):
        for reach in (4, 40):
            slices = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
            sources = np.isin(classes[slices], wanted) & ~where[slices]
            if sources.any():
                nearest = ndimage.distance_transform_edt(~sources, return_distances=False, return_indices=True)
                found = classes[slices][tuple(nearest)]
                inside = where[slices]
                classes[slices][inside] = found[inside]
                break


def one_sided(classes: np.ndarray) -> bool:
    """Whether left and right are merged into the left classes."""
    present = set(np.unique(classes).tolist())
    sides = {label.side for label in anatomy.labels() if label.index in present}
    return "left" in sides and "right" not in sides
