from __future__ import annotations

import numpy as np
import pytest
import torch

from BrainGenLib import anatomy, bundles, spaces
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods import label_folding
from BrainGenLib.methods.brainspade3d import LabelModel, sample_labels
from BrainGenLib.methods.label_folding import TISSUE_CLASSES, blurred, draw_tissues, fold, settled, shares_of
from BrainGenLib.networks.label_folding import KNOWN, TISSUES, FoldDenoiser
from BrainGenLib.reporting import Silent
from BrainGenLib.requests import Generate
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training.label_folding import GROUPS, box_of, export
from BrainGenLib.training.run import Run


def nothing(*_):
    """No callback."""


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(label_folding, "STEPS", 2)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return FoldDenoiser((8, 8)).eval()


@pytest.fixture
def probabilities(phantom_classes):
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(phantom_classes).long(), STRUCTURES)
    return one_hot.movedim(-1, 0).float() * 0.98 + 0.02 / STRUCTURES


def test_every_class_is_tissue_rest_or_background():
    assert set(GROUPS[list(range(STRUCTURES))]) == {0, 1, 2, 3, 4}
    assert GROUPS[0] == 4
    assert [GROUPS[classes[0]] for classes in TISSUE_CLASSES] == [0, 1, 2]
    assert (GROUPS[anatomy.classes_of(tissue="deep_gm")] == 3).all()


def test_shares_add_up_and_settle_voxel_by_voxel(probabilities):
    shares = shares_of(probabilities)
    assert torch.allclose(shares.sum(0), torch.ones(GRID_2MM.shape), atol=1e-5)
    sharp = settled(shares)
    inside = sharp[:TISSUES].sum(0)
    assert set(np.unique(inside.round(decimals=4))) == {0.0, 1.0}
    assert ((inside > 0) == (probabilities.argmax(0).apply_(lambda i: GROUPS[i]) < TISSUES)).all()


def test_blur_keeps_the_mean_and_widens_by_sigma():
    point = torch.zeros(1, 33, 33, 33)
    point[0, 16, 16, 16] = 1
    smooth = blurred(point, 2.0)
    assert smooth.sum() == pytest.approx(1, abs=1e-4)
    offsets = torch.arange(33.0) - 16
    assert float((smooth.sum((0, 2, 3)) * offsets**2).sum() ** 0.5) == pytest.approx(2, rel=0.05)


def test_small_pieces_of_tissue_are_specks():
    shares = torch.zeros(TISSUES, 16, 16, 16)
    shares[1] = 0.5
    shares[2, 4, 4, 4] = shares[0, 8:10, 8:10, 8:10] = 1
    found = label_folding.specks(shares)
    assert found[2].sum() == 1
    assert not found[:2].any()


def test_only_tissues_change_and_sides_stay(network, probabilities):
    before = probabilities.argmax(0)
    after = fold(network, probabilities.log(), torch.Generator().manual_seed(0), nothing).argmax(0)
    group = torch.from_numpy(GROUPS)
    assert (after != before).any()
    assert ((group[after] < TISSUES) == (group[before] < TISSUES)).all()
    untouched = group[before] >= TISSUES
    assert (after[untouched] == before[untouched]).all()
    side = torch.tensor([{"": 0, "left": 1, "right": 2}[label.side] for label in anatomy.labels()])
    both = (side[after] > 0) & (side[before] > 0)
    assert (side[after][both] == side[before][both]).all()


def test_the_same_seed_draws_the_same_folds(network, probabilities):
    shares = settled(shares_of(probabilities))
    one, same, other = (
        draw_tissues(network, shares, 0.0, torch.Generator().manual_seed(seed), nothing) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one[:, shares[:TISSUES].sum(0) == 0].abs().max() == 0
    assert 0 <= one.min() <= one.max() <= 1


def test_a_training_box_tells_true_tissues_and_their_blur(phantom_classes):
    class Material:
        cases = ((phantom_classes, None),)

    z, given = box_of(
        Material(), (32, 32, 32), np.random.default_rng(0), torch.Generator().manual_seed(0), torch.device("cpu")
    )
    assert z.shape == (TISSUES, 32, 32, 32)
    assert given.shape == (TISSUES + KNOWN, 32, 32, 32)
    assert -1 <= z.min() <= z.max() <= 1
    # Blurred means: the same on average in the middle of the box.
    inner = (slice(None), *(slice(8, 24),) * 3)
    assert torch.allclose(z[inner].mean((1, 2, 3)), given[:TISSUES][inner].mean((1, 2, 3)), atol=0.3)


def test_a_run_becomes_part_of_the_bundle(tiny_folder, tmp_path, monkeypatch):
    import shutil

    from BrainGenLib.training import label_folding as recipe

    monkeypatch.setattr(recipe, "ARGS", {"channels": (8, 16)})
    network = FoldDenoiser((8, 16))
    Run(tmp_path / "run", {"network": network}, {}, averaged=("network",)).save()
    shutil.copytree(tiny_folder / "brainspade3d", tmp_path / "bundle")
    export(tmp_path / "run", tmp_path / "bundle")
    bundle = bundles.Bundle(tmp_path / "bundle")
    bundle.verify()
    assert bundle.load("label_folding").unet.block_out_channels == (8, 16)
    assert "## Label folding" in (tmp_path / "bundle" / "docs" / "README.md").read_text("utf-8")


def test_a_bundle_with_folding_draws_other_tissues_in_the_same_outline(tiny_folder, network):
    model = LabelModel.from_bundle(bundles.Bundle(tiny_folder / "brainspade3d"), "cpu")
    plain = sample_labels(model, Generate(seed=3), Silent()).classes_2mm
    model.folding = network
    folded = sample_labels(model, Generate(seed=3), Silent()).classes_2mm
    assert (plain != folded).any()
    assert spaces.dice(plain > 0, folded > 0) > 0.98


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="train that recipe first"):
        export(tmp_path, tmp_path / "bundle")
