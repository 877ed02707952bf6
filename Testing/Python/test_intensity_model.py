from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from BrainGenLib import spaces
from BrainGenLib.methods.intensity_model import CORTEX, FLUID, WHITE, sharpen


@pytest.fixture(scope="module")
def truth():
    """A ball of white matter in cortex in fluid, with grooves of fluid in the cortex."""
    grid = np.indices((80, 80, 80)) - 39.5
    radius = np.sqrt((grid**2).sum(0))
    angle = np.arctan2(grid[1], grid[0])
    classes = np.select([radius < 22, radius < 32, radius < 35], [WHITE[0], CORTEX[0], FLUID], 0).astype(np.uint8)
    classes[(np.cos(6 * angle) > 0.8) & (radius > 26) & (radius < 32)] = FLUID
    return classes


def paint(classes, white, cortex, fluid):
    rng = np.random.default_rng(0)
    image = np.select([classes == c for c in (WHITE[0], CORTEX[0], FLUID)], [white, cortex, fluid], 0.0)
    shading = 1 + 0.2 * np.linspace(-1, 1, 80)[:, None, None]
    return np.where(classes > 0, image * shading + 0.03 * rng.standard_normal(classes.shape), 0).astype(np.float32)


@pytest.mark.parametrize("look", [(0.9, 0.6, 0.2), (0.3, 0.5, 0.9), (0.6, 0.8, 0.15)])
def test_borders_and_grooves_are_found_in_any_contrast(truth, look):
    rough = truth.copy()
    rough[(truth == FLUID) & (ndimage.distance_transform_edt(truth > 0) > 4)] = CORTEX[0]  # the grooves are lost
    white = ndimage.binary_dilation(truth == WHITE[0], iterations=2)
    rough[white] = WHITE[0]
    found = sharpen(rough, paint(truth, *look))
    for index in (WHITE[0], CORTEX[0], FLUID):
        before, after = (spaces.dice(part == index, truth == index) for part in (rough, found))
        assert after > max(before, 0.93)
    assert ((found > 0) == (rough > 0)).all()


def test_lesions_stay_and_a_map_without_white_matter_is_left_alone(truth):
    image = paint(truth, 0.9, 0.6, 0.2)
    lesioned = truth.copy()
    lesioned[36:44, 36:44, 36:44] = 33
    assert ((sharpen(lesioned, image) == 33) == (lesioned == 33)).all()
    bare = np.where(truth == WHITE[0], 0, truth)
    assert (sharpen(bare, image) == bare).all()
    empty = np.zeros_like(truth)
    assert (sharpen(empty, image) == empty).all()
