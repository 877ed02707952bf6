"""What a BIDS tree says of the person on a scan."""

from __future__ import annotations

import csv
import re
from pathlib import Path

SEXES = {"f": 0.0, "female": 0.0, "m": 1.0, "male": 1.0}


def read(bids: Path) -> dict[str, dict[str, str]]:
    """The rows of ``participants.tsv`` by participant, without what is not known; empty if there is no such file.

    Raises:
        ValueError: the file has no column ``participant_id``.
    """
    path = bids / "participants.tsv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if rows and "participant_id" not in rows[0]:
        raise ValueError(f"{path} has no column participant_id; columns must be separated by tabs.")
    return {row["participant_id"]: {k: v for k, v in row.items() if v and v != "n/a"} for row in rows}


def conditions_of(scan: Path) -> dict[str, float]:
    """``age`` in years and ``sex`` (0 female, 1 male) of a scan in a BIDS tree, as far as they are told.

    Raises:
        ValueError: as :func:`read`.
    """
    found: dict[str, float] = {}
    subject = re.match(r"sub-[A-Za-z0-9]+", scan.name)
    tree = next((folder for folder in scan.resolve().parents if (folder / "participants.tsv").is_file()), None)
    if subject is None or tree is None:
        return found
    row = read(tree).get(subject[0], {})
    # BIDS lets ages above 89 be written as "89+".
    if re.fullmatch(r"\d+(\.\d+)?\+?", row.get("age", "")):
        found["age"] = float(row["age"].rstrip("+"))
    if (sex := row.get("sex", "").lower()) in SEXES:
        found["sex"] = SEXES[sex]
    return found
