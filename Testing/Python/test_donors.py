"""Donors: their recipe, what they are stored as, and the anatomy that is sampled of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from BrainGenLib import anatomy, bundles
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.donors import PAD, RANGE, Donors, channels, encoded, groups
from BrainGenLib.errors import BadInput
from BrainGenLib.methods.folded_anatomy import folded
from BrainGenLib.methods.shape_variation import RMS_MM, random_displacement
from BrainGenLib.methods.t1w_texture import t1w, with_lesions
from BrainGenLib.spaces import GRID_1MM
from BrainGenLib.training import donors as recipe
from BrainGenLib.training.cache import CachedCase, CacheWriter
from BrainGenLib.training.tissues import typical_values

VENTRICLES = [
    index for name in ("lateral ventricle", "inferior lateral ventricle") for index in anatomy.classes_of(name=name)
]


@pytest.fixture(scope="module")
def fine(phantom_classes: np.ndarray) -> np.ndarray:
    return phantom_classes.repeat(2, 0).repeat(2, 1).repeat(2, 2)


def cache_of(folder: Path, fine: np.ndarray, ages: list[float | None], contrast: str = "T1w", **fields) -> Path:
    writer = CacheWriter(folder)
    scan = np.round(typical_values()[fine] * 120 + 60 * (fine > 0)).astype(np.uint8)
    for number, age in enumerate(ages):
        case = CachedCase(
            **{
                "id": f"case-{number}",
                "dataset": "set",
                "split": "train",
                "space": "template",
                "spacing": 1,
                "age": age,
                "licence": "CC0",
                "images": {contrast: (1.0, 1.0, 1.0)},
            }
            | fields
        )
        writer.add(case, fine, {contrast: scan})
    writer.close()
    return folder


def test_donors_are_chosen_over_all_ages_and_exported(tmp_path, fine, tiny_folder):
    cache = cache_of(tmp_path / "cache", fine, [50.0, 20.0, None, 30.0, 40.0])
    recipe.train(cache, tmp_path / "run", steps=4)
    shutil.copytree(tiny_folder / "brainspade3d", tmp_path / "bundle")
    bundle = recipe.export(tmp_path / "run", tmp_path / "bundle")
    bundle.verify()
    people = bundle.load("donors")
    assert isinstance(people, Donors)
    assert people.ages == [20.0, 30.0, 50.0, None]
    np.testing.assert_array_equal(people.classes[0, ..., PAD:-PAD].numpy(), fine[people.box])
    assert people.image is not None
    # Fluid, grey and white matter of the scans.
    np.testing.assert_allclose(people.landmarks.numpy(), np.array([60, 120, 180]) / 180, atol=0.35)
    assert bundle.metadata.limits[0] == f"{recipe.LIMIT} 4 people. Ages 20 to 50 years."
    assert recipe.export(tmp_path / "run", tmp_path / "bundle").metadata.limits == bundle.metadata.limits
    card = (tmp_path / "bundle" / "docs" / "README.md").read_text("utf-8")
    assert "people's scans" in card
    assert "set (CC0)" in card


def test_scans_of_another_contrast_give_donors_without_images(tmp_path, fine):
    recipe.train(cache_of(tmp_path / "cache", fine, [1.0, 2.0, 3.0], contrast="FLAIR"), tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "donors.pt", weights_only=True)
    assert not saved["arguments"]["painted"]


@pytest.mark.parametrize(
    "fields",
    [{"spacing": 2}, {"split": "test"}, {"pathologies": ["ms"]}, {"space": "head"}],
    ids=lambda f: next(iter(f)),
)
def test_a_cache_without_enough_people_is_refused(tmp_path, fine, fields):
    cache = cache_of(tmp_path / "cache", fine, [1.0, 2.0, 3.0], **fields)
    with pytest.raises(BadInput, match=r"holds 0 brains .* labelled at 1 mm; donors must be 3 at least"):
        recipe.train(cache, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_donor_is_refused(tmp_path, fine):
    with pytest.raises(BadInput, match="holds 1 brains"):
        recipe.train(cache_of(tmp_path / "cache", fine, [30.0]), tmp_path / "run")


def test_a_run_without_donors_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="train donors"):
        recipe.export(tmp_path, tmp_path / "bundle")


def test_every_tissue_has_one_channel_and_both_sides_the_same():
    mirror = anatomy.mirrored_classes()
    table = channels()
    assert sorted(index for group in groups() for index in group) == sorted(anatomy.classes_of(kind="structure"))
    assert all(table[index] == table[mirror[index]] for index in range(len(mirror)))


def test_maps_are_shares(fine):
    people = recipe.gathered([recipe.Person("a", None, None, fine, encoded(fine * 0.0, fine > 0))] * 2, np.zeros(3))
    inside = fine[people.box]
    for spacing in (2, 4):
        maps = people.maps(spacing, 3)
        assert maps.shape[-1] == people.shape[2] // spacing + 6
        x, y, z = (n // spacing for n in people.shape)
        for channel, group in enumerate(groups()):
            share = np.isin(inside, group).reshape(x, spacing, y, spacing, z, spacing).mean((1, 3, 5))
            np.testing.assert_allclose(maps[1, channel, ..., 3:-3] / 255, share, atol=0.01)


def test_an_anatomy_is_sampled_with_the_asked_ventricles(tiny_folder, probabilities):
    people = bundles.Bundle(tiny_folder / "brainspade3d").load("donors")
    assert isinstance(people, Donors)
    size = np.isin(people.classes[0].numpy(), VENTRICLES).sum() / 1000

    def sample(seed: int, share: float):
        return folded(people, probabilities, share * size, torch.Generator().manual_seed(seed), nothing)

    first, again = sample(0, 1.1), sample(0, 1.1)
    np.testing.assert_array_equal(first.structures, again.structures)
    assert first.tissue is not None
    np.testing.assert_array_equal(first.tissue, again.tissue)
    assert np.isin(first.structures, VENTRICLES).sum() / 1000 == pytest.approx(1.1 * size, rel=0.03)
    brain = first.structures > 0
    assert set(np.unique(first.donor[brain])) <= {0, 1}
    assert (first.donor[~brain] == -1).mean() > 0.99
    # The image shows the labels: white matter is bright, ventricles are dark.
    assert first.tissue[np.isin(first.structures, VENTRICLES)].mean() < 0.2
    assert first.tissue[np.isin(first.structures, groups()[2])].mean() > 0.85


def test_a_random_shape_folds_nothing():
    field = random_displacement(torch.Generator().manual_seed(1))
    assert field.shape == (3, *GRID_1MM.shape)
    assert np.sqrt((field**2).sum(0).mean()) == pytest.approx(RMS_MM, rel=0.2)
    slopes = np.stack(np.gradient(field[:, ::4, ::4, ::4], 4.0, axis=(1, 2, 3)), 1)
    jacobian = np.moveaxis(slopes, (0, 1), (-2, -1)) + np.eye(3)
    assert np.linalg.det(jacobian).min() > 0.3


def test_a_t1w_image_has_the_landmarks_of_scans():
    tissue = np.array([[[0.0, 0.5, 1.0, RANGE[1]]]], np.float32)
    brain = np.array([[[True, True, True, False]]])
    np.testing.assert_allclose(t1w(tissue, np.array([0.2, 0.6, 0.9]), brain)[0, 0], [0.2, 0.6, 0.9, 0], atol=1e-6)


def test_lesions_are_taken_from_the_rendered_image():
    image, rendered = np.full((9, 9, 9), 0.5, np.float32), np.full((9, 9, 9), 0.1, np.float32)
    lesion = np.zeros((9, 9, 9), bool)
    lesion[2:7, 2:7, 2:7] = True
    made = with_lesions(image, rendered, lesion)
    assert made[4, 4, 4] == pytest.approx(0.1, abs=0.02)
    assert made[0, 0, 0] == pytest.approx(0.5, abs=0.01)
