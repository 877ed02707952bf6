"""Measures of cortex and image against shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.evaluation import cortex, grain

WHITE, CORTEX = (anatomy.classes_of(name=f"cerebral {name}")[0] for name in ("white matter", "cortex"))
PLACES = np.stack(np.meshgrid(*[np.arange(80.0) - 39.5] * 3, indexing="ij"))
RADIUS = np.sqrt((PLACES**2).sum(0))


def ball(cortex_mm: float = 3) -> np.ndarray:
    """White matter of radius 25 mm with cortex around."""
    return np.select([RADIUS < 25, cortex_mm > RADIUS - 25], [WHITE, CORTEX]).astype(np.uint8)


def test_a_ball_has_the_thickness_of_its_shell_and_no_folds():
    found = cortex.cortex_measures(ball(4))
    assert set(found) == set(cortex.MEASURES)
    assert found["gyrification"] == pytest.approx(1, abs=0.02)
    assert found["thickness, median (mm)"] == pytest.approx(4, abs=0.4)
    assert found["thickness, sd (mm)"] < 0.5
    assert found["white matter (mL)"] == pytest.approx(4 / 3 * np.pi * 25**3 / 1000, rel=0.01)
    assert (found["Euler number"], found["parts of white matter"]) == (1, 1)


def test_a_groove_is_an_open_sulcus_of_its_depth_and_folds_white_matter():
    x, y, _ = PLACES
    classes = ball()
    groove = (np.abs(x) < 2) & (y > 8)
    classes[ndimage.binary_dilation(groove, iterations=3) & (classes == WHITE)] = CORTEX
    classes[groove] = 0
    found, plain = cortex.cortex_measures(classes), cortex.cortex_measures(ball())
    assert found["gyrification"] > plain["gyrification"] + 0.1
    # The hull of 2 mm has a rim around the smoothest of brains.
    assert found["open sulci (mL)"] - plain["open sulci (mL)"] == pytest.approx(
        (groove & (RADIUS < 28)).sum() / 1000, rel=0.15
    )
    depths = (28 - RADIUS)[groove & (RADIUS < 28)]
    assert found["sulcal depth, 95 % (mm)"] == pytest.approx(np.percentile(depths, 95), abs=2)


def test_euler_number_counts_parts_handles_and_cavities():
    x, y, z = PLACES
    ring = np.square(np.hypot(x, y) - 20) + z**2 < 36
    two = ring | (np.abs(PLACES - 36).max(0) < 2)
    hollow = (RADIUS < 10) & (RADIUS > 5)
    assert [cortex.euler_number(mask) for mask in (ring, two, hollow)] == [0, 1, 2]


def test_noise_makes_a_border_ragged():
    smooth = RADIUS < 25
    noise = np.random.default_rng(0).random(smooth.shape) < 0.3
    ragged = smooth & ~(noise & ~ndimage.binary_erosion(smooth))
    assert cortex.raggedness(ragged) > 2 * cortex.raggedness(smooth)


def test_a_map_without_cortex_cannot_be_measured():
    with pytest.raises(ValueError, match="no cerebral cortex"):
        cortex.cortex_measures(np.where(RADIUS < 25, WHITE, 0).astype(np.uint8))


def test_blur_takes_fine_power_noise_and_gradients_away():
    rng = np.random.default_rng(0)
    classes = ball()
    tissue = np.where(classes == WHITE, 1, 0.5) + 0.05 * rng.standard_normal(classes.shape)
    sharp, blurred = (grain.grain_measures(t, classes) for t in (tissue, ndimage.gaussian_filter(tissue, 1)))
    assert set(sharp) == set(grain.MEASURES)
    # What a Gaussian of one voxel leaves of white noise is 4 %.
    assert sharp["noise in deep white matter"] == pytest.approx(0.05, rel=0.1)
    assert sharp["variation in deep white matter"] == pytest.approx(0.05, rel=0.1)
    for name in ("slope of the spectrum", "power at 0.2-0.3 /mm (%)", "gradient, median (/mm)"):
        assert blurred[name] < sharp[name]
    assert blurred["noise in deep white matter"] < 0.2 * sharp["noise in deep white matter"]


def test_the_slope_of_a_power_law_is_found():
    shape = (64, 64, 64)
    axes = np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij")
    frequency = np.maximum(np.sqrt(sum(a**2 for a in axes)), 1 / 64)
    noise = np.fft.fftn(np.random.default_rng(0).standard_normal(shape))
    image = np.fft.ifftn(noise * frequency**-2).real
    classes = np.full(shape, WHITE, np.uint8)
    classes[0, 0, 0] = 0
    found = grain.grain_measures(image, classes)
    assert found["slope of the spectrum"] == pytest.approx(-4, abs=0.1)
