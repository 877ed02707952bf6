from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from BrainGenLib import bundles
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods import folds, soft_tissue
from BrainGenLib.methods.soft_tissue import TISSUE_CLASSES, shares_of
from BrainGenLib.networks.soft_tissue import BRAIN, CONDITIONS, FoldDenoiser
from BrainGenLib.training import folds as recipe
from BrainGenLib.training.cache import CachedCase, CacheWriter

pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture
def network():
    """Shares that are those given, within a tenth."""
    torch.manual_seed(0)
    network = FoldDenoiser(STRUCTURES, recipe.GRID, (4, 4)).eval()
    network.mean_weights[0, 2] = network.mean_weights[1, 4] = 1.0
    network.spread_weights[:, 0] = 0.1
    return network


def test_only_cerebral_tissue_is_told_to_be_drawn(network, probabilities):
    network.average.fill_(0.3)
    coarse = folds.halved(probabilities)
    given = folds.conditions(network, coarse, 1.5)
    assert given.shape == (CONDITIONS + 2, *recipe.GRID)
    drawn = given[BRAIN] > 0
    assert not (drawn & (coarse.argmax(0) == 0)).any()
    assert not (drawn & soft_tissue.others(coarse)).any()
    assert given[-1][drawn].numpy() == pytest.approx(0.3)
    assert not given[-1][~drawn].any()


def test_an_average_anatomy_is_told_like_the_brains_of_1_mm(network, probabilities):
    coarse = folds.halved(probabilities)
    inside = folds.tissue(coarse)
    network.told[0], network.told[1] = 0.3, 0.2
    correction = folds.correction_of(network, probabilities)
    given = folds.conditions(network, coarse, folds.DECODED, folds.DECODED_ALREADY, correction)
    assert float((given[1] - 0.3)[inside].abs().mean()) < 0.02
    assert float((given[3] - 0.2)[inside].abs().mean()) < 0.02
    assert given[1:4].sum(0)[inside].numpy() == pytest.approx(1, abs=1e-4)
    assert not given[1:4, ~inside].any()


def test_without_brains_of_1_mm_nothing_is_corrected(network, probabilities):
    assert not folds.correction_of(network, probabilities).any()


def test_drawn_shares_add_up_and_follow_the_seed(network, probabilities):
    correction = torch.zeros(3, *recipe.GRID)
    one, same, other = (
        folds.draw_shares(network, correction, probabilities, torch.Generator().manual_seed(seed), nothing)
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    tissue = torch.isin(probabilities.argmax(0), torch.tensor([i for classes in TISSUE_CLASSES for i in classes]))
    assert one.sum(0)[tissue].numpy() == pytest.approx(1, abs=1e-4)
    assert float(one.min()) >= -1e-5
    labelled = shares_of(probabilities, 4.0)
    assert np.corrcoef(one[:, tissue].flatten(), labelled[:, tissue].flatten())[0, 1] > 0.7


def test_the_average_brain_is_that_of_the_cases_and_symmetric(phantom_classes):
    network = FoldDenoiser(STRUCTURES, recipe.GRID, (4, 4))
    brain = recipe.coarse(phantom_classes)
    recipe.measure(network, [brain], [False])
    assert not network.told.any()
    recipe.measure(network, [brain], [True])
    assert network.told.any()
    assert torch.allclose(network.average, network.average.flip(1), atol=1e-4)
    shares, given = recipe.shares_and_conditions(network, brain.float() / 255, 4.0)
    inside = given[BRAIN] > 0
    assert np.corrcoef(network.average[:, inside].flatten(), shares[:, inside].flatten())[0, 1] > 0.9
    z = (shares - network.expected(given[None])[0][0])[:, inside]
    assert float(z.mean()) == pytest.approx(0, abs=0.05)


def test_a_pair_is_a_brain_or_its_mirror_image(network, phantom_classes, monkeypatch):
    monkeypatch.setattr(recipe, "DEFORMED", 0.0)
    brain = recipe.coarse(phantom_classes)
    plain, _ = recipe.shares_and_conditions(network, brain.float() / 255, 1.0)
    flipped, _ = recipe.shares_and_conditions(network, recipe.mirrored(brain.float() / 255), 1.0)
    assert torch.allclose(plain.flip(1), flipped, atol=1e-3)
    box = (slice(None), *recipe.around([brain]))
    assert float(plain.sum()) == pytest.approx(float(plain[box].sum()))  # nothing of the brain lies beyond
    for seed in range(4):
        shares, _ = recipe.pair_of(network, brain, box[1:], np.random.default_rng(seed), torch.Generator())
        assert torch.allclose(shares, plain[box], atol=1e-3) or torch.allclose(shares, flipped[box], atol=1e-3)


def test_the_box_holds_all_brains_and_their_mirror_images():
    brain = torch.zeros(STRUCTURES, *recipe.GRID, dtype=torch.uint8)
    brain[1, 10:20, 5:12, 30:35] = 255
    assert recipe.around([brain]) == (slice(8, 32), slice(4, 12), slice(28, 36))


def test_a_recipe_run_becomes_part_of_the_bundle(phantom_classes, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(recipe.ARGS["cpu"], "channels", (4, 4))
    writer = CacheWriter(tmp_path / "cache")
    tissue = np.zeros(phantom_classes.shape, np.float32)
    for value, classes in zip((0.05, 0.5, 1.0), TISSUE_CLASSES, strict=True):
        tissue[np.isin(phantom_classes, classes)] = value
    image = np.where(phantom_classes > 0, 60 + 100 * tissue, 0).clip(0, 255).astype(np.uint8)
    for name, split in (("a", "train"), ("b", "test")):
        case = CachedCase(name, "set", split, "template", 2, images={"T1w": (2, 2, 2)}, quality={"structures": 1.0})
        writer.add(case, phantom_classes, {"T1w": image})
    writer.close()
    recipe.train(tmp_path / "cache", tmp_path / "run", device="cpu", steps=1)
    assert list((tmp_path / "run" / "samples").glob("folds-*.png"))
    shutil.copytree(tiny_folder / "brainspade3d", tmp_path / "bundle")
    recipe.export(tmp_path / "run", tmp_path / "bundle")
    bundle = bundles.Bundle(tmp_path / "bundle")
    bundle.verify()
    assert bundle.load("folds").average.any()
    assert "## Folds" in (tmp_path / "bundle" / "docs" / "README.md").read_text("utf-8")


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="train that recipe first"):
        recipe.export(tmp_path, tmp_path / "bundle")
