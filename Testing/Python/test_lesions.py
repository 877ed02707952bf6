"""Lesions: growing real masks, transplanting them, and warping what results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from BrainGenLib import anatomy
from BrainGenLib.lesions import PATHOLOGIES, STRUCTURES, VOXEL_ML, affected_classes, region, split_lesions
from BrainGenLib.requests import Location
from BrainGenLib.spaces import GRID_1MM, GRID_2MM
from BrainGenLib.training import label_augmentation as augment
from BrainGenLib.training.cache import Cache, CachedCase, CacheWriter
from BrainGenLib.training.lesions import LesionBank, grow, to_2mm, transplant

LEFT_WHITE = 1


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> LesionBank:
    """One mask of each pathology: a cube left of the middle; the glioma's parts lie side by side."""
    writer = CacheWriter(tmp_path_factory.mktemp("cache"))
    for number, name in enumerate(PATHOLOGIES):
        mask = np.zeros(GRID_2MM.shape, np.uint8)
        mask[20 + number : 26 + number, 50:56, 40:46] = anatomy.lesions()[name].index
        writer.add(CachedCase(name, "toy", "train", "lesion", 2, pathologies=[name]), mask, {})
    # Diseased, but nobody drew where.
    scan = np.ones(GRID_2MM.shape, np.uint8)
    writer.add(CachedCase("scan", "toy", "train", "template", 2, pathologies=["wmh"]), None, {"T1w": scan})
    writer.close()
    return LesionBank(Cache(Path(writer.folder)))


@pytest.fixture
def white_brain() -> np.ndarray:
    """White matter in both halves."""
    structures = np.zeros(GRID_2MM.shape, np.uint8)
    structures[10:40, 20:90, 10:70] = LEFT_WHITE
    structures[40:70, 20:90, 10:70] = anatomy.mirrored_classes()[LEFT_WHITE]
    return structures


@pytest.mark.parametrize("millilitres", [0.08, 1.0, 30.0])
def test_a_mask_grows_and_shrinks_to_the_wanted_volume(millilitres):
    seed = np.zeros(GRID_2MM.shape, bool)
    seed[20:26, 50:56, 40:46] = True
    grown = grow(seed, np.ones_like(seed), millilitres, np.random.default_rng(0))
    assert grown.sum() * VOXEL_ML == pytest.approx(millilitres, rel=0.05)
    assert (grown & seed).sum() >= 0.5 * min(grown.sum(), seed.sum())


def test_a_mask_stays_in_the_allowed_tissue_and_takes_all_of_it_at_most():
    seed = np.zeros(GRID_2MM.shape, bool)
    seed[20:26, 50:56, 40:46] = True
    allowed = np.zeros_like(seed)
    allowed[22:30, 50:60, 40:50] = True
    grown = grow(seed, allowed, 100.0, np.random.default_rng(0))
    assert not (grown & ~allowed).any()
    assert grown.sum() == allowed.sum()
    assert not grow(seed, ~seed & allowed & (np.arange(80) > 40)[:, None, None], 1.0, np.random.default_rng(0)).any()


def test_the_bank_measures_its_masks(bank):
    assert bank.available == PATHOLOGIES
    assert bank.maximum["wmh"] == pytest.approx(6**3 * VOXEL_ML)


def test_two_pathologies_share_a_brain_without_overlap_and_keep_earlier_lesions(bank, white_brain):
    before = np.zeros(GRID_2MM.shape, np.uint8)
    before[60:63, 50:53, 40:43] = PATHOLOGIES.index("ms") + 1
    after = transplant(white_brain, before, bank, ["wmh", "stroke"], np.random.default_rng(3))
    assert {PATHOLOGIES.index(name) + 1 for name in ("ms", "wmh", "stroke")} == set(np.unique(after[after > 0]))
    assert (after[before > 0] == before[before > 0]).all()
    assert (white_brain[after > 0] > 0).all()


def test_white_matter_lesions_never_lie_in_grey_matter(bank):
    structures = np.full(GRID_2MM.shape, anatomy.classes_of(name="cerebral cortex")[0], np.uint8)
    assert not transplant(structures, np.zeros_like(structures), bank, ["wmh"], np.random.default_rng(0)).any()
    assert set(affected_classes("wmh")) < set(affected_classes("tumour")) < set(affected_classes("stroke"))


def test_the_anatomy_below_a_lesion_is_that_around_it(white_brain):
    lesion = anatomy.lesions()["tumour"].index
    classes = white_brain.copy()
    classes[20:30, 40:50, 30:40] = lesion
    structures, lesions = split_lesions(classes)
    np.testing.assert_array_equal(structures, white_brain)
    assert set(np.unique(lesions)) == {0, PATHOLOGIES.index("tumour") + 1}


def test_a_1mm_map_becomes_a_2mm_map_by_majority():
    classes = np.zeros(GRID_1MM.shape, np.uint8)
    classes[0:2, 0:2, 0:2] = 5
    classes[0, 0, 0] = 7
    coarse = to_2mm(classes)
    assert coarse.shape == GRID_2MM.shape
    assert coarse[0, 0, 0] == 5
    assert coarse.sum() == 5


def test_mirroring_swaps_sides_and_is_its_own_inverse(white_brain):
    lesions = np.zeros_like(white_brain)
    lesions[12, 30, 30] = 1
    mirrored, moved = augment.mirror(white_brain, lesions)
    assert mirrored[12, 30, 30] == LEFT_WHITE
    assert moved[67, 30, 30] == 1
    for before, after in zip((white_brain, lesions), augment.mirror(mirrored, moved), strict=True):
        np.testing.assert_array_equal(before, after)


def test_warping_by_nothing_changes_nothing_and_soft_maps_sum_to_one(white_brain):
    classes = torch.from_numpy(white_brain)
    corner, shape = (30, 40, 30), (16, 16, 16)
    points = augment.identity(shape, corner)
    soft = augment.warp_soft(classes, STRUCTURES, points)
    box = tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))
    np.testing.assert_array_equal(soft.argmax(0).numpy(), white_brain[box])
    moved = augment.warp_soft(classes, STRUCTURES, points + 0.3)
    torch.testing.assert_close(moved.sum(0), torch.ones(shape))


def test_random_displacements_do_not_fold_and_repeat_with_their_seed():
    first, second = (augment.random_displacement(torch.Generator().manual_seed(5)) for _ in range(2))
    torch.testing.assert_close(first, second)
    points = augment.identity() + augment.sample_field(first, augment.identity())
    steps = [points.diff(dim=axis + 1)[axis] for axis in range(3)]
    assert all(float(step.min()) > 0 for step in steps)


def test_left_is_where_x_is_negative():
    left = region(Location(side="left"))
    x = GRID_2MM.origin[0] + GRID_2MM.spacing * np.flatnonzero(left.any((1, 2)))
    assert x.max() < 0
    assert region(Location()).all()
