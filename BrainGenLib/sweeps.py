"""What a sweep shows beside its pictures: which of its frames are the best compromises.

A counterfactual is to reach what was asked for (``flip``) and to leave the scan what it is (``identity``); drift,
strength and guidance trade one for the other (Yeganeh et al., CVPR 2025, arXiv 2412.20651, section 3.3: min-max).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from BrainGenLib.bundles import Metadata
from BrainGenLib.requests import MOST_MASS_EFFECT, Sweep, sweepable

if TYPE_CHECKING:
    from BrainGenLib.case import Case, Frame

SETTINGS = {"drift": "standard deviations", "strength": "share of the noise", "guidance": "", "mass_effect": "mm"}
"""What may be swept over beside conditions, and its unit."""
FRAMES = 7
"""How many frames front ends offer."""
_OFFERED = {
    "drift": (-2.0, 2.0, "SD"),
    "strength": (0.1, 1.0, ""),
    "guidance": (0.0, 4.0, ""),
    "mass_effect": (0.0, MOST_MASS_EFFECT, "mm"),
}


@dataclass(frozen=True)
class Axis:
    """What a front end offers to sweep over, and between which values.

    ``label`` and the short ``unit`` are what a user reads. ``wanted`` says that it is a condition: a counterfactual
    needs no other wish then.
    """

    name: str
    label: str
    unit: str
    minimum: float
    maximum: float
    wanted: bool

    def values(self, start: float, stop: float, count: int) -> list[float]:
        """Values that are equally far from each other, none out of range."""
        # Afterwards: what is rounded at the end of the range may lie beyond it.
        return [min(max(value, self.minimum), self.maximum) for value in spaced(start, stop, count)]


def axes(verb: str, bundle: Metadata, contrasts: Sequence[str]) -> list[Axis]:
    """What a sweep over frames of that verb may vary in these contrasts: settings, then conditions."""
    able = sweepable(verb, bundle)
    found = [
        Axis(name, name.replace("_", " "), unit, low, high, False)
        for name, (low, high, unit) in _OFFERED.items()
        if name in able
    ]
    for one in bundle.conditions:
        if one.name in able and (not one.contrasts or set(contrasts) <= set(one.contrasts)):
            # A load is no number that has a unit.
            unit = "" if one.kind == "pathology" else one.short_unit
            found.append(Axis(one.name, one.label, unit, one.minimum, one.maximum, True))
    return found


def spaced(start: float, stop: float, count: int) -> list[float]:
    """Values that are equally far from each other, without the rounding error of steps such as 0.1."""
    return [float(f"{value:.10g}") for value in np.linspace(start, stop, count)]


def flip(case: Case) -> float | None:
    """How much of what was asked for a counterfactual has reached, 1 is all; the mean over its judges, if any."""
    shares = case.measurements.get("reached", {}).values()
    return sum(shares) / len(shares) if shares else None


def identity(case: Case) -> float:
    """How much of the scan is left in a counterfactual: structural similarity."""
    return case.measurements["similarity"]["ssim"]


def measured(request: Sweep, bundle: Metadata, frames: Sequence[Frame]) -> dict[str, Any]:
    """What a sweep was over, and its :func:`compromises`."""
    units = SETTINGS | {condition.name: condition.unit for condition in bundle.conditions}
    return {"over": request.over, "unit": units[request.over], **compromises(request.over, frames)}


def compromises(over: str, frames: Sequence[Frame]) -> dict[str, Any]:
    """Of a sweep over a setting, all of whose frames are counterfactuals that can be judged, the numbers (from 1) of
    the frames on the Pareto front and the best of them."""
    losses = [
        (abs(1 - share), 1 - identity(frame.case)) for frame in frames if (share := flip(frame.case)) is not None
    ]
    if over not in SETTINGS or len(losses) < len(frames):
        return {}
    front = pareto_front(losses)
    return {"front": [index + 1 for index in front], "best": best_of(losses, front) + 1}


def pareto_front(losses: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the pairs that no other one beats: none is smaller in one and not larger in the other."""
    return [
        index
        for index, (one, two) in enumerate(losses)
        if not any(a <= one and b <= two and (a < one or b < two) for a, b in losses)
    ]


def best_of(losses: Sequence[tuple[float, float]], front: Sequence[int]) -> int:
    """The index on a Pareto front whose larger loss is smallest, each scaled to 0 to 1 between the front's ends."""
    lows = [min(losses[index][kind] for index in front) for kind in (0, 1)]
    highs = [max(losses[index][kind] for index in front) for kind in (0, 1)]

    def larger(index: int) -> float:
        return max((losses[index][kind] - lows[kind]) / max(highs[kind] - lows[kind], 1e-12) for kind in (0, 1))

    return min(front, key=larger)
