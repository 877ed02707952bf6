"""The bundle ``brainspade3d``, which two recipes write to, each its own networks and section of the model card."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from BrainGenLib import bundles


def metadata_of(folder: Path) -> bundles.Metadata:
    """What the bundle says so far; that of an empty one if the folder holds none."""
    if (folder / "configs" / "metadata.json").is_file():
        return bundles.Bundle(folder).metadata
    return bundles.Metadata(
        name="brainspade3d",
        version="0.1.0",
        title="brainSPADE3D",
        description="Brain label maps from conditions, and 1 mm images of them in any contrast.",
        verbs=[],
    )


def save(folder: Path, metadata: bundles.Metadata, networks: dict[str, nn.Module], section: str) -> bundles.Bundle:
    """Write networks, metadata and the card's section (its heading is the first line); all else in it stays."""
    card, licence = "# brainSPADE3D\n", "Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
    if (folder / "docs" / "README.md").is_file():
        card, licence = ((folder / name).read_text("utf-8") for name in ("docs/README.md", "LICENSE"))
    return bundles.save(folder, metadata, networks, with_section(card, section), licence)


def at_level(conditions: list[bundles.Condition], level: Mapping[str, float]) -> list[bundles.Condition]:
    """Conditions of which the logarithms are higher by ``level``; those that it does not name stay."""
    changed = []
    for one in conditions:
        factor = math.exp(level.get(one.name, 0.0))
        values = {name: getattr(one, name) * factor for name in ("minimum", "maximum", "default")}
        changed.append(one.model_copy(update={**values, "marks": [mark * factor for mark in one.marks]}))
    return changed


def percentages(level: Mapping[str, float]) -> str:
    """What differences of logarithms are in percent, by name."""
    return ", ".join(f"{name} {100 * math.expm1(value):+.0f} %" for name, value in level.items())


def with_section(card: str, section: str) -> str:
    """A model card with the section of the same heading replaced, or added at the end."""
    heading = section.splitlines()[0]
    old = re.compile(rf"^{re.escape(heading)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if old.search(card):
        return old.sub(lambda _: section.rstrip() + "\n\n", card).rstrip() + "\n"
    return f"{card.rstrip()}\n\n{section.rstrip()}\n"
