"""The contrast of a scan, from how bright its fluid and its cortex are beside its white matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput

FLUID = (0.8, 1.6)
"""Ventricles / white matter: darker than the first in T1w and FLAIR, brighter than the second in T2w, else PDw."""
CORTEX = 0.76
"""Cortex / white matter: darker in T1w, brighter in FLAIR (`benchmarks/counterfactuals.py` counts how often)."""


def recognise(image: np.ndarray, classes: np.ndarray, among: Sequence[str]) -> str:
    """Name the contrast of a brain: T1w, T2w, FLAIR or PDw. A T1w scan with contrast agent counts as T1w.

    Args:
        image: (R, A, S) on the grid of ``classes``, 0 is black.
        classes: class map at 1 mm.
        among: contrasts that it may be.

    Raises:
        BadInput: there is no ventricle or no white matter to look at, or it looks like none of them.
    """
    white, cortex, ventricles = (
        np.isin(classes, anatomy.classes_of(name=name))
        for name in ("cerebral white matter", "cerebral cortex", "lateral ventricle")
    )
    # Without the border, which is a mixture; cortex is nothing but border.
    white, ventricles = ndimage.binary_erosion(white), ndimage.binary_erosion(ventricles)
    if not (white.any() and cortex.any() and ventricles.any()):
        raise BadInput(f"The contrast of the scan cannot be recognised; name it ({', '.join(among)}).")
    bright = max(float(np.median(image[white])), 1e-6)
    fluid = float(np.median(image[ventricles])) / bright
    if fluid > FLUID[1]:
        found = "T2w"
    elif fluid > FLUID[0]:
        found = "PDw"
    else:
        found = "T1w" if float(np.median(image[cortex])) / bright < CORTEX else "FLAIR"
    if found not in among:
        raise BadInput(f"The scan looks like {found}; if it is not, name its contrast ({', '.join(among)}).")
    return found
