"""A toy brain: its labels, and what a scan of it looks like."""

from __future__ import annotations

import numpy as np

from BrainGenLib import anatomy, spaces

NORMATIVE = {
    "curves": {
        "ventricles": {"mean": [3.4, 0.4, 0.1, 0.0], "log_spread": [-1.0, 0.1]},
        "brain": {"mean": [7.0, -0.04, -0.02, -0.1], "log_spread": [-3.4, 0.3]},
    },
    "correlation": -0.4,
    "age_quantiles": [20.0, 50.0, 90.0],
    "male": 0.5,
    "studies": {"one": {"people": 50, "level": {"ventricles": 0.0, "brain": 0.0}}},
}
"""Volumes by age and sex of the tiny brainspade3d: ventricles grow with age, men's brains are smaller."""


def phantom() -> np.ndarray:
    """Class map of a toy brain on GRID_2MM: cortex around white matter around ventricles, in both halves."""
    from scipy import ndimage

    _, brain = spaces.template()
    depth = ndimage.distance_transform_edt(brain)
    layers = np.select([depth > 16, depth > 3, depth > 0], [2, 1, 0], -1)
    pairs = [
        anatomy.classes_of(name=name) for name in ("cerebral cortex", "cerebral white matter", "lateral ventricle")
    ]
    left, right = np.array([*pairs, [0, 0]], np.uint8).T
    # Left is where x is negative: the first half of the grid.
    middle = brain.shape[0] // 2
    return np.concatenate([left[layers[:middle]], right[layers[middle:]]])


def phantom_image(classes: np.ndarray, white: float = 0.9, grey: float = 0.6, fluid: float = 0.2) -> np.ndarray:
    """Float32 image of a class map in which three tissues have these intensities."""
    table = np.zeros(len(anatomy.labels()), np.float32)
    for tissue, value in (("wm", white), ("gm", grey), ("csf", fluid)):
        table[anatomy.classes_of(tissue=tissue)] = value
    return table[classes]
