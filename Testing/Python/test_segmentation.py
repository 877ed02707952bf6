"""The segmenter: network, inference, recipe."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from BrainGenLib import anatomy, heads, morphometry, spaces
from BrainGenLib.methods import segmentation
from BrainGenLib.networks.label_unet import PHASES, LabelUNet, phase_of
from BrainGenLib.reporting import Silent
from BrainGenLib.spaces import GRID_1MM, GRID_2MM, dice, resample, template
from BrainGenLib.training import segmenter
from BrainGenLib.training.cache import CachedCase, CacheWriter

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network() -> LabelUNet:
    """A network whose atlas says: ball of class 1 in the middle of the template, on the left of it class 3."""
    torch.manual_seed(0)
    network = LabelUNet(len(segmenter.OUTPUTS), (4, 4, 4, 4, 4, 4), embedding=4, rank=3).eval()
    grid = torch.stack(torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in (40, 56, 40)], indexing="ij"))
    inside = grid.square().sum(0) < 15**2
    share = torch.full((len(segmenter.OUTPUTS), 40, 56, 40), 1e-3)
    share[0][~inside] = 1
    share[1][inside & (grid[0] > 0)] = 1
    share[3][inside & (grid[0] < 0)] = 1
    network.start_from((share / share.sum(0)).log())
    return network


@pytest.fixture
def model(network) -> segmentation.Segmenter:
    return segmentation.Segmenter(network, np.array(segmenter.OUTPUTS, np.uint8), "cpu")


def ball(radius: float, size: int = 48) -> np.ndarray:
    axis = np.arange(size) - (size - 1) / 2
    return axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2 < radius**2


def test_phases_are_the_voxels_of_the_full_map(network):
    image = torch.rand(1, 1, 64, 96, 64)
    with torch.no_grad():
        full = network(image, (16, 32, 8))
        phases = network.phase_scores(network.features(image, (16, 32, 8)))
    assert full.shape == (1, len(segmenter.OUTPUTS), 64, 96, 64)
    for phase in range(PHASES):
        assert torch.allclose(phase_of(full, phase), phases[phase], atol=1e-5)


def test_before_training_the_network_says_what_the_atlas_says(network):
    best = segmentation.predict(network, torch.rand(GRID_1MM.shape))
    assert best.shape == GRID_1MM.shape
    assert best.dtype == torch.uint8
    assert best[80 + 20, 112, 80] == 1
    assert best[80 - 20, 112, 80] == 3
    assert best[4, 4, 4] == 0


def test_a_crop_knows_where_it_lies(network):
    crop = torch.rand(1, 1, 64, 64, 64)
    with torch.no_grad():
        left, right = (network(crop, (x, 80, 48))[0, :, 32, 32, 32].argmax() for x in (16, 80))
    assert (left, right) == (3, 1)


def test_the_network_fits_the_shipped_budget():
    shipped = LabelUNet(len(segmenter.OUTPUTS))
    assert 2 * sum(value.numel() for value in shipped.state_dict().values()) < 10e6


def test_normalisation_forgets_scale_and_offset():
    volume = torch.rand(30, 30, 30)
    assert torch.allclose(segmentation.normalised(volume), segmentation.normalised(volume * 700 - 40), atol=1e-3)


def test_segmenting_finds_where_the_scan_lies(model):
    image, _ = template()
    affine = GRID_2MM.affine.copy()
    affine[:3, 3] += (12, -7, 15)
    found = segmentation.segment(model, image.astype(float), affine, Silent())
    assert found.classes.shape == GRID_1MM.shape
    assert set(np.unique(found.classes)) <= set(segmenter.OUTPUTS)
    assert np.abs(found.template_to_scan[:3, 3] - (12, -7, 15)).max() < 1
    back = segmentation.to_scan(found.classes, found.template_to_scan, image.shape, affine)
    assert back.shape == image.shape
    assert dice(back, found.classes[::2, ::2, ::2]) > 0.95


@pytest.fixture(scope="module")
def small():
    """A brain of 0.8 times the template's length on a grid of 3 mm, and a head around it (skull 6 mm, scalp 6 mm)."""
    image, _ = template()
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-85, -110, -85)
    brain = resample(image, GRID_2MM.affine, (58, 72, 60), affine, matrix=np.diag([1.25, 1.25, 1.25, 1]))
    inside = ndimage.binary_fill_holes(brain > 20)
    distance = 3 * ndimage.distance_transform_edt(~inside)
    head = np.where(inside, brain, 0)
    head[(distance > 6) & (distance <= 12)] = 230
    return brain * inside, head, affine


def test_a_small_head_is_no_brain_though_its_air_is_zero(small):
    _, head, affine = small
    assert segmentation._millilitres(head > 0, affine) < segmentation.BRAIN_ML[1]
    registration, bare = segmentation.brain_or_head(head, affine)
    assert bare is None
    assert registration.size == pytest.approx(0.8, abs=0.03)


def test_labels_that_reach_into_the_scalp_are_refused(small):
    brain, head, affine = small
    inside = ndimage.binary_fill_holes(brain > 0)
    matrix, grid = np.diag([0.8, 0.8, 0.8, 1]), heads.Head(head, affine)

    def found(mask: np.ndarray) -> segmentation.Segmentation:
        classes = spaces.to_grid(mask.astype(np.uint8), affine, GRID_1MM, template_to_scan=matrix, order=0)
        return segmentation.Segmentation(classes, matrix)

    segmentation._check_in_head(found(inside), grid)
    with pytest.raises(ValueError, match="reaches into the scalp"):
        segmentation._check_in_head(found(3 * ndimage.distance_transform_edt(~inside) < 11), grid)


def test_a_part_of_a_brain_is_not_taken_for_all_of_it(small):
    _, head, affine = small
    grid = heads.Head(head, affine)
    found = segmentation.Segmentation(np.ones(GRID_1MM.shape, np.uint8), np.diag([0.5, 0.5, 0.5, 1]))
    found.template_to_scan[:3, 3] = (0, -40, 0)
    with pytest.raises(ValueError, match="was not found"):
        segmentation._check_in_head(found, grid)
    found.classes[:, 20:] = 0
    with pytest.raises(ValueError, match="would measure"):
        segmentation._check_in_head(found, grid)


def test_a_small_head_with_a_face_is_no_brain_though_its_air_is_zero(small):
    _, head, affine = small
    # What is below a brain, without which its outline is that of a brain.
    face = np.zeros(head.shape, bool)
    face[19:39, 36:62, 4:22] = True
    registration, bare = segmentation.brain_or_head(np.where(face & (head == 0), 120, head), affine)
    assert bare is None
    assert registration.size == pytest.approx(0.8, abs=0.05)


def test_a_brain_is_bare_with_noise_around_it(small):
    brain, _, affine = small
    noise = np.abs(np.random.default_rng(0).normal(0, 1, brain.shape))
    registration, bare = segmentation.brain_or_head(np.where(brain > 0, brain, noise), affine)
    assert bare is not None
    assert dice(bare, brain > 0) > 0.95
    assert registration.size == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_scan_is_refused(model, value):
    with pytest.raises(ValueError, match="constant"):
        segmentation.segment(model, np.full((20, 20, 20), value), np.eye(4), Silent())


def test_a_scan_with_nan_is_refused(model):
    scan = np.random.default_rng(0).random((20, 20, 20))
    scan[3, 3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        segmentation.segment(model, scan, np.eye(4), Silent())


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


def test_the_recipe_trains_resumes_and_exports(tmp_path, monkeypatch):
    labels = np.zeros(GRID_1MM.shape, np.uint8)
    labels[40:120, 60:160, 40:120] = 70
    labels[50:110, 70:150, 50:110] = 3
    labels[60:100, 80:140, 60:100] = 1
    writer = CacheWriter(tmp_path / "cache")
    writer.add(CachedCase("head", "set", "train", "head", 1), labels, {})
    coarse = np.where(labels < 70, labels, 0)[::2, ::2, ::2].astype(np.uint8)
    writer.add(CachedCase("brain", "set", "train", "template", 2), coarse, {"T1w": coarse * 60})
    writer.close()
    tiny = segmenter.Preset(2, 1, (64, 64, 64), (64, 64, 64), phases=1, rate=1e-3, decay=0.5)
    monkeypatch.setitem(segmenter.PRESETS, "cpu", tiny)
    segmenter.train(tmp_path / "cache", tmp_path / "run", device="cpu", steps=1)
    segmenter.train(tmp_path / "cache", tmp_path / "run", device="cpu", steps=2)
    bundle = segmenter.export(tmp_path / "run", tmp_path / "segmenter")
    bundle.verify()
    loaded = segmentation.Segmenter.from_bundle(bundle)
    assert bundle.metadata.parameters["steps"] == 2
    assert segmentation.segment_in_template(loaded, labels.astype(float)).shape == labels.shape


def test_the_loss_asks_nothing_of_classes_that_are_not_there_and_more_of_lesions():
    lesion = segmenter.OUTPUTS.index(anatomy.lesions()["wmh"].index)
    truth = torch.ones(1, 1, 4, 4, 4, dtype=torch.long)
    scores = torch.nn.functional.one_hot(truth[:, 0], len(segmenter.OUTPUTS)).movedim(-1, 1).float() * 30
    assert segmenter.loss_of(scores, truth) == pytest.approx(0, abs=1e-4)
    with_structure, with_lesion = truth.clone(), truth.clone()
    with_structure[..., 0], with_lesion[..., 0] = 2, lesion
    assert segmenter.loss_of(scores, with_lesion) > segmenter.loss_of(scores, with_structure)
