"""Soft tissue of T1w scans."""

import numpy as np
import pytest

from BrainGenLib import anatomy
from BrainGenLib.methods.soft_tissue import RANGE
from BrainGenLib.training import tissues

THALAMUS = anatomy.classes_of(name="left thalamus")[0]
INTENSITY = {"wm": 200, "gm": 130, "deep_gm": 150, "csf": 40, "background": 0}


@pytest.fixture
def brain() -> tuple[np.ndarray, np.ndarray]:
    """A true class map, its two sides with cortex, CSF, a ventricle and a thalamus, and a shaded, noisy T1w of it."""
    grid = np.indices((64, 64, 64)) - 31.5
    distance, left = np.linalg.norm(grid, axis=0), grid[0] < 0
    classes = np.zeros(distance.shape, np.uint8)
    for radius, names in (
        (30, (tissues.FLUID, tissues.FLUID)),
        (28, tissues.GREY),
        (23, tissues.WHITE),
        (7, tissues.VENTRICLES),
    ):
        classes[distance < radius] = np.where(left, *names)[distance < radius]
    classes[22:26, 30:34, 30:34] = THALAMUS
    classes[:, 46:, 31:33] = np.where(classes[:, 46:, 31:33] > 0, tissues.FLUID, 0)  # a sulcus
    tissue = [label.tissue for label in anatomy.labels()]
    image = np.array([INTENSITY.get(name, 0) for name in tissue])[classes] * (1 + 0.004 * grid[1])
    noisy = image + np.random.default_rng(0).normal(0, 5, image.shape)
    return classes, np.where(classes > 0, noisy.clip(1, 255), 0).astype(np.uint8)


def test_a_soft_map_tells_how_tissues_mix_whatever_the_shading(brain):
    classes, image = brain
    soft = tissues.soft_map(classes, image, 1.0)
    for members, value in ((tissues.VENTRICLES, 0), (tissues.GREY, 0.5), (tissues.WHITE, 1)):
        found = soft[np.isin(classes, members)]
        assert np.median(found) == pytest.approx(value, abs=0.06)
    # Shading makes the posterior half brighter in the scan, not in the map.
    white = np.isin(classes, tissues.WHITE)
    front, back = (
        np.median(soft[white & half])
        for half in (np.indices(classes.shape)[1] < 32, np.indices(classes.shape)[1] >= 32)
    )
    assert front == pytest.approx(back, abs=0.1)
    assert soft[classes == 0].max() == 0
    assert RANGE[0] <= soft.min() <= soft.max() <= RANGE[1]


def test_a_scan_that_does_not_show_the_tissues_apart_has_no_soft_map(brain):
    classes, image = brain
    assert tissues.soft_map(classes, np.where(classes > 0, 100, 0).astype(np.uint8), 1.0) is None
    assert tissues.soft_map(np.zeros_like(classes), image, 1.0) is None
