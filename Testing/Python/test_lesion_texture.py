"""Texture of rendered lesions: they fade at their border, in all images at the same places."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.methods.lesion_texture import SHARPNESS, SPREAD, LesionTexture

WHITE = anatomy.classes_of(name="cerebral white matter")[0]
FLUID = anatomy.classes_of(name="extraventricular CSF")[0]
OEDEMA, STROKE = (anatomy.lesions()[name].index for name in ("oedema", "stroke"))


@pytest.fixture(scope="module")
def classes() -> np.ndarray:
    """A ball of oedema in white matter that ends at fluid, and a small stroke far away."""
    classes = np.full((70, 60, 50), WHITE, np.uint8)
    axes = np.ix_(*(np.arange(n) for n in classes.shape))
    for middle, radius, index in (((25, 30, 25), 15, OEDEMA), ((62, 50, 10), 4, STROKE)):
        inside = sum((axis - place) ** 2 for axis, place in zip(axes, middle, strict=True)) <= radius**2
        classes[inside] = index
    classes[:12] = FLUID
    return classes


def rendered(classes: np.ndarray, lesion: float, white: float = 0.4) -> np.ndarray:
    table = np.full(len(anatomy.labels()), white, np.float32)
    table[[OEDEMA, STROKE]], table[FLUID], table[0] = lesion, 0.9, 0
    return ndimage.gaussian_filter(table[classes], SHARPNESS)


@pytest.mark.parametrize("lesion", [0.8, 0.2])
def test_contrast_grows_from_the_border_to_the_middle(classes, lesion):
    before = rendered(classes, lesion)
    image = LesionTexture(classes, 1).on(before, "T2w")
    share = (image - 0.4) / (lesion - 0.4)
    depth = ndimage.distance_transform_edt((classes == OEDEMA) | (classes == FLUID))
    within = classes == OEDEMA
    border, middle = (share[within & (depth > low) & (depth <= high)] for low, high in ((1, 2), (8, 12)))
    assert np.median(border) == pytest.approx(0.67, abs=0.12)
    assert np.median(middle) == pytest.approx(1, abs=0.15)
    assert np.median(share[within & (depth > 2)]) == pytest.approx(1, abs=0.1)
    assert middle.std() == pytest.approx(SPREAD, rel=0.5)
    # It falls outwards, without a line around it.
    outside = ndimage.distance_transform_edt(classes != OEDEMA)
    beyond = share[(classes == WHITE) & (outside <= 1)]
    assert np.median(beyond) < np.median(border)
    # Against fluid it ends sharply.
    lost = (image - before)[13, 25:36, 20:31] / (0.4 - lesion)
    assert np.median(lost) < 0.3


@pytest.mark.parametrize("name", list(anatomy.lesions()))
def test_no_lesion_is_one_intensity(name):
    """Multiple sclerosis and white matter hyperintensity were flat slabs."""
    classes = np.full((30, 30, 30), WHITE, np.uint8)
    classes[8:22, 8:22, 8:22] = anatomy.lesions()[name].index
    before = ndimage.gaussian_filter(np.where(classes == WHITE, np.float32(0.4), np.float32(0.7)), SHARPNESS)
    after = LesionTexture(classes, 1).on(before, "T1w")
    inside = ndimage.binary_erosion(classes != WHITE, iterations=3)
    assert before[inside].std() < 0.01
    assert after[inside].std() > 0.3 * SPREAD * 0.3


@pytest.mark.parametrize(("contrast", "white", "fluid"), [("T1w", 0.7, 0.1), ("T2w", 0.3, 0.9), ("FLAIR", 0.6, 0.1)])
def test_a_stroke_is_gliosis_around_a_cavity(contrast, white, fluid):
    """In FLAIR strokes were as grey as tissue."""
    classes = np.full((48, 48, 48), WHITE, np.uint8)
    classes[8:40, 8:40, 8:40] = STROKE
    classes[:5] = FLUID
    table = np.full(len(anatomy.labels()), white, np.float32)
    table[FLUID] = fluid
    # As a renderer has it that has seen none: it does not differ.
    after = LesionTexture(classes, 1).on(table[classes], contrast)
    depth = ndimage.distance_transform_edt(classes == STROKE)
    core, rim = (np.median(after[(depth > low) & (depth <= high)]) for low, high in ((10, 16), (2, 3)))
    assert core == pytest.approx(white + 0.9 * (fluid - white), abs=0.05)
    assert rim > white + 0.05 if contrast != "T1w" else rim < white - 0.1
    assert abs(core - rim) > 0.1


def test_what_is_healthy_stays_and_nothing_leaves_the_range(classes):
    before = rendered(classes, 0.98)
    after = LesionTexture(classes, 1).on(before, "T2w")
    far = ndimage.distance_transform_edt((classes != OEDEMA) & (classes != STROKE)) > 6 * SHARPNESS
    np.testing.assert_array_equal(after[far], before[far])
    assert after.dtype == np.float32
    assert after.min() >= 0
    assert after.max() <= 1
    healthy = np.where(classes == FLUID, FLUID, WHITE).astype(np.uint8)
    image = rendered(healthy, 0.8)
    assert LesionTexture(healthy, 1).on(image, "T2w") is image


def test_contrasts_of_a_case_differ_at_the_same_places(classes):
    texture = LesionTexture(classes, 1)
    dark, bright = texture.on(rendered(classes, 0.2), "T1w"), texture.on(rendered(classes, 0.8), "T2w")
    inside = ndimage.binary_erosion(classes == OEDEMA, iterations=5)
    assert np.corrcoef(dark[inside], bright[inside])[0, 1] < -0.95
    other = LesionTexture(classes, 2).on(rendered(classes, 0.8), "T2w")
    assert abs(np.corrcoef(other[inside], bright[inside])[0, 1]) < 0.5


def test_where_there_is_most_water_flair_is_darker_again(classes):
    texture, before = LesionTexture(classes, 1), rendered(classes, 0.6)
    t2w, flair = texture.on(before, "T2w"), texture.on(before, "FLAIR")
    inside = ndimage.binary_erosion(classes == OEDEMA, iterations=3)
    low, middle, high = np.percentile(t2w[inside], (5, 40, 98))
    at = [np.median(flair[inside & (np.abs(t2w - value) < 0.01)]) for value in (low, middle, high)]
    assert at[0] < at[1] - 0.01
    assert at[2] < at[1] - 0.01


def test_over_grey_matter_that_looks_the_same_a_lesion_is_no_more_even(classes):
    """T1w of a glioma at the intensity of grey matter was flat."""
    grey = anatomy.classes_of(name="cerebral cortex")[0]
    over = classes.copy()
    near = ndimage.binary_dilation(classes == OEDEMA, iterations=4) & (classes == WHITE)
    over[near] = grey
    table = np.full(len(anatomy.labels()), 0.8, np.float32)
    table[[OEDEMA, STROKE, grey]], table[FLUID] = 0.5, 0.1
    after = LesionTexture(over, 1).on(ndimage.gaussian_filter(table[over], SHARPNESS), "T1w")
    inside = ndimage.binary_erosion(classes == OEDEMA, iterations=5)
    assert after[inside].std() > 0.5 * SPREAD * 0.3


def test_a_lesion_does_not_change_with_another(classes):
    alone = np.where(classes == STROKE, WHITE, classes).astype(np.uint8)
    both, one = (LesionTexture(each, 1).on(rendered(each, 0.8), "T2w") for each in (classes, alone))
    np.testing.assert_allclose(both[classes == OEDEMA], one[classes == OEDEMA], atol=1e-4)


def test_a_map_of_lesions_alone_is_left_as_it_is():
    classes = np.full((20, 20, 20), OEDEMA, np.uint8)
    image = rendered(classes, 0.8)
    np.testing.assert_array_equal(LesionTexture(classes, 1).on(image, "T2w"), image)
