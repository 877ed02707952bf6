"""The label table of the project, read once from ``anatomy.csv``.

A *value* is what stands on disk (FreeSurfer / SynthSeg numbers; lesions have 77 and 901-905). A *class* is the
row number of the table, which networks use as channel index: 0 background, 1-32 structures, 33-38 lesions.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from BrainGenLib.errors import BadInput

TABLE = Path(__file__).with_name("anatomy.csv")


class Code(NamedTuple):
    """A coded concept as DICOM writes it, e.g. ``("SCT", "5366008", "Hippocampus")``."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """One row of the table. ``condition`` is the pathology's name in requests, empty for anatomy.

    ``sct_code`` is SNOMED CT; where SNOMED has no concept it is the nearest parent, and ``dicom`` is the exact code
    of the DICOM standard from another scheme. ``region`` says where a lesion lies.
    """

    index: int
    value: int
    name: str
    kind: str
    tissue: str
    side: str
    condition: str
    color: tuple[int, int, int]
    sct_code: str
    sct_meaning: str
    dicom: Code | None
    region: Code | None

    @property
    def code(self) -> Code:
        """The most exact code there is for what the label shows."""
        return self.dicom or Code("SCT", self.sct_code, self.sct_meaning)


@cache
def labels() -> tuple[Label, ...]:
    """All labels in class order."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(
            Label(
                index=index,
                value=int(row["value"]),
                name=row["name"],
                kind=row["kind"],
                tissue=row["tissue"],
                side=row["side"],
                condition=row["condition"],
                color=(int(row["r"]), int(row["g"]), int(row["b"])),
                sct_code=row["sct_code"],
                sct_meaning=row["sct_meaning"],
                dicom=(
                    Code(row["dicom_scheme"], row["dicom_code"], row["dicom_meaning"]) if row["dicom_code"] else None
                ),
                region=Code("SCT", row["region_code"], row["region_meaning"]) if row["region_code"] else None,
            )
            for index, row in enumerate(csv.DictReader(file))
        )


def lesions() -> dict[str, Label]:
    """Pathology name to its label, in table order."""
    return {label.condition: label for label in labels() if label.kind == "lesion"}


def classes_of(*, tissue: str | None = None, kind: str | None = None, name: str | None = None) -> list[int]:
    """Class indices whose row matches every given field; ``name`` matches either side of a pair."""
    return [
        label.index
        for label in labels()
        if (tissue is None or label.tissue == tissue)
        and (kind is None or label.kind == kind)
        and (name is None or label.name in (name, f"left {name}", f"right {name}"))
    ]


@cache
def mirrored_classes() -> tuple[int, ...]:
    """For every class the class of the other side (itself where there is none): what a left-right flip does."""
    by_name = {label.name: label.index for label in labels()}
    swap = {"left": "right", "right": "left"}
    return tuple(
        by_name[label.name.replace(label.side, swap[label.side], 1)] if label.side else label.index
        for label in labels()
    )


def to_values(classes: np.ndarray) -> np.ndarray:
    """Class indices to on-disk values (uint16)."""
    return np.array([label.value for label in labels()], np.uint16)[classes]


def unknown_values(values: np.ndarray) -> list[int]:
    """Values in ``values`` that the table does not name."""
    known = {label.value for label in labels()}
    return [int(value) for value in np.unique(values) if int(value) not in known]


def to_classes(values: np.ndarray) -> np.ndarray:
    """On-disk values to class indices (uint8).

    Raises:
        BadInput: a value is not in the table.
    """
    if unknown := unknown_values(values):
        raise BadInput(
            f"Label value(s) {', '.join(map(str, unknown[:8]))} are not in the label table; "
            "relabel the segmentation to the values that `braingen info --labels` lists."
        )
    lookup = np.zeros(max(label.value for label in labels()) + 1, np.uint8)
    for label in labels():
        lookup[label.value] = label.index
    return lookup[np.asarray(values).astype(np.int64)]
