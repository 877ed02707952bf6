"""Where the brain lies in a whole head."""

import numpy as np
import pytest
from scipy import ndimage

from BrainGenLib import heads
from BrainGenLib.spaces import GRID_2MM, resample, template

SKULL, SCALP = 6.0, 14.0


def head_of(size: float, contrast: str = "T1w", slices: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A brain of ``size`` times the template's, the head around it (skull and scalp to 14 mm), and the affine."""
    image, brain = template()
    affine = np.diag([3.0, 3.0, slices, 1.0])
    affine[:3, 3] = (-100, -135, -100)
    shape = (67, 80, int(200 / slices))
    matrix = np.diag([1 / size, 1 / size, 1 / size, 1])
    tissue = resample(image, GRID_2MM.affine, shape, affine, matrix=matrix)
    if contrast == "T2w":
        tissue = 255 - tissue
    inside = resample(brain, GRID_2MM.affine, shape, affine, matrix=matrix, order=0) > 0
    distance = ndimage.distance_transform_edt(~inside, sampling=(3, 3, slices))
    brain = np.where(inside, tissue, 0)
    head = np.select([inside, distance <= SKULL, distance <= SCALP], [brain, 20, 400])
    return brain, head, affine


@pytest.mark.parametrize(("size", "contrast", "slices"), [(0.75, "T1w", 3.0), (1.0, "T2w", 6.0)])
def test_a_bright_scalp_does_not_take_the_place_of_the_brain(size, contrast, slices):
    _, head, affine = head_of(size, contrast, slices)
    found = heads.align(head, affine)
    assert found.size == pytest.approx(size, abs=0.03)
    assert np.abs(found.template_to_scan[:3, 3]).max() < 5


def test_a_brain_lies_as_deep_in_a_head_as_skull_and_scalp_are_thick():
    _, head, affine = head_of(0.8)
    head = heads.Head(head, affine)
    assert np.median(head.depths(np.diag([0.8, 0.8, 0.8, 1]))) == pytest.approx(SCALP, abs=3)
    assert np.median(head.depths(np.diag([1.05, 1.05, 1.05, 1]))) < 0


def test_what_is_out_of_the_field_of_view_has_no_depth():
    _, head, affine = head_of(0.9)
    whole, cut = heads.Head(head, affine), heads.Head(head[:, :, :50], affine)
    matrix = np.diag([0.9, 0.9, 0.9, 1])
    assert len(cut.depths(matrix)) < 0.9 * len(whole.depths(matrix))
    assert np.percentile(cut.depths(matrix), 10) > SKULL


def test_the_scalp_is_taken_away_and_nothing_of_the_brain():
    brain, head, affine = head_of(0.9)
    head = heads.Head(head, affine)
    left = head.without_scalp()
    assert np.count_nonzero(left > 300) < 0.1 * np.count_nonzero(head.image > 300)
    inside = resample(brain > 0, affine, left.shape, head.affine, order=0) > 0
    assert np.array_equal(left[inside], head.image[inside])


@pytest.mark.parametrize("contrast", ["T1w", "T2w"])
def test_a_brain_alone_loses_nothing(contrast):
    brain, _, affine = head_of(0.9, contrast)
    alone = heads.Head(brain, affine)
    assert np.array_equal(alone.without_scalp() > 0, (alone.image > 0) & (alone._depth > 0))
