"""What the diffusion makes of a scan's latent, and how a change is brought to a scan: without a run of the engine."""

import dataclasses

import numpy as np
import pytest
import torch
from phantoms import phantom_image

from BrainGenLib import anatomy, bundles, counterfactuals
from BrainGenLib.bundles import Bundle
from BrainGenLib.diffusion.drift import Drift
from BrainGenLib.errors import BadInput
from BrainGenLib.methods import latent_drifting
from BrainGenLib.methods.brain_ldm import BrainLDM
from BrainGenLib.methods.contrast import recognise
from BrainGenLib.reporting import Silent

STEPS = 4


@pytest.fixture(scope="module")
def model(tiny_folder):
    torch.set_num_threads(1)
    return BrainLDM.from_bundle(Bundle(tiny_folder / "brain-ldm"), "cpu")


@pytest.fixture
def image(phantom_classes):
    return torch.from_numpy(phantom_image(phantom_classes))[None, None]


@pytest.fixture
def ventricles(phantom_classes):
    return np.isin(phantom_classes, anatomy.classes_of(name="lateral ventricle"))


def change(own, wanted, drift=None, **others):
    settings = {"strength": 0.75, "guidance": 1.0, "auto": False, "count": STEPS, "variants": 1, **others}
    return latent_drifting.Change(own, wanted, drift=drift or Drift(), **settings)


def edit(model, image, asked):
    return latent_drifting.edit(model, image, "T1w", [asked], torch.Generator().manual_seed(0), Silent())[0]


def test_nothing_changes_if_nothing_else_is_wanted(model, image):
    found = edit(model, image, change({"age": 50.0}, {"age": 50.0}))
    assert np.abs(found.change).max() < 1e-5
    assert found.spread.max() == 0


def test_older_darkens_ventricles_and_younger_brightens_them(model, image, ventricles):
    older = edit(model, image, change({"age": 30.0}, {"age": 85.0})).change
    younger = edit(model, image, change({"age": 85.0}, {"age": 30.0})).change
    assert older[ventricles].mean() < -0.003 < 0.003 < younger[ventricles].mean()
    assert abs(older[ventricles].mean()) > 2 * abs(older[~ventricles].mean())


def test_guidance_and_strength_make_it_more(model, image, ventricles):
    def darker(**settings):
        return -edit(model, image, change({"age": 30.0}, {"age": 85.0}, **settings)).change[ventricles].mean()

    # Little of it, for nothing is darker than 0.
    assert darker(guidance=0.6) > 1.5 * darker(guidance=0.3) > 0
    assert darker(guidance=0.3, strength=1.0) > 1.2 * darker(guidance=0.3, strength=0.5) > 0


def test_drift_moves_the_brightness_its_own_way(model, image):
    steps = model.steps(STEPS)
    up, down = (
        edit(model, image, change({}, {}, Drift(latent_drifting.raw_delta(model, units, Drift(), steps)))).change
        for units in (2.0, -2.0)
    )
    assert up.mean() > 0.001
    assert down.mean() < -0.001


def test_auto_drift_goes_where_the_conditions_point(model, image):
    older = edit(model, image, change({"age": 30.0}, {"age": 85.0}, auto=True))
    assert len(older.delta) == model.latent_shape[0]
    # Whatever the guided edit lacks to the expected mean of the first number, or has too much of it, is made up for.
    clean = model.encode(image)
    expected = (model.expected({"age": 85.0}, "T1w") - model.expected({"age": 30.0}, "T1w")).mean((1, 2, 3))
    reached = (model.encode(torch.from_numpy(older.before + older.change)[None, None]) - clean).mean((2, 3, 4))[0]
    plain = edit(model, image, change({"age": 30.0}, {"age": 85.0}))
    without = (model.encode(torch.from_numpy(plain.before + plain.change)[None, None]) - clean).mean((2, 3, 4))[0]
    assert abs(reached[0] - expected[0]) < abs(without[0] - expected[0])


def test_variants_tell_how_certain_a_change_is(model, image):
    found = edit(model, image, change({"age": 30.0}, {"age": 85.0}, variants=3))
    assert found.spread.max() > 0
    assert np.isfinite(found.change).all()


def test_variants_of_a_model_with_drift_keep_it(model):
    """Noise of the same mean as the inverted one's: that of the model's own drift."""
    drifting = dataclasses.replace(model, drift=Drift((0.5, -0.5)))
    step, clean = model.steps(STEPS)[1], torch.zeros(1, *model.latent_shape)
    fresh = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    noised = step.sigma * drifting.drift.added_to(fresh)
    other = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    (variant,) = latent_drifting._variants(drifting, noised, clean, step, [other])
    means = (variant / step.sigma).mean((0, 2, 3, 4))
    assert means.tolist() == pytest.approx([0.5, -0.5], abs=0.03)
    assert float((variant - noised).std()) > 0.3


@torch.no_grad()
def test_what_ships_ages_the_brain_that_it_expects():
    """As far as is expected and further, from all of the noise; from half of it, much less."""
    torch.set_num_threads(1)
    shipped = BrainLDM.from_bundle(bundles.find("brain-ldm"), "cpu")
    young = {"age": 35.0, "ventricles": 20.0, "brain": 1550.0}
    drawn = shipped.decode(shipped.expected(young, "T1w")[None]).clamp(0, 1)
    came = []
    for strength in (1.0, 0.5):
        asked = change(young, {**young, "age": 75.0}, strength=strength, guidance=2.0, count=4)
        found = edit(shipped, drawn, asked)
        after = torch.from_numpy(found.before + found.change)[None, None].clamp(0, 1)
        came.append(latent_drifting.reached(shipped, drawn, after, "T1w", asked))
    assert came[0] > 1
    assert came[1] < came[0] / 2


def test_small_changes_are_left_out_and_large_ones_kept():
    noise = np.random.default_rng(0).normal(0, 0.005, (30, 30, 30)).astype(np.float32)
    noise[10:20, 10:20, 10:20] -= 0.3
    found = counterfactuals.noticed(noise, 2.0)
    assert (found[:5] == 0).all()
    assert np.array_equal(found[12:18, 12:18, 12:18], noise[12:18, 12:18, 12:18])


def test_years_change_volumes_that_nobody_asked_for():
    rates = {"ventricles": 0.02, "brain": -0.001}
    found = counterfactuals.expected_volumes({"age": 40.0, "ventricles": 20.0}, {"age": 90.0}, rates)
    assert found == {"ventricles": pytest.approx(20 * np.exp(1.0))}
    assert counterfactuals.expected_volumes({"ventricles": 20.0}, {"age": 90.0}, rates) == {"ventricles": 20.0}
    asked = counterfactuals.expected_volumes({"age": 40.0, "ventricles": 20.0}, {"ventricles": 9.0}, rates)
    assert asked == {"ventricles": 9.0}


@pytest.mark.parametrize(
    ("contrast", "values"),
    [
        ("T1w", (0.8, 0.5, 0.3)),
        ("T2w", (0.3, 0.4, 0.9)),
        ("FLAIR", (0.6, 0.65, 0.1)),
        ("PDw", (0.7, 0.8, 0.75)),
    ],
)
def test_the_contrast_of_a_scan_is_recognised(phantom_classes, contrast, values):
    every = ["T1w", "T2w", "FLAIR", "PDw", "T1ce"]
    image = phantom_image(phantom_classes, *values)
    assert recognise(image, phantom_classes, every) == contrast
    with pytest.raises(BadInput, match=f"looks like {contrast}"):
        recognise(image, phantom_classes, [name for name in every if name != contrast])


def test_a_brain_without_ventricles_has_no_known_contrast(phantom_classes, ventricles):
    solid = np.where(ventricles, 0, phantom_classes)
    with pytest.raises(BadInput, match="name it"):
        recognise(phantom_image(solid), solid, ["T1w"])


def test_a_picture_of_a_million_voxels_is_fitted_to_the_scan():
    """A lesion comes with the contrast that the scan has, not the picture."""
    rng = np.random.default_rng(0)
    before = np.ones((110, 110, 100), np.uint8)
    after = before.copy()
    after[50:60, 50:60, 45:55] = anatomy.lesions()["wmh"].index
    drawn = (0.6 + 0.02 * rng.standard_normal(before.shape)).astype(np.float32)
    redrawn = np.where(after != before, np.float32(0.9), drawn)
    change = counterfactuals.rendered_change(0.5 * drawn + np.float32(0.1), drawn, redrawn, before, after)
    assert change[53:57, 53:57, 48:52].mean() == pytest.approx(0.5 * 0.3, rel=0.02)
