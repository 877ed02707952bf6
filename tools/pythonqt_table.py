"""What PythonQt offers of a class of CTK or Slicer: pythonqt_table.json, which pythonqt_headers.py wrote.

The table holds what all versions of Slicer that it names have in common.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")
PREFIXES = ("ctk", "qMRML", "qSlicer")


@dataclass(frozen=True)
class Offer:
    """The members of a class, inherited ones of CTK and Slicer included.

    Attributes:
        properties: Q_PROPERTYs.
        read_only: those that cannot be set.
        slots: names of public slots.
        methods: names of public invokables, and of what decorators add.
        signals: normalised signatures.
        enums: names of enums and of their values.
        qt: names that the Qt class at the end of the chain has besides.
        arguments: how many the constructor takes at most; None if there is no constructor.
    """

    properties: frozenset[str]
    read_only: frozenset[str]
    slots: frozenset[str]
    methods: frozenset[str]
    signals: frozenset[str]
    enums: frozenset[str]
    qt: frozenset[str]
    arguments: int | None

    @property
    def own(self) -> frozenset[str]:
        """Every name that CTK or Slicer gives to the class."""
        signals = {signature.partition("(")[0] for signature in self.signals}
        return self.properties | self.slots | self.methods | self.enums | signals


@functools.cache
def table() -> dict[str, Any]:
    """The file: class -> what it declares itself, and ``slicer`` -> versions."""
    return json.loads(FILE.read_text("utf-8"))


@functools.cache
def offer(name: str) -> Offer | None:
    """What a class of CTK or Slicer offers; None if it is not one that all versions have."""
    if not name.startswith(PREFIXES) or name not in table():
        return None
    chain = [name]
    while (base := table()[chain[-1]].get("base")) in table():
        chain.append(base)
    own = [table()[kind] for kind in chain if kind.startswith(PREFIXES)]
    qt = [table()[kind] for kind in chain if not kind.startswith(PREFIXES)]
    parts = {
        field.name: frozenset(member for entry in own for member in entry.get(field.name, ()))
        for field in fields(Offer)
        if field.name not in ("qt", "arguments")
    }
    # A class may make writable what its base lets nobody write.
    declared = {
        name: name in entry.get("read_only", ()) for entry in own[::-1] for name in entry.get("properties", ())
    }
    parts["read_only"] = frozenset(name for name, fixed in declared.items() if fixed)
    names = frozenset(member for entry in qt for member in entry["methods"])
    return Offer(**parts, qt=names, arguments=own[0].get("new"))
