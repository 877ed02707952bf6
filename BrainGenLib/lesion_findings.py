"""What is known of the lesions of a scan before it is changed, in a sentence for page and panel; no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from BrainGenLib import anatomy
from BrainGenLib.bundles import Metadata

LEAST_ML = 0.05
"""A smaller lesion, or change of one, counts as none."""


def described(found_ml: Mapping[str, float], removed: Collection[str], segmenter: Metadata | None) -> str:
    """Which lesions a segmentation of a scan holds, what that is worth, and which are not there to be taken away.

    Args:
        found_ml: volume by name of the pathology, mL.
        removed: pathologies that are to go.
        segmenter: the bundle that found them; None for a segmentation by the user, which is taken at its word.
    """
    names = {name: label.name for name, label in anatomy.lesions().items()}
    present = [f"{volume:.2g} mL {names[name]}" for name, volume in found_ml.items() if volume >= LEAST_ML]
    who = "The segmenter finds" if segmenter else "The segmentation has"
    parts = [f"{who} {_listed(present) if present else 'no lesion'}."]
    gone = [names[name] for name in removed if found_ml.get(name, 0.0) < LEAST_ML]
    if gone:
        parts.append(f"Nothing to take away: no {' and no '.join(gone)}.")
    if segmenter:
        measured = [
            f"{score:.2f} for {names[name]}" for name, score in segmenter.lesion_dice.items() if name in names
        ]
        if measured:
            parts.append(f"It misses many: on held-out scans its mean Dice is {_listed(measured)} (1 is perfect).")
        parts.append("A segmentation of the lesions by a reader is surer.")
    return " ".join(parts)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
