"""What a case has of its donors, and that one nearer to a donor than people are to each other is not accepted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from BrainGenLib import anatomy, attribution, donors
from BrainGenLib.diffusion.patches import FACES, PatchDenoiser, Patches
from BrainGenLib.donors import PAD, Donors, whole
from BrainGenLib.errors import BadInput
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods import patch_diffusion
from BrainGenLib.methods.folded_anatomy import Folded
from BrainGenLib.spaces import GRID_1MM

SHAPE = (48, 32, 32)
CORNER = ((GRID_1MM.shape[0] - SHAPE[0]) // 2, 60, 60)
LEFT, RIGHT = anatomy.classes_of(name="cerebral cortex")
WHITE = anatomy.classes_of(name="cerebral white matter")[0]


def brain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random folds of cortex within white matter, and the image of another pattern, 0 outside."""
    rng = np.random.default_rng(seed)
    smooth, shades = (ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2) for _ in range(2))
    classes = np.where(smooth > 0, LEFT, WHITE).astype(np.uint8)
    classes[SHAPE[0] // 2 :][classes[SHAPE[0] // 2 :] == LEFT] = RIGHT
    classes[..., :4] = classes[..., -4:] = 0
    image = np.where(classes > 0, np.clip(128 + 100 * shades / shades.std(), 1, 255), 0)
    return classes, image.astype(np.uint8)


def donors_of(*each: tuple[np.ndarray, np.ndarray], contrast: str | None = "T1w") -> Donors:
    count = len(each)
    names = [f"person {number}" for number in range(count)]
    people = Donors(count, SHAPE, CORNER, names, [np.nan] * count, [""] * count, contrast)
    for number, (classes, image) in enumerate(each):
        people.classes[number, ..., PAD:-PAD] = torch.from_numpy(classes)
        if people.image is not None:
            people.image[number, ..., PAD:-PAD] = torch.from_numpy(image)
    return people


@pytest.fixture
def people() -> Donors:
    return donors_of(*map(brain, range(3)))


def tissue_of(image: np.ndarray) -> np.ndarray:
    """The soft tissue map that an image of a donor encodes."""
    return (donors.RANGE[0] + image.astype(np.float32) / 255 * (donors.RANGE[1] - donors.RANGE[0])).astype(np.float32)


def of_case(people: Donors, classes: np.ndarray, donor: np.ndarray, tissue: np.ndarray | None) -> dict:
    on_grid = donors.whole(classes, people.box)
    return attribution.measured(
        people,
        attribution.among_people(people),
        on_grid,
        None if tissue is None else donors.whole(tissue, people.box),
        attribution.map_of(donors.whole(donor, people.box), on_grid),
    )


def test_people_are_compared_with_all_others_as_they_are_and_mirrored(people):
    found = attribution.among_people(people)
    half = SHAPE[0] // 2, SHAPE[1] // 2, SHAPE[2] // 2

    def cubes(volume):
        return volume.reshape(half[0], 2, half[1], 2, half[2], 2).transpose(0, 2, 4, 1, 3, 5).reshape(*half, 8)

    cortex = [(cubes(np.isin(brain(seed)[0], (LEFT, RIGHT))).sum(-1) >= 4) for seed in range(3)]
    images = [cubes(brain(seed)[1]) for seed in range(3)]
    dice, likeness = np.full((3, 3), -1.0), np.full((3, 3), -1.0)
    for i, j in itertools.permutations(range(3), 2):
        for turn in (1, -1):
            a, b = cortex[i], cortex[j][::turn]
            dice[i, j] = max(dice[i, j], 2 * (a & b).sum() / (a.sum() + b.sum()))
            x, y = images[i], images[j][::turn]
            inside = (x > 0).all(-1) & (y > 0).all(-1)
            likeness[i, j] = max(likeness[i, j], np.corrcoef(x.mean(-1)[inside], y.mean(-1)[inside])[0, 1])
    assert found["cortex_dice"]["largest"] == pytest.approx(dice.max())
    others = [np.delete(row, i) for i, row in enumerate(dice)]
    leads = [row.max() - row.mean() for row in others]
    assert found["cortex_dice"]["largest_lead"] == pytest.approx(max(leads))
    assert found["cortex_dice"]["mean"] == pytest.approx(dice.max(1).mean())
    assert found["image_correlation"]["largest"] == pytest.approx(likeness.max(), abs=1e-5)
    assert found["image_correlation"]["mean"] == pytest.approx(likeness.max(1).mean(), abs=1e-5)


def test_people_without_images_are_compared_by_their_cortex_alone():
    people = donors_of(brain(0), brain(1), contrast=None)
    assert "image_correlation" not in attribution.among_people(people)
    found = of_case(people, brain(5)[0], np.zeros(SHAPE, np.int32), None)
    assert "image_correlation" not in found


def test_one_donor_is_not_enough():
    with pytest.raises(BadInput, match="two donors at least"):
        attribution.among_people(donors_of(brain(0)))


@pytest.mark.parametrize("turn", [1, -1])
def test_a_copy_of_a_donor_is_known_for_one_mirrored_too(people, turn):
    classes, image = (part[::turn].copy() for part in brain(1))
    found = of_case(people, classes, np.full(SHAPE, 1, np.int32), tissue_of(image))
    assert found["shares"] == {"person 0": 0, "person 1": 1, "person 2": 0}
    assert found["effective_donors"] == pytest.approx(1)
    assert found["largest_region_ml"] == pytest.approx((classes > 0).sum() / 1000)
    for likeness in (found["cortex_dice"], found["image_correlation"]):
        # An image is kept in steps.
        assert likeness["nearest"] == pytest.approx(1, abs=1e-3)
        assert likeness["donor"] == "person 1"
        assert likeness["lead"] > likeness["people_largest_lead"] > 0
        assert likeness["people_mean"] <= likeness["people_largest"] < 1
    said = attribution.remarks(found)
    assert len(said) == 2
    assert all("nearer to that of the donor person 1" in sentence for sentence in said)


def test_shares_regions_and_lesions_are_counted_voxel_by_voxel(people):
    classes = np.zeros(SHAPE, np.uint8)
    classes[:, :20, :10] = LEFT
    lesion = (slice(0, 4), slice(0, 4), slice(0, 4))
    classes[lesion] = STRUCTURES
    donor = np.zeros(SHAPE, np.int32)
    # Of person 2 two parts apart, of person 1 one that is larger than each.
    donor[:20, 10:20] = donor[40:, 10:20] = 2
    donor[:, :10] = 1
    found = of_case(people, classes, donor, None)
    voxels = (classes > 0).sum() - 64
    counts = np.array([20 * 10 * 10, 48 * 10 * 10 - 64, 28 * 10 * 10])
    np.testing.assert_allclose(list(found["shares"].values()), counts / voxels, atol=1e-4)
    assert found["effective_donors"] == pytest.approx(1 / ((counts / voxels) ** 2).sum())
    assert found["largest_region_ml"] == pytest.approx(counts[1] / 1000)
    assert found["largest_region_of"] == "person 1"
    whose = attribution.map_of(donor, classes)
    assert whose.dtype == np.uint16
    assert not whose[lesion].any()
    assert not whose[classes == 0].any()
    assert set(np.unique(whose)) == {0, 1, 2, 3}


def test_the_larger_of_many_regions_is_found_whoever_has_most(people):
    classes = np.full(SHAPE, WHITE, np.uint8)
    donor = np.zeros(SHAPE, np.int32)
    donor[:20] = 1
    # Person 0 has more in all, in slices apart.
    donor[21::2] = 2
    found = of_case(people, classes, donor, None)
    assert found["largest_region_of"] == "person 1"
    assert found["largest_region_ml"] == pytest.approx(20 * 32 * 32 / 1000)


def test_what_is_too_near_to_a_donor_is_sampled_anew_from_seeds_that_follow(people):
    among = attribution.among_people(people)

    def sampled(*each):
        asked = []

        def sample(seed):
            asked.append(seed)
            return Folded(whole(each[len(asked) - 1], people.box), None, np.zeros(SHAPE, np.int16))

        return sample, asked

    copy, new = brain(1)[0], brain(7)[0]
    copy[:2] = WHITE
    sample, asked = sampled(new)
    found, rejected = attribution.accept(people, among, sample, 5)
    assert ((found.structures[people.box] == new).all(), rejected, asked) == (True, 0, [5])

    sample, asked = sampled(copy[::-1].copy(), new)
    found, rejected = attribution.accept(people, among, sample, 5)
    assert ((found.structures[people.box] == new).all(), rejected) == (True, 1)
    assert len(set(asked)) == 2
    assert all(0 <= seed < 2**32 for seed in asked)

    farther = copy.copy()
    farther[:6] = WHITE
    again, asked_again = sampled(copy, farther, brain(1)[0])
    found, rejected = attribution.accept(people, among, again, 5)
    assert ((found.structures[people.box] == farther).all(), rejected) == (True, 2)
    assert len(set(asked_again)) == 3
    assert asked_again[:2] == asked


def blocks_of(people: Donors) -> PatchDenoiser:
    return PatchDenoiser(
        Patches(1, ((0.0, 1),), (8, 8, 8), FACES, keep=6),
        np.ones(1),
        people.brain,
        PAD,
        classes=people.classes.numpy(),
    )


@pytest.mark.parametrize("share", [0.2, 0.3, 0.6])
def test_a_donor_is_used_in_its_share_of_the_brain_and_nowhere_else(share):
    people = Donors(8, (96, 112, 96), (0, 0, 0), [""] * 8, [np.nan] * 8, [""] * 8, None)
    people.classes[:, 8:-8, 8:-8] = WHITE
    allowed = patch_diffusion.regions(people, share, torch.Generator().manual_seed(0))
    cells = allowed[:, 1:-1, 1:-1]
    assert (cells.sum(0) == int(share * 8)).all()
    assert cells.mean((1, 2, 3)).max() <= share * 1.02
    near = np.full((16, *allowed.shape[1:]), 1 / 16, np.float32)
    candidates = patch_diffusion.screened(blocks_of(people), near, allowed)
    corners = (blocks_of(people).corners // 8).T
    assert candidates.shape[1] == 6
    assert allowed[candidates.T // 2, corners[0], corners[1], corners[2]].all()


def test_donors_too_few_for_the_limit_take_equal_shares(people):
    allowed = patch_diffusion.regions(people, 0.1, torch.Generator().manual_seed(0))
    assert (allowed.sum(0) == 1).all()
    assert allowed.mean((1, 2, 3)) == pytest.approx(1 / 3, abs=0.06)


def test_without_a_limit_the_nearest_donors_are_kept(people):
    near = np.zeros((6, 6, 4, 4), np.float32)
    near[3], near[1] = 0.6, 0.4
    candidates = patch_diffusion.screened(blocks_of(people), near, None)
    assert (candidates[:, :2] == [3, 1]).all()
    assert all(len(set(row)) == 6 for row in candidates)
