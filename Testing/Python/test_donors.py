"""Donors: their recipe, what they are stored as, and the anatomy that is sampled of them."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from phantoms import phantom_image

from BrainGenLib import anatomy, bundles, probe, spaces
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.donors import PAD, RANGE, Donors, channels, encoded, groups
from BrainGenLib.errors import BadInput, OutOfMemory
from BrainGenLib.label_resampling import displaced
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods import patch_diffusion
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.methods.brainspade3d import (
    ANATOMY,
    LEVELS,
    LabelModel,
    LabelSample,
    anatomy_volumes,
    draw_anatomy,
)
from BrainGenLib.methods.exact_volumes import with_volumes
from BrainGenLib.methods.folded_anatomy import Folded, coarse_target, folded
from BrainGenLib.methods.normative import NormativeModel
from BrainGenLib.methods.patch_diffusion import Anatomy
from BrainGenLib.methods.scan_texture import intensities, with_lesions
from BrainGenLib.methods.shape_variation import RMS_MM, random_displacement
from BrainGenLib.reporting import Silent
from BrainGenLib.requests import Generate
from BrainGenLib.spaces import GRID_1MM
from BrainGenLib.training import donor_material, donors_export
from BrainGenLib.training import donors as recipe
from BrainGenLib.training.cache import Cache, CachedCase, CacheWriter
from BrainGenLib.training.donor_material import Person
from BrainGenLib.training.tissues import FLUID, GREY, VENTRICLES, WHITE
from BrainGenLib.verbs import generate

LOOKS = {"T1w": (0.9, 0.6, 0.2), "FLAIR": (0.7, 0.85, 0.2), "T2w": (0.3, 0.5, 0.95)}
"""Of white matter, grey matter and fluid."""
NOTHING = np.zeros((2, 2, 2), np.uint8)
"""In place of volumes that are not read."""


@pytest.fixture(scope="module")
def fine(phantom_classes: np.ndarray) -> np.ndarray:
    return phantom_classes.repeat(2, 0).repeat(2, 1).repeat(2, 2)


@pytest.fixture
def phantoms(monkeypatch):
    """Phantoms pass for brains, and of a sample there is only a picture of the first donor."""
    monkeypatch.setattr(donor_material, "LEAST_LIKENESS", -1)

    def sample(people, *_):
        image = None if people.image is None else np.full(people.shape, 0.5, np.float32)
        return Anatomy(people.classes[0, ..., PAD:-PAD].numpy(), image, np.zeros(people.shape, np.int32))

    monkeypatch.setattr(patch_diffusion, "sample", sample)


def cache_of(
    folder: Path, fine: np.ndarray, ages: list[float | None], contrasts: str = "T1w", labelled: bool = True, **fields
) -> Path:
    """A cache of phantoms; ``contrasts`` are one for all or one of each, a word each."""
    writer = CacheWriter(folder)
    each = contrasts.split() if " " in contrasts else [contrasts] * len(ages)
    for number, (age, contrast) in enumerate(zip(ages, each, strict=True)):
        values = LOOKS[contrast]
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
        scan = np.round(255 * phantom_image(fine, *values)).astype(np.uint8)
        writer.add(case, fine if labelled else None, {contrast: scan})
    writer.close()
    return folder


@pytest.mark.parametrize("contrast", ["T1w", "FLAIR", "T2w"])
def test_donors_are_chosen_over_all_ages_with_images_of_any_contrast(tmp_path, fine, phantoms, contrast):
    cache = cache_of(tmp_path / "cache", fine, [50.0, 20.0, None, 30.0, 40.0], contrast)
    recipe.train(cache, tmp_path / "run", steps=4)
    people = saved(tmp_path / "run")
    assert people.ages == [20.0, 30.0, 50.0, None]
    assert people.contrast == contrast
    inside = (0, ..., slice(PAD, -PAD))
    np.testing.assert_array_equal(people.classes[inside].numpy(), fine[people.box])
    # Of fluid, grey and white matter, as the scans have them.
    white, grey, fluid = LOOKS[contrast]
    np.testing.assert_allclose(people.landmarks.numpy(), [fluid, grey, white], atol=0.01)
    values = people.image[inside].numpy() / 255 * (RANGE[1] - RANGE[0]) + RANGE[0]
    shown = intensities(values, people.knots, fine[people.box] > 0)
    # In steps of LEVEL, and with white matter flattened.
    np.testing.assert_allclose(shown, phantom_image(fine, *LOOKS[contrast])[people.box], atol=0.05)
    tissues = (VENTRICLES, GREY, WHITE)
    found = [np.median(values[np.isin(fine[people.box], part)]) for part in tissues]
    np.testing.assert_allclose(people.levels, found, atol=0.02)
    assert {path.name.split("-")[0] for path in (tmp_path / "run" / "samples").glob("*.png")} == {"donors", "sample"}
    assert "likeness_to_template" in (tmp_path / "run" / "curves.csv").read_text("utf-8")


def saved(run: Path) -> Donors:
    held = torch.load(run / "donors.pt", weights_only=True)
    people = Donors(**held["arguments"])
    people.load_state_dict(held["state"])
    return people


def test_a_bundle_of_its_own_says_whose_scans_it_contains(tmp_path, fine, tiny_bundles, phantoms, monkeypatch):
    recipe.train(cache_of(tmp_path / "cache", fine, [50.0, 20.0, 30.0], "FLAIR"), tmp_path / "run")
    bundle = donors_export.export(tmp_path / "run", tmp_path / "bundles" / "mine")
    bundle.verify()
    assert bundle.name == "mine"
    base = bundles.find("brainspade3d").metadata
    assert set(bundle.metadata.networks) == set(base.networks)
    assert (bundle.metadata.verbs, bundle.metadata.donors) == (base.verbs, 3)
    people = bundle.load("donors")
    assert isinstance(people, Donors)
    assert people.contrast == "FLAIR"
    # As panel and page find it.
    monkeypatch.setenv("BRAINGEN_BUNDLES", os.pathsep.join([str(tmp_path / "bundles"), str(tiny_bundles)]))
    listed = {one["name"]: one for one in probe.describe(None, "")["bundles"]}
    assert {"mine", "brainspade3d"} <= set(listed)
    assert (listed["mine"]["donors"], listed["mine"]["limits"]) == (3, bundle.metadata.limits)
    limit = bundle.metadata.limits[0]
    assert limit.startswith(f"{donors_export.LIMIT} 3 people, which this bundle contains: it must not be shared")
    assert limit.endswith("Ages 20 to 50 years.")
    assert bundle.metadata.license == "Apache-2.0; scans of the donors: set (CC0)"
    card = (tmp_path / "bundles" / "mine" / "docs" / "README.md").read_text("utf-8")
    assert "people's scans" in card
    assert "set (CC0)" in card
    again = donors_export.export(tmp_path / "run", tmp_path / "bundles" / "mine").metadata
    assert (again.limits, again.license) == (bundle.metadata.limits, bundle.metadata.license)


@pytest.mark.parametrize(
    ("folder", "says"),
    [("Mine", "'Mine' cannot be the name of a bundle"), ("segmenter", "There is a bundle 'segmenter' already")],
)
def test_a_bundle_that_cannot_be_made_is_refused(tmp_path, fine, tiny_bundles, phantoms, folder, says):
    recipe.train(cache_of(tmp_path / "cache", fine, [1.0, 2.0, 3.0]), tmp_path / "run")
    with pytest.raises(BadInput, match=says):
        donors_export.export(tmp_path / "run", tmp_path / folder)
    assert not (tmp_path / folder).exists()
    shutil.copytree(tiny_bundles / "segmenter", tmp_path / "other")
    with pytest.raises(BadInput, match="Bundle segmenter generates no labels"):
        donors_export.export(tmp_path / "run", tmp_path / "other")
    of_before = torch.load(tmp_path / "run" / "donors.pt", weights_only=True)
    del of_before["studies"]
    torch.save(of_before, tmp_path / "run" / "donors.pt")
    with pytest.raises(BadInput, match="of an earlier build"):
        donors_export.export(tmp_path / "run", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_the_contrast_that_most_people_have_is_taken_and_others_are_named(tmp_path, fine, phantoms, capsys):
    cache = cache_of(tmp_path / "cache", fine, [1.0, 2.0, 3.0, 4.0], "FLAIR T2w FLAIR FLAIR")
    recipe.train(cache, tmp_path / "run")
    assert len(saved(tmp_path / "run")) == 3
    assert "Left out, without a scan of the contrast FLAIR: case-1." in capsys.readouterr().out


def test_scans_of_too_many_contrasts_give_labels_alone_and_say_so(tmp_path, fine, phantoms, capsys):
    recipe.train(cache_of(tmp_path / "cache", fine, [1.0, 2.0, 3.0, 4.0], "FLAIR T2w FLAIR T2w"), tmp_path / "run")
    assert saved(tmp_path / "run").image is None
    assert (
        "No contrast has scans of 3 people (T2w 2, FLAIR 2): donors are label maps alone." in capsys.readouterr().out
    )


def test_scans_of_too_many_contrasts_without_labels_are_refused(tmp_path):
    cache = cache_of(tmp_path / "cache", NOTHING, [1.0, 2.0, 3.0, 4.0], "FLAIR T2w FLAIR T2w", labelled=False)
    with pytest.raises(BadInput, match=r"are of several contrasts \(T2w 2, FLAIR 2 people\), and donors need one"):
        recipe.train(cache, tmp_path / "run")


def test_a_scan_that_is_not_of_the_contrast_that_its_name_says_is_left_out(tmp_path, fine, phantoms, capsys):
    cache = cache_of(tmp_path / "cache", fine, [1.0, 2.0, 3.0, 4.0], "FLAIR")
    held = Cache(cache)
    original = held.image

    def swapped(case, contrast):
        return np.round(255 * phantom_image(fine, *LOOKS["T2w"])) if case.id == "case-2" else original(case, contrast)

    held.image = swapped
    people = donor_material.people_of(held, held.cases, "FLAIR", "cpu")
    assert [person.name for person in people] == ["case_0", "case_1", "case_3"]
    assert "Left out case_2: its FLAIR scan looks like one of another contrast." in capsys.readouterr().out


def test_scans_without_labels_are_segmented(tmp_path, fine, phantoms, monkeypatch):
    cache = cache_of(tmp_path / "cache", fine, [1.0, 2.0, 3.0], labelled=False)
    monkeypatch.setattr(donor_material.Segmenter, "from_bundle", lambda *_: "segmenter")
    monkeypatch.setattr(donor_material, "segment_in_template", lambda model, scan: np.where(scan > 0, fine, 0))
    recipe.train(cache, tmp_path / "run")
    people = saved(tmp_path / "run")
    np.testing.assert_array_equal(people.classes[1, ..., PAD:-PAD].numpy(), fine[people.box])


def test_scans_without_labels_and_a_segmenter_are_refused(tmp_path, fine, monkeypatch):
    monkeypatch.setattr(bundles, "search_path", lambda: [tmp_path / "none"])
    with pytest.raises(BadInput, match="There is no bundle 'segmenter'"):
        recipe.train(cache_of(tmp_path / "cache", fine, [1.0, 2.0, 3.0], labelled=False), tmp_path / "run")


@pytest.mark.parametrize(
    ("fields", "others"),
    [
        ({"spacing": 2}, r" \(and 3 of voxels larger than 1\.3 mm\)"),
        ({"split": "test"}, r" \(and 3 of the test split\)"),
        ({"pathologies": ["ms"]}, r" \(and 3 with lesions\)"),
        ({"space": "head"}, ""),
    ],
    ids=lambda f: next(iter(f)) if isinstance(f, dict) else "",
)
def test_a_cache_without_enough_people_is_refused(tmp_path, fields, others):
    cache = cache_of(tmp_path / "cache", NOTHING, [1.0, 2.0, 3.0], **fields)
    with pytest.raises(BadInput, match=rf"cache holds 0 brains that can be donors{others}, but 3 are needed"):
        recipe.train(cache, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_donor_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds 1 brains"):
        recipe.train(cache_of(tmp_path / "cache", NOTHING, [30.0]), tmp_path / "run")


def test_a_run_without_donors_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="train donors"):
        donors_export.export(tmp_path, tmp_path / "bundle")


def test_brains_that_are_not_aligned_are_left_out(tmp_path):
    """Of three tissues of the template itself; one brain lies a centimetre too high, one is turned."""
    image, brain = spaces.template()
    levels = np.digitize(image, np.percentile(image[brain], [15, 55]))
    coarse = np.where(brain, np.array([FLUID, GREY[0], WHITE[0]])[levels], 0).astype(np.uint8)
    whole = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert donor_material.likeness_to_template(whole) > 0.7
    assert donor_material.likeness_to_template(np.zeros_like(whole)) == 0
    for wrong in (np.roll(whole, 10, 2), np.roll(whole, 10, 1), whole[::-1, ::-1], whole[..., ::-1]):
        assert donor_material.likeness_to_template(wrong) < donor_material.LEAST_LIKENESS
    cache = cache_of(tmp_path / "cache", np.roll(whole, 10, 2), [1.0, 2.0, 3.0])
    with pytest.raises(BadInput, match=r"0 can be donors.* Left out case-0: it is not aligned with the template"):
        recipe.train(cache, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_donors_that_need_more_memory_than_there_is_are_refused(tmp_path, tiny_bundles, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5e7))
    with pytest.raises(OutOfMemory, match=r"3 donors take 0\.1 GB of memory, and 0\.1 GB are free; .* --steps"):
        recipe.train(cache_of(tmp_path / "cache", NOTHING, [1.0, 2.0, 3.0]), tmp_path / "run")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1e7))
    with pytest.raises(OutOfMemory, match="2 donors take"):
        LabelModel.from_bundle(bundles.find("brainspade3d"), "cpu")


def test_every_tissue_has_one_channel_and_both_sides_the_same():
    mirror = anatomy.mirrored_classes()
    table = channels()
    assert sorted(index for group in groups() for index in group) == sorted(anatomy.classes_of(kind="structure"))
    assert all(table[index] == table[mirror[index]] for index in range(len(mirror)))


def test_maps_are_shares(fine):
    people = recipe.gathered([Person("a", None, None, fine, encoded(fine * 0.0, fine > 0), np.ones(3))] * 2, "T1w")
    inside = fine[people.box]
    for spacing in (2, 4):
        maps = people.maps(spacing, 3)
        assert maps.shape[-1] == people.shape[2] // spacing + 6
        x, y, z = (n // spacing for n in people.shape)
        for channel, group in enumerate(groups()):
            share = np.isin(inside, group).reshape(x, spacing, y, spacing, z, spacing).mean((1, 3, 5))
            np.testing.assert_allclose(maps[1, channel, ..., 3:-3] / 255, share, atol=0.01)


def test_an_anatomy_is_sampled_with_the_asked_volumes(tiny_folder, probabilities):
    people = bundles.Bundle(tiny_folder / "brainspade3d").load("donors")
    assert isinstance(people, Donors)
    sizes = volume_conditions(people.classes[0].numpy(), 1)
    asked = {"brain": 0.95 * sizes["brain"], "ventricles": 1.3 * sizes["ventricles"]}
    coarse = with_volumes(probabilities.clamp_min(1e-6).log(), **asked)
    target = coarse_target(people, coarse.softmax(0))

    def sample():
        return folded(people, target, asked, torch.Generator().manual_seed(0), nothing)

    first, again = sample(), sample()
    np.testing.assert_array_equal(first.structures, again.structures)
    assert first.image is not None
    np.testing.assert_array_equal(first.image, again.image)
    assert volume_conditions(first.structures, 1) == pytest.approx(asked, rel=0.025)
    brain = first.structures > 0
    assert set(np.unique(first.donor[brain])) <= {0, 1}
    assert (first.donor[~brain] == -1).mean() > 0.99
    # The image shows the labels: white matter is bright, ventricles are dark.
    assert first.image[np.isin(first.structures, VENTRICLES)].mean() < 0.2
    assert first.image[np.isin(first.structures, groups()[2])].mean() > 0.85


def test_a_coarse_map_has_exactly_the_asked_volumes(phantom_classes):
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(phantom_classes).long(), STRUCTURES).movedim(-1, 0)
    soft = torch.nn.functional.avg_pool3d(one_hot.float(), 5, 1, 2, count_include_pad=False)
    before = anatomy_volumes(soft.numpy())
    for brain, ventricles in ((1.05, 0.8), (0.9, 1.2)):
        asked = {"brain": brain * before["brain"], "ventricles": ventricles * before["ventricles"]}
        shares = with_volumes(soft.clamp_min(1e-9).log(), **asked).exp()
        np.testing.assert_allclose(shares.sum(0), 1, atol=2e-3)
        assert anatomy_volumes(shares.numpy()) == pytest.approx(asked, rel=0.02)


def test_a_bundle_offers_volumes_on_the_scale_of_its_donors_labels(tmp_path, fine, tiny_bundles, phantoms):
    """By the level of a study that the law of age knows; else by what the people have for their age."""
    plain = bundles.find("brainspade3d").metadata
    law = NormativeModel.of(plain)
    study, known = next(iter(law.studies.items()))
    for number, (dataset, sex) in enumerate(((study, None), ("elsewhere", "F"), ("elsewhere", None))):
        run = tmp_path / f"run{number}"
        recipe.train(cache_of(tmp_path / f"cache{number}", fine, [30.0, 35.0, 40.0], dataset=dataset, sex=sex), run)
        for _ in range(2):
            bundle = donors_export.export(run, tmp_path / "bundles" / f"mine{number}")
        levels = bundle.metadata.parameters[LEVELS]
        if dataset == study:
            assert levels == pytest.approx(known.level)
        elif sex:
            means, _ = law.at({"age": 35.0, "sex": 0.0})
            found = np.log([volume_conditions(fine, 1)[name] for name in ANATOMY])
            assert list(levels.values()) == pytest.approx(list(found - means), abs=0.05)
        else:
            assert levels == {}
        for before, after in zip(plain.conditions, bundle.metadata.conditions, strict=True):
            assert after.maximum == pytest.approx(before.maximum * np.exp(levels.get(before.name, 0.0)))
        model = LabelModel.from_bundle(bundle, "cpu")
        model.anatomy_range = {name: (1e-9, 1e9) for name in ANATOMY}
        drawn, usual = (
            draw_anatomy(one, {}, torch.Generator().manual_seed(0), person)
            for person in ({}, {"age": 50.0, "sex": 1.0})[number % 2 :][:1]
            for one in (model, replace(model, levels={}, normative=law))
        )
        for name in ANATOMY:
            assert np.log(drawn[name] / usual[name]) == pytest.approx(levels.get(name, 0.0))


def test_the_contrast_of_the_donors_is_sampled_and_others_are_rendered(tiny_bundles, fine, monkeypatch):
    """FLAIR donors: soft tissue for the renderer is that of the labels."""
    flair = encoded(np.full(fine.shape, 0.5, np.float32), fine > 0)
    people = recipe.gathered(
        [Person(name, None, None, fine, flair, np.array([0.2, 0.9, 0.7])) for name in "ab"], "FLAIR"
    )
    model = replace(LabelModel.from_bundle(bundles.find("brainspade3d"), "cpu"), people=people)
    coarse = fine[::2, ::2, ::2]
    sample = LabelSample(coarse, coarse, {}, dict.fromkeys(model.millilitres, 0.0), {}, torch.zeros(1), {})
    sample.folded = Folded(fine, np.where(fine > 0, 0.5, 0).astype(np.float32), np.zeros(fine.shape, np.int16))
    monkeypatch.setattr(generate.brainspade3d, "sample_labels", lambda *_: sample)
    monkeypatch.setattr(generate, "tissue_of", lambda *_: "of the labels")
    monkeypatch.setattr(generate, "image_of", lambda work, renderer, classes, soft, *_: soft)
    request = Generate(contrasts=["T1w", "FLAIR"])
    work = SimpleNamespace(report=Silent(), stage=lambda name: Silent(), request=request)
    case = generate._labelled(work, model, None, None, request)
    assert case.images["T1w"] == "of the labels"
    # Half way from the darkest to the brightest tissue.
    np.testing.assert_allclose(case.images["FLAIR"][fine > 0], 0.55, atol=1e-6)
    assert case.measurements["attribution"]["image_correlation"]


def test_a_random_shape_folds_nothing():
    field = random_displacement(torch.Generator().manual_seed(1))
    assert field.shape == (3, *GRID_1MM.shape)
    assert np.sqrt((field**2).sum(0).mean()) == pytest.approx(RMS_MM, rel=0.2)
    slopes = np.stack(np.gradient(field[:, ::4, ::4, ::4], 4.0, axis=(1, 2, 3)), 1)
    jacobian = np.moveaxis(slopes, (0, 1), (-2, -1)) + np.eye(3)
    assert np.linalg.det(jacobian).min() > 0.3


def test_random_shapes_leave_hemispheres_as_alike_as_people_have_them():
    """Left over right volume differs by 2 % (one standard deviation) between people."""
    labels = anatomy.classes_of(name="left cerebral cortex") + anatomy.classes_of(name="left cerebral white matter")
    right = anatomy.classes_of(name="right cerebral cortex") + anatomy.classes_of(name="right cerebral white matter")
    x, y, z = np.indices(GRID_1MM.shape, dtype=np.float32)
    middle = [(n - 1) / 2 for n in GRID_1MM.shape]
    brain = ((x - middle[0]) / 65) ** 2 + ((y - middle[1]) / 85) ** 2 + ((z - middle[2]) / 60) ** 2 < 1
    classes = np.where(brain, np.where(x < middle[0], labels[0], right[0]), 0).astype(np.uint8)
    ratios = []
    for seed in range(6):
        moved = displaced(classes, random_displacement(torch.Generator().manual_seed(seed)))
        ratios.append(np.log(np.isin(moved, labels).sum() / np.isin(moved, right).sum()))
    assert 0.005 < np.std(ratios) < 0.03
    assert np.abs(ratios).max() < 0.06


def test_an_image_has_the_intensities_of_scans():
    values = np.array([[[0.0, 0.5, 1.0, 1.25, RANGE[1]]]], np.float32)
    brain = np.array([[[True, True, True, True, False]]])
    knots = np.array([0, 0.5, 1]), np.array([0.2, 0.6, 0.9])
    np.testing.assert_allclose(intensities(values, knots, brain)[0, 0], [0.2, 0.6, 0.9, 1, 0], atol=1e-6)


def test_lesions_are_taken_from_the_rendered_image():
    image, rendered = np.full((9, 9, 9), 0.5, np.float32), np.full((9, 9, 9), 0.1, np.float32)
    lesion = np.zeros((9, 9, 9), bool)
    lesion[2:7, 2:7, 2:7] = True
    made = with_lesions(image, rendered, lesion)
    assert made[4, 4, 4] == pytest.approx(0.1, abs=0.02)
    assert made[0, 0, 0] == pytest.approx(0.5, abs=0.01)
