"""The segmenter: network, inference, recipe."""

import numpy as np
import pytest
import torch

from BrainGenLib import anatomy, morphometry
from BrainGenLib.methods import segmentation
from BrainGenLib.networks.label_unet import PHASES, LabelUNet, phase_of
from BrainGenLib.reporting import Silent
from BrainGenLib.training import segmenter
from BrainGenLib.training.cache import CachedCase, CacheWriter

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network() -> LabelUNet:
    torch.manual_seed(0)
    return LabelUNet(len(segmenter.OUTPUTS)).eval()


@pytest.fixture
def model(network) -> segmentation.Segmenter:
    return segmentation.Segmenter(network, np.array(segmenter.OUTPUTS, np.uint8), "cpu")


def ball(radius: float, size: int = 48) -> np.ndarray:
    axis = np.arange(size) - (size - 1) / 2
    return axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2 < radius**2


def test_phases_are_the_voxels_of_the_full_map(network):
    image = torch.rand(1, 1, 64, 96, 64)
    with torch.no_grad():
        full = network(image)
        phases = network.phase_scores(network.features(image))
    assert full.shape == (1, len(segmenter.OUTPUTS), 64, 96, 64)
    for phase in range(PHASES):
        assert torch.allclose(phase_of(full, phase), phases[phase], atol=1e-5)


def test_prediction_is_the_best_class_at_every_voxel_and_keeps_any_size(network):
    volume = torch.rand(64, 64, 64)
    with torch.no_grad():
        best = network(volume[None, None])[0].argmax(0)
    assert torch.equal(segmentation.predict(network, volume), best.to(torch.uint8))
    assert segmentation.predict(network, torch.rand(33, 47, 5)).shape == (33, 47, 5)


def test_large_volumes_are_tiled(network, monkeypatch):
    monkeypatch.setattr(segmentation, "WHOLE_VOXELS", 1000)
    assert segmentation.predict(network, torch.rand(40, 40, 40)).shape == (40, 40, 40)


def test_the_network_fits_the_shipped_budget(network):
    assert 2 * sum(p.numel() for p in network.parameters()) < 6e6


def test_normalisation_forgets_scale_and_offset():
    volume = torch.rand(30, 30, 30)
    assert torch.allclose(segmentation.normalised(volume), segmentation.normalised(volume * 700 - 40), atol=1e-3)


def test_segmenting_gives_classes_of_the_table_on_the_same_grid(model):
    scan = ball(18) * (200 + 20 * np.random.default_rng(0).normal(size=(48, 48, 48)))
    classes = segmentation.segment(model, scan, Silent())
    assert classes.shape == scan.shape
    assert classes.dtype == np.uint8
    assert set(np.unique(classes)) <= set(segmenter.OUTPUTS)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_scan_is_refused(model, value):
    with pytest.raises(ValueError, match="constant"):
        segmentation.segment(model, np.full((20, 20, 20), value), Silent())


def test_a_scan_with_nan_is_refused(model):
    scan = np.random.default_rng(0).random((20, 20, 20))
    scan[3, 3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        segmentation.segment(model, scan, Silent())


def test_only_the_largest_piece_is_kept():
    classes = ball(10).astype(np.uint8)
    classes[:2, :2, :2] = 5
    assert np.array_equal(segmentation.largest_piece(classes), ball(10).astype(np.uint8))
    assert not segmentation.largest_piece(np.zeros((4, 4, 4), np.uint8)).any()


def test_the_brain_mask_has_no_holes_even_at_the_border():
    shell = ball(20) & ~ball(12)
    assert np.array_equal(morphometry.brain_mask(shell.astype(np.uint8)), morphometry.brain_mask(ball(20)))
    assert morphometry.brain_mask(np.ones((6, 6, 6), np.uint8)).all()
    assert not morphometry.brain_mask(np.zeros((6, 6, 6), np.uint8)).any()


def test_volumes_are_in_millilitres():
    classes = np.zeros((20, 20, 20), np.uint8)
    classes[:10, :10, :10] = 1
    volumes = morphometry.volumes_ml(classes, 2.0)
    assert volumes["left cerebral white matter"] == 2.0
    assert volumes["stroke lesion"] == 0
    assert len(volumes) == len(anatomy.labels()) - 1


def test_every_class_has_an_output_and_ms_counts_as_white_matter_lesion():
    table = segmenter.target_table()
    for label in anatomy.labels():
        wanted = "wmh" if label.condition == "ms" else label.condition
        assert anatomy.labels()[segmenter.OUTPUTS[table[label.index]]].condition == wanted
    assert not table[64:].any()


def test_sides_that_cannot_be_told_apart_are_not_asked_for():
    pair = segmenter.paired_outputs()
    scores = torch.randn(1, len(segmenter.OUTPUTS), 2, 2, 2)
    left, right = (anatomy.classes_of(name=f"{side} thalamus")[0] for side in ("left", "right"))
    merged = segmenter.without_sides(scores, pair).softmax(1)
    apart = scores.softmax(1)
    assert torch.allclose(merged[:, left], apart[:, left] + apart[:, right], atol=1e-4)
    assert merged[:, right].max() < 1e-4
    brainstem = anatomy.classes_of(name="brainstem")[0]
    assert torch.allclose(merged[:, brainstem], apart[:, brainstem], atol=1e-4)


def test_the_recipe_trains_resumes_and_exports(tmp_path, monkeypatch):
    labels = np.where(ball(20), 3, 0).astype(np.uint8)
    labels[ball(12)] = 1
    labels[ball(22) & ~ball(20)] = 70
    writer = CacheWriter(tmp_path / "cache")
    writer.add(CachedCase("head", "set", "train", "head", 1), labels, {})
    writer.close()
    tiny = segmenter.Preset(2, 1, (64, 64, 64), (64, 64, 64), maps=2, phases=1, rate=1e-3, decay=0.5)
    monkeypatch.setitem(segmenter.PRESETS, "cpu", tiny)
    segmenter.train(tmp_path / "cache", tmp_path / "run", device="cpu", steps=1)
    segmenter.train(tmp_path / "cache", tmp_path / "run", device="cpu", steps=2)
    bundle = segmenter.export(tmp_path / "run", tmp_path / "segmenter")
    bundle.verify()
    loaded = segmentation.Segmenter.from_bundle(bundle)
    assert bundle.metadata.parameters["steps"] == 2
    assert segmentation.segment(loaded, labels.astype(float), Silent()).shape == labels.shape
