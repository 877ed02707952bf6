"""Is a label map a copy of a training case? Nearest-case Dice, beside that between training cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from BrainGenLib.lesions import STRUCTURES


def mean_dice(a: np.ndarray, b: np.ndarray) -> float:
    """Mean Dice over the structures that stand in either of two class maps; lesions and background do not count."""
    joint = np.bincount(
        np.where(a < STRUCTURES, a, 0).ravel().astype(np.int64) * STRUCTURES + np.where(b < STRUCTURES, b, 0).ravel(),
        minlength=STRUCTURES**2,
    ).reshape(STRUCTURES, STRUCTURES)
    sizes = joint.sum(0) + joint.sum(1)
    present = sizes > 0
    present[0] = False
    return float((2 * np.diag(joint)[present] / sizes[present]).mean())


def nearest_dice(classes: np.ndarray, cases: Iterable[np.ndarray]) -> float:
    """Largest mean Dice of a class map with any case. Every second voxel along each axis is compared."""
    thinned = classes[::2, ::2, ::2]
    return max(mean_dice(thinned, case[::2, ::2, ::2]) for case in cases)


def between_cases(cases: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """Nearest-case Dice of up to ``count`` random cases, each with all the others: what is normal among brains."""
    picks = rng.choice(len(cases), size=min(count, len(cases)), replace=False)
    return np.array([nearest_dice(cases[i], (case for j, case in enumerate(cases) if j != i)) for i in picks])
