from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from BrainGenLib import anatomy, bundles, spaces
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods import soft_tissue
from BrainGenLib.methods.brainspade3d import LabelModel, sample_labels
from BrainGenLib.methods.soft_tissue import TISSUE_CLASSES, blurred, conditions, draw_tissue, shares_of
from BrainGenLib.networks.gaussian import BINS, CORNER, radii
from BrainGenLib.networks.soft_tissue import BRAIN, CONDITIONS, TissueDenoiser
from BrainGenLib.reporting import Silent
from BrainGenLib.requests import Generate
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import soft_tissue as recipe
from BrainGenLib.training.cache import Cache, CachedCase, CacheWriter
from BrainGenLib.training.field_diffusion import standardised
from BrainGenLib.training.soft_tissue_material import Brain, brains

TISSUES = [index for classes in TISSUE_CLASSES for index in classes]
FLUID, GREY, WHITE = (list(classes) for classes in TISSUE_CLASSES)


pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = TissueDenoiser(STRUCTURES, (4, 4)).eval()
    network.signals[GREY], network.signals[WHITE] = 0.5, 1.0
    network.mean_weights[0, 1] = 1.0  # the signal
    network.spread_weights[0, 0] = 0.1
    return network


@pytest.fixture
def brain(phantom_classes):
    """A phantom whose grey matter is grey and white matter white."""
    tissue = np.zeros(phantom_classes.shape, np.float32)
    tissue[np.isin(phantom_classes, GREY)], tissue[np.isin(phantom_classes, WHITE)] = 0.5, 1
    noise = np.random.default_rng(0).normal(0, 0.05, tissue.shape)
    return Brain("a", phantom_classes, np.where(phantom_classes > 0, tissue + noise, 0).astype(np.float16), True)


def test_blur_keeps_the_mean_and_widens_by_sigma():
    point = torch.zeros(1, 33, 33, 33)
    point[0, 16, 16, 16] = 1
    smooth = blurred(point, 2.0)
    assert smooth.sum() == pytest.approx(1, abs=1e-4)
    offsets = torch.arange(33.0) - 16
    assert float((smooth.sum((0, 2, 3)) * offsets**2).sum() ** 0.5) == pytest.approx(2, rel=0.05)


def test_conditions_blur_tissues_and_keep_what_is_known(probabilities, network):
    given = conditions(probabilities, shares_of(probabilities, 1.75), network.signals, 1.75)
    assert given.shape == (CONDITIONS, *GRID_2MM.shape)
    classes = probabilities.argmax(0)
    assert torch.equal(given[BRAIN] > 0, classes > 0)
    ventricle = torch.isin(classes, torch.tensor(anatomy.classes_of(name="lateral ventricle")))
    values = network.signals[classes[ventricle]]
    assert torch.allclose(given[0][ventricle], values, atol=0.05)
    shares = given[1:4].sum(0)
    tissue = torch.isin(classes, torch.tensor(TISSUES))
    assert torch.allclose(shares[tissue], torch.ones(int(tissue.sum())), atol=1e-3)
    assert shares[~tissue].abs().max() == 0


def test_the_gaussian_part_is_the_wiener_filter(network):
    # White noise of power 1 seen in white noise: E[z|x] = αx/(α² + σ²), whatever the place.
    x = torch.randn(2, 1, 16, 16, 16)
    alpha, sigma = torch.tensor([0.8, 0.6]), torch.tensor([0.6, 0.8])
    guess, error = network.gaussian(x, alpha, sigma)
    assert torch.allclose(guess, alpha.view(-1, 1, 1, 1, 1) * x, atol=1e-5)
    assert torch.allclose(error.flatten(), sigma, atol=1e-5)
    # Without power at high frequencies nothing of them remains.
    network.spectrum[:, BINS // 4 :] = 0
    smooth, _ = network.gaussian(x, alpha, sigma)
    coefficients = torch.fft.rfftn(smooth, dim=(2, 3, 4)).abs()[0, 0]
    assert coefficients[radii((16, 16, 16), x.device) > CORNER / 3].max() < 1e-4


def test_the_same_seed_draws_the_same_map_and_none_outside(network, probabilities):
    given = conditions(probabilities, shares_of(probabilities, 1.75), network.signals, 1.75)
    one, same, other = (
        draw_tissue(network, given, torch.Generator().manual_seed(seed), nothing) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one[given[BRAIN] == 0].abs().max() == 0


def test_temperature_leads_from_the_expectation_to_the_sample(network, probabilities):
    given = conditions(probabilities, shares_of(probabilities, 1.75), network.signals, 1.75)
    cold, half, warm = (
        soft_tissue.draw(network, given, torch.Generator().manual_seed(1), nothing, steps=2, temperature=temperature)
        for temperature in (0, 0.5, 1)
    )
    assert torch.allclose(half, (cold + warm) / 2, atol=1e-5)
    mean = network.expected(given[None])[0][0]
    inside = given[BRAIN] > 0
    # The network is Gaussian yet: what it expects is the mean of the place.
    assert (cold - mean)[:, inside].abs().mean() < 0.2 * (warm - mean)[:, inside].abs().mean()


def test_guidance_goes_on_from_the_gaussian_model(network):
    torch.nn.init.normal_(network.unet.last.weight)
    x, given = torch.randn(1, 1, 16, 16, 16), torch.rand(1, CONDITIONS, 16, 16, 16)
    given[:, BRAIN] = 1
    alpha, sigma = torch.tensor([0.8]), torch.tensor([0.6])
    gaussian, _ = network.gaussian(x, alpha, sigma)
    plain, further = (network(x, alpha, sigma, given, guidance)[0] for guidance in (0, 0.5))
    assert (plain - gaussian).abs().max() > 0.01
    assert torch.allclose(further - gaussian, 1.5 * (plain - gaussian), atol=1e-4)


def test_a_map_of_nothing_is_refused(network):
    with pytest.raises(ValueError, match="no brain"):
        soft_tissue.tissue_of_classes(network, np.zeros((16, 16, 16), np.uint8), torch.Generator(), nothing)


def test_a_segmentation_of_odd_sides_gets_a_map_of_half_the_size(network):
    classes = np.zeros((33, 40, 21), np.uint8)
    classes[4:30, 4:36, 4:19] = WHITE[0]
    classes[10:14, 10:14, 10:14] = anatomy.lesions()["wmh"].index
    tissue = soft_tissue.tissue_of_classes(network, classes, torch.Generator().manual_seed(0), nothing)
    assert tissue.shape == (17, 20, 11)


def test_measuring_makes_it_the_gaussian_model_of_the_maps(brain, monkeypatch):
    monkeypatch.setattr(recipe, "MEASURED_BOXES", 4)
    network = TissueDenoiser(STRUCTURES, (4, 4))
    recipe.measure(network, [brain])
    assert network.signals[GREY].numpy() == pytest.approx(0.5, abs=0.02)
    assert network.tissue_means[1:].numpy() == pytest.approx([0.5, 1], abs=0.02)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    tissue, given = recipe.box_of([brain], network.signals, GRID_2MM.shape, rng, generator, True)
    z = standardised(network, tissue[None], given[None])[0, 0][given[BRAIN] > 0]
    assert float(z.mean()) == pytest.approx(0, abs=0.2)
    assert 0.3 < float(z.std()) < 2


def test_a_training_box_is_a_place_of_the_brain(brain, network):
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    for _ in range(3):
        tissue, given = recipe.box_of([brain], network.signals, (32, 32, 32), rng, generator)
        assert tissue.shape == (1, 32, 32, 32)
        assert given.shape == (CONDITIONS, 32, 32, 32)
        assert np.corrcoef(tissue[0].ravel(), given[0].ravel())[0, 1] > 0.5


def test_a_recipe_run_becomes_part_of_the_bundle(brain, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(recipe.ARGS["cpu"], "channels", (4, 4))
    monkeypatch.setattr(recipe, "MEASURED_BOXES", 1)
    writer = CacheWriter(tmp_path / "cache")
    image = (np.where(brain.structures > 0, 60 + 100 * brain.tissue, 0)).clip(0, 255).astype(np.uint8)
    for name, split in (("a", "train"), ("b", "test")):
        case = CachedCase(name, "set", split, "template", 2, images={"T1w": (2, 2, 2)}, quality={"structures": 1.0})
        writer.add(case, brain.structures, {"T1w": image})
    writer.close()
    assert len(brains(Cache(tmp_path / "cache"), "train")) == 1
    recipe.train(tmp_path / "cache", tmp_path / "run", device="cpu", steps=1)
    assert list((tmp_path / "run" / "samples").glob("tissue-*.png"))
    shutil.copytree(tiny_folder / "brainspade3d", tmp_path / "bundle")
    recipe.export(tmp_path / "run", tmp_path / "bundle")
    bundle = bundles.Bundle(tmp_path / "bundle")
    bundle.verify()
    assert bundle.load("soft_tissue").signals[GREY[0]] == pytest.approx(0.5, abs=0.05)
    assert "## Soft tissue" in (tmp_path / "bundle" / "docs" / "README.md").read_text("utf-8")


def test_a_cache_without_t1w_scans_is_refused(tmp_path, phantom_classes):
    writer = CacheWriter(tmp_path)
    writer.add(CachedCase("a", "set", "train", "template", 2), phantom_classes, {})
    writer.close()
    with pytest.raises(ValueError, match="no labelled train case with a T1w scan"):
        brains(Cache(tmp_path), "train")


def test_donors_move_borders_within_much_the_same_outline(tiny_folder):
    model = LabelModel.from_bundle(bundles.Bundle(tiny_folder / "brainspade3d"), "cpu")
    drawn = sample_labels(model, Generate(seed=3), Silent())
    model.people = None
    plain = sample_labels(model, Generate(seed=3), Silent())
    assert (plain.classes_2mm != drawn.classes_2mm).any()
    assert spaces.dice(plain.classes_2mm > 0, drawn.classes_2mm > 0) > 0.9
    assert plain.folded is None


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="train that recipe first"):
        recipe.export(tmp_path, tmp_path / "bundle")
