"""Labels by the names that other tools give them, and the tables of BIDS in which these stand."""

from __future__ import annotations

import re
from pathlib import Path

from BrainGenLib import anatomy
from BrainGenLib.reading.tables import read_table

# FreeSurfer's names where they are not those of the label table, without what is no letter or digit.
_NAMES = {
    "3rdventricle": "third ventricle",
    "4thventricle": "fourth ventricle",
    "csf": "extraventricular CSF",
    "wmhypointensities": "white matter hyperintensity",
    "whitematterhyperintensities": "white matter hyperintensity",
    "mslesion": "multiple sclerosis lesion",
    "mslesions": "multiple sclerosis lesion",
    **{f"{side}thalamusproper": f"{side} thalamus" for side in ("left", "right")},
    **{f"{side}inflatvent": f"{side} inferior lateral ventricle" for side in ("left", "right")},
    **{f"{side}ventraldc": f"{side} ventral diencephalon" for side in ("left", "right")},
    **{f"{side}cerebellumcortex": f"{side} cerebellar cortex" for side in ("left", "right")},
    **{f"{side}cerebellumwhitematter": f"{side} cerebellar white matter" for side in ("left", "right")},
}


_SPELLINGS = {"l": "left", "lh": "left", "r": "right", "rh": "right", "tumor": "tumour", "edema": "oedema"}


def label_named(name: str) -> anatomy.Label | None:
    """The label of the table that a name means; None if there is none.

    A side may stand before or behind the structure, and be one letter.
    """
    labels = anatomy.labels()[1:]
    known = {_plain(label.condition): label for label in labels if label.condition}
    known |= {_plain(label.name): label for label in labels}
    words = [_SPELLINGS.get(word, word) for word in re.findall(r"[a-z0-9]+", name.lower())]
    plain = "".join(sorted(words, key=lambda word: word not in ("left", "right")))
    return known.get(_plain(_NAMES.get(plain, plain)))


def names_of(path: Path) -> dict[int, str]:
    """What the values of a label map of a BIDS tree are called; empty if there is no table of them.

    The table (``…_dseg.tsv``) has the entities of the file or some of them, and lies beside it or in a folder above;
    the nearest with the most entities is used.

    Raises:
        BadInput: as :func:`~BrainGenLib.reading.tables.read_table`.
    """
    parts = set(path.name.split(".nii")[0].split("_"))
    folders = [path.parent]
    while any(part.startswith("sub-") for part in folders[-1].parts):
        folders.append(folders[-1].parent)
    for folder in folders:
        tables = [table for table in folder.glob("*dseg.tsv") if set(table.stem.split("_")) <= parts]
        if tables:
            _, rows = read_table(max(tables, key=lambda table: table.stem.count("_")))
            return {
                int(row["index"]): row["name"]
                for row in rows
                if row.get("name") and re.fullmatch(r"\d{1,6}", row.get("index", ""))
            }
    return {}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
