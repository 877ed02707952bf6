"""Grids, resampling and registration, on the shipped template alone."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from BrainGenLib import spaces


@pytest.fixture(scope="module")
def scan() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The template as a 'scan': turned, scaled, shifted, on an oblique LPS grid of 2.5 mm; and the true matrix."""
    angle = np.deg2rad(12)
    to_scan = np.eye(4)
    to_scan[:3, :3] = 0.93 * np.array([
        [np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]
    ])  # fmt: skip
    to_scan[:3, 3] = (15, -20, 30)
    affine = np.diag([-2.5, -2.5, 2.5, 1.0])
    affine[:3, 3] = (110, 105, -60)
    image, _ = spaces.template()
    data = spaces.resample(image, spaces.GRID_2MM.affine, (80, 92, 76), affine, matrix=np.linalg.inv(to_scan))
    return data, affine, to_scan


def test_grids_nest_and_are_symmetric():
    fine, coarse = spaces.GRID_1MM, spaces.GRID_2MM
    centre = fine.affine @ [0.5, 0.5, 0.5, 1]
    assert np.allclose(centre[:3], coarse.origin)
    assert np.isclose(fine.origin[0], -(fine.origin[0] + fine.shape[0] - 1))


def test_template_is_a_brain():
    image, brain = spaces.template()
    assert image.shape == brain.shape == spaces.GRID_2MM.shape
    assert not image[~brain].any()
    assert 1.5e6 < brain.sum() * 8 < 2.2e6  # mm³


def test_canonical_keeps_every_voxel_where_it_was():
    rng = np.random.default_rng(0)
    array = rng.random((4, 5, 6))
    affine = np.array([[0, 0, -2, 10], [-1, 0, 0, 20], [0, 3, 0, -5], [0, 0, 0, 1]], float)
    turned, turned_affine = spaces.canonical(array, affine)
    assert nibabel.aff2axcodes(turned_affine) == ("R", "A", "S")
    world = affine @ [1, 2, 3, 1]
    i, j, k = np.rint(np.linalg.inv(turned_affine) @ world).astype(int)[:3]
    assert turned[i, j, k] == array[1, 2, 3]


def test_sitk_round_trip():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    affine = np.array([[0, 0, -2, 10], [-1, 0, 0, 20], [0, 3, 0, -5], [0, 0, 0, 1]], float)
    back, back_affine = spaces.from_sitk(spaces.to_sitk(array, affine))
    assert np.array_equal(back, array)
    assert np.allclose(back_affine, affine)


def test_sheared_affine_is_refused_by_sitk_but_resampled():
    affine = np.eye(4)
    affine[0, 1] = 0.3
    with pytest.raises(ValueError, match="right angles"):
        spaces.to_sitk(np.zeros((3, 3, 3)), affine)
    x = np.indices((20, 20, 20)).astype(np.float32)
    ramp = x[0] + 0.3 * x[1]  # world x
    out = spaces.resample(
        ramp, affine, (8, 8, 8), np.array([[1, 0, 0, 6], [0, 1, 0, 6], [0, 0, 1, 6], [0, 0, 0, 1.0]])
    )
    assert np.allclose(out, np.arange(6, 14)[:, None, None], atol=1e-3)


def test_labels_go_by_the_largest_interpolated_share():
    """Against the shares of every label, interpolated by itself."""
    rng = np.random.default_rng(0)
    labels = ndimage.zoom(rng.integers(0, 4, (6, 7, 5)), 3, order=0).astype(np.uint8)
    affine = np.eye(4)
    affine[:3, :3] = [[0.83, 0.11, 0], [-0.07, 0.9, 0.05], [0.03, 0, 1.21]]
    affine[:3, 3] = (0.37, 1.13, -1.71)
    shape = (19, 21, 12)
    found = spaces.resample(labels, np.eye(4), shape, affine, order="label")
    points = np.einsum("ij,j...->i...", affine[:3, :3], np.indices(shape)) + affine[:3, 3].reshape(3, 1, 1, 1)
    shares = np.stack(
        [ndimage.map_coordinates((labels == one).astype(float), points, order=1, mode="nearest") for one in range(4)]
    )
    limit = np.array(labels.shape).reshape(3, 1, 1, 1) - 0.5
    inside = ((points >= -0.5) & (points <= limit)).all(0)
    assert (found[~inside] == 0).all()
    assert (np.take_along_axis(shares, found[None], 0)[0] >= shares.max(0) - 1e-4)[inside].all()
    assert 0.2 < inside.mean() < 0.95


def test_labels_stay_labels():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:12] = 3
    labels[12:16] = 200
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    fine = spaces.resample(labels, affine, (40, 40, 40), np.eye(4), order="label")
    assert fine.dtype == np.uint8
    assert set(np.unique(fine)) <= {0, 3, 200}
    assert abs(int((fine == 3).sum()) / 8 - int((labels == 3).sum())) < 0.1 * int((labels == 3).sum())


def test_a_single_slice_of_labels_is_resampled():
    labels = np.zeros((6, 5, 1), np.uint8)
    labels[2:, 1:] = 7
    found = spaces.resample(labels, np.eye(4), (12, 10, 3), np.diag([0.5, 0.5, 0.5, 1]), order="label")
    assert (found[5:, 3:, :2] == 7).all()
    assert not found[..., 2].any()
    assert not found[:3].any()


def test_downsampling_averages():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((32, 32, 32)).astype(np.float32)
    assert spaces.resample(noise, np.eye(4), (8, 8, 8), np.diag([4.0, 4, 4, 1])).std() < 0.35


def _error_mm(found: np.ndarray, truth: np.ndarray) -> float:
    _, brain = spaces.template()
    points = np.argwhere(brain)[::500]
    world = np.c_[points, np.ones(len(points))] @ spaces.GRID_2MM.affine.T
    return float(np.linalg.norm((world @ found.T - world @ truth.T)[:, :3], axis=1).mean())


def test_affine_registration_finds_the_truth(scan):
    data, affine, truth = scan
    result = spaces.register_to_template(data, affine, brain=data > 40)
    assert result.dice > 0.93
    assert result.coverage > 0.99
    assert _error_mm(result.template_to_scan, truth) < 1.5


def test_partial_scan_still_finds_its_place(scan):
    data, affine, truth = scan
    result = spaces.register_to_template(data[:, :, 24:], affine @ _shift(24), brain=data[:, :, 24:] > 40)
    assert result.coverage < 0.98
    assert _error_mm(result.template_to_scan, truth) < 5


def _shift(slices: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[2, 3] = slices
    return matrix


def test_rigid_registration_across_contrasts():
    image, brain = spaces.template()
    moved = np.eye(4)
    moved[:3, 3] = (4, -3, 5)
    inverted = np.where(brain, 255 - image, 0).astype(np.float32)
    other = spaces.to_grid(inverted, spaces.GRID_2MM.affine, spaces.GRID_2MM, template_to_scan=np.linalg.inv(moved))
    affine = spaces.GRID_2MM.affine
    found = spaces.register(image, affine, other, affine, fixed_mask=brain)
    assert _error_mm(found, moved) < 1.0


def test_empty_image_is_one_sentence():
    with pytest.raises(ValueError, match="empty"):
        spaces.register_to_template(np.zeros((20, 20, 20)), np.eye(4), np.zeros((20, 20, 20), bool))


def test_dice():
    a = np.zeros((4, 4, 4), bool)
    assert spaces.dice(a, a) == 1.0
    b = a.copy()
    a[0], b[:2] = True, True
    assert np.isclose(spaces.dice(a, b), 2 / 3)


def test_a_brain_of_which_a_part_is_missing_is_not_squeezed_until_it_fits(monkeypatch):
    # As of a real brain without cerebellum, whose outline fitted best at 0.65 times its height.
    found = iter([(0.84, 0.395), (0.82, 0.412), (0.88, 0.366)])
    monkeypatch.setattr(
        spaces,
        "to_template",
        lambda *_: spaces.Registration(np.eye(4), dice=(one := next(found))[0], information=one[1]),
    )
    image, brain = spaces.template()
    assert spaces.register_to_template(image, spaces.GRID_2MM.affine, brain).information == 0.412
