"""The judges, judged: each distance against a case whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from BrainGenLib import anatomy, spaces
from BrainGenLib.evaluation import agreement, baselines, features, fidelity, looks, results, texture, utility
from BrainGenLib.networks.label_unet import LabelUNet


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_frechet_distance_of_shifted_gaussians_is_the_closed_form(rng):
    a = rng.normal(size=(20_000, 3)) * [1.0, 2.0, 0.5]
    b = rng.normal(size=(20_000, 3)) * [1.0, 1.0, 0.5] + [3.0, 0.0, 0.0]
    # |mean difference|² + Σ (sd_a − sd_b)²
    assert fidelity.frechet_distance(a, b) == pytest.approx(9 + 1, rel=0.03)


def test_frechet_distance_survives_fewer_samples_than_features(rng):
    a, b = rng.normal(size=(2, 6, 40))
    near, far = fidelity.frechet_distance(a, b), fidelity.frechet_distance(a, b + 3)
    assert 0 < near < far < near + 3 * 9 * 40


def test_shrunk_covariance_nears_the_truth_and_shrinks_small_samples(rng):
    truth = np.diag([4.0, 1.0, 0.25])
    large = fidelity.shrunk_covariance(rng.multivariate_normal(np.zeros(3), truth, 50_000))
    np.testing.assert_allclose(large, truth, atol=0.08)
    small = fidelity.shrunk_covariance(rng.normal(size=(4, 30)))
    assert np.linalg.eigvalsh(small).min() > 0


def test_mmd_is_zero_on_average_for_one_distribution_and_positive_for_two(rng):
    same = [fidelity.mmd(*rng.normal(size=(2, 12, 4)), bandwidth=2.8) for _ in range(300)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(300)
    assert min(same) < 0
    # Equal means, unequal spread: a linear kernel would not see this.
    wide = [fidelity.mmd(rng.normal(size=(12, 4)), 3 * rng.normal(size=(12, 4)), bandwidth=2.8) for _ in range(50)]
    assert np.mean(wide) > 10 * np.std(same) / np.sqrt(50)


def test_whitening_gives_the_reference_unit_variance_and_ignores_constant_features(rng):
    reference = np.c_[rng.normal(size=(50, 5)) * [1, 10, 100, 0.1, 5], np.full(50, 7.0)]
    white = fidelity.Whitening(reference, components=4)(reference)
    assert white.shape == (50, 4)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(4), atol=1e-8)
    shifted = fidelity.Whitening(reference, components=4)(reference + np.array([0, 0, 0, 0, 0, 5]))
    np.testing.assert_allclose(white, shifted)


def test_residual_distance_is_one_for_the_reference_itself_and_grows_with_a_shift(rng):
    reference = rng.normal(size=(400, 30)) * np.arange(1, 31)
    assert fidelity.residual_distance(reference, reference) == pytest.approx(1, abs=0.05)
    shifted = reference + 3 * np.arange(1, 31)
    assert fidelity.residual_distance(shifted, reference) == pytest.approx(np.sqrt(10), abs=0.1)


def test_intensity_emd_of_a_shifted_histogram_is_the_shift(rng):
    values = rng.uniform(0.2, 0.5, 50_000)
    assert fidelity.intensity_emd(values, values + 0.25) == pytest.approx(0.25, abs=0.002)
    assert fidelity.intensity_emd(values, rng.permutation(values)[:25_000]) < 0.002


def test_ms_ssim_is_one_for_repeats_and_less_for_different_volumes(rng):
    coarse = rng.uniform(size=(3, 12, 12, 12)).astype(np.float32)
    volumes = [np.kron(c, np.ones((4, 4, 4), np.float32)) for c in coarse]
    assert fidelity.ms_ssim_diversity([volumes[0], volumes[0]], 2, rng) == pytest.approx(1, abs=1e-4)
    assert fidelity.ms_ssim_diversity(volumes, 4, rng) < 0.5


def test_split_halves_are_disjoint_equal_and_their_spread_is_that_of_the_whole(rng):
    def check(half: np.ndarray, other: np.ndarray) -> float:
        assert len(half) == len(other) == 5
        assert not set(half) & set(other)
        return 0.0

    fidelity.split_halves(11, 20, rng, check)
    values = rng.normal(size=400)
    means = fidelity.split_halves(400, 500, rng, lambda half, _: values[half].mean())
    assert means.std() == pytest.approx(1 / np.sqrt(400), rel=0.2)


def test_power_spectrum_is_flat_for_noise_and_falls_for_a_smooth_image(rng):
    mask = np.zeros((40, 44, 36), bool)
    mask[4:34, 5:40, 3:30] = rng.uniform(size=(30, 35, 27)) > 0.3
    noise = rng.normal(0.5, 0.1, mask.shape)
    flat = texture.power_spectrum(noise, mask)
    assert np.ptp(flat) < 2.0
    # Independent voxels of variance v have power v at every frequency.
    assert flat[2:].mean() == pytest.approx(10 * np.log10(0.1**2), abs=0.5)
    smooth = texture.power_spectrum(ndimage.gaussian_filter(noise, 1.5), mask)
    assert smooth[0] - smooth[7] > 15


def test_power_spectrum_ignores_what_lies_outside_of_the_mask(rng):
    image, mask = rng.uniform(size=(20, 20, 20)), np.zeros((20, 20, 20), bool)
    mask[5:15, 5:15, 5:15] = True
    np.testing.assert_allclose(
        texture.power_spectrum(image, mask), texture.power_spectrum(np.where(mask, image, 9.0), mask)
    )
    with pytest.raises(ValueError, match="not empty"):
        texture.power_spectrum(image, ~np.ones_like(mask))


def test_gradient_of_a_ramp_is_its_slope_and_half_the_slope_is_half_the_distance():
    ramp = np.broadcast_to(np.arange(20.0)[:, None, None] * 0.03, (20, 6, 6))
    everywhere = np.ones(ramp.shape, bool)
    steep = texture.gradient_magnitudes(ramp, everywhere)
    np.testing.assert_allclose(steep, 0.03, rtol=1e-5)
    assert texture.gradient_distance(texture.gradient_magnitudes(ramp / 2, everywhere), steep) == pytest.approx(0.5)


def test_gaussian_render_has_the_statistics_that_were_measured(rng):
    classes = np.repeat(np.array([0, 1, 3, 33], np.uint8), 5000).reshape(20, 20, 50)
    statistics = np.full((len(anatomy.labels()), 2), 0.5)
    statistics[[1, 3, 33]] = [[0.8, 0.02], [0.5, 0.05], [0.3, 0.01]]
    image = baselines.gaussian_render(classes, statistics, rng)
    assert not image[classes == 0].any()
    measured = baselines.class_statistics(image, classes)
    np.testing.assert_allclose(measured[[1, 3, 33]], statistics[[1, 3, 33]], atol=3e-3)
    assert np.isnan(measured[2]).all()


def test_matched_statistics_fill_missing_classes_from_other_scans_then_from_the_tissue(rng):
    count = len(anatomy.labels())
    scans = [np.full((count, 2), np.nan) for _ in range(2)]
    left_wm, right_wm = anatomy.classes_of(name="cerebral white matter")
    cerebellar_wm = anatomy.classes_of(name="cerebellar white matter")[0]
    for scan, level in zip(scans, (0.6, 0.8), strict=True):
        scan[left_wm] = [level, 0.1]
    scans[1][right_wm] = [0.7, 0.2]
    filled = baselines.matched_statistics(scans, rng)
    assert filled[left_wm, 0] in (0.6, 0.8)
    np.testing.assert_allclose(filled[right_wm], [0.7, 0.2])
    np.testing.assert_allclose(filled[cerebellar_wm], (filled[left_wm] + filled[right_wm]) / 2)
    assert not np.isnan(filled).any()


def test_acquire_blurs_only_the_coarse_axis_and_keeps_the_mean(rng):
    volume = rng.uniform(0.2, 0.8, (24, 24, 48)).astype(np.float32)
    thick = baselines.acquire(volume, 1.0, (0.9, 1.0, 4.0))
    assert thick.mean() == pytest.approx(volume.mean(), abs=0.01)
    assert np.diff(thick, axis=2).std() < 0.2 * np.diff(volume, axis=2).std()
    constant_along_slices = np.broadcast_to(volume[:, :, :1], volume.shape)
    np.testing.assert_allclose(baselines.acquire(constant_along_slices, 1.0, (0.9, 1.0, 4.0)), constant_along_slices)


@pytest.fixture(scope="module")
def network() -> LabelUNet:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return LabelUNet(5, (8, 8, 8, 8, 8, 8), embedding=8, rank=2, grid=(16, 16, 16)).eval()


def brain(rng: np.random.Generator, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """A ball of white matter in a shell of cortex, and its image."""
    distance = np.linalg.norm(np.indices((64, 64, 64)) - 31.5, axis=0)
    classes = np.where(distance < 14, 1, np.where(distance < 21, 3, 0)).astype(np.uint8)
    image = np.choose(np.searchsorted([1, 3], classes), [0.8, 0.5]) + rng.normal(0, noise, classes.shape)
    return np.where(classes > 0, image.clip(0.01, 1), 0).astype(np.float32), classes


def test_features_see_noise(rng, network):
    image, classes = brain(rng, 0.02)
    here = features.features(network, image, classes)
    noisy = features.features(network, *brain(rng, 0.1))
    assert np.abs(noisy["fine"] - here["fine"]).max() > 0.05
    assert here["deep"].shape == here["fine"].shape == (2 * 8 * (1 + len(features.TISSUES)),)


def test_standardised_is_blind_to_scale_and_to_the_brain_mask(rng):
    image, classes = brain(rng, 0.02)
    whole_head = np.where(classes > 0, image, 0.7)
    np.testing.assert_allclose(
        looks.standardised(image * 40, classes), looks.standardised(whole_head, classes), rtol=1e-5
    )
    with pytest.raises(ValueError, match="empty"):
        looks.standardised(np.zeros_like(image), classes)


def test_yardstick_puts_like_images_nearer_than_unlike_ones_in_every_distance(rng, network, monkeypatch):
    monkeypatch.setattr(looks, "TISSUES", ("wm", "gm"))
    monkeypatch.setattr(looks.spaces, "GRID_1MM", looks.spaces.Grid((64, 64, 64), 1.0, (0.0, 0.0, 0.0)))

    def seen(noise: float) -> list[looks.Looks]:
        return [looks.look(network, *brain(rng, noise * rng.uniform(0.5, 1.5)), rng) for _ in range(8)]

    real, like, unlike = seen(0.04), seen(0.04), seen(0.15)
    yardstick = looks.Yardstick(real)
    near, far = yardstick.distances(like, real), yardstick.distances(unlike, real)
    assert len(near) == len(looks.DISTANCES)
    for name, a, b in zip(looks.DISTANCES, near, far, strict=True):
        assert a < b, name


def test_dice_leaves_out_what_the_segmenter_cannot_name():
    wmh = anatomy.lesions()["wmh"].index
    truth = np.array([0, 0, 1, 1, 1, 1, 3, 3, wmh, wmh], np.uint8)
    found = np.array([0, 3, 1, 1, 3, 3, 3, 3, 1, 1], np.uint8)
    dice = agreement.dice_per_class(found, truth, known=np.arange(33))
    assert dice[1] == pytest.approx(2 * 2 / (2 + 4))
    assert dice[3] == pytest.approx(2 * 2 / (5 + 2))
    assert np.isnan(dice[[0, 2, wmh]]).all()
    # A segmenter that knows the lesion is judged by it, too.
    assert agreement.dice_per_class(found, truth, known=np.arange(39))[wmh] == 0


def test_structures_average_both_sides_and_skip_what_no_case_has():
    dice = np.full((2, len(anatomy.labels())), np.nan)
    left, right = anatomy.classes_of(name="hippocampus")
    dice[0, left], dice[1, right], dice[1, left] = 0.9, 0.6, 0.9
    assert agreement.by_structure(dice) == {"hippocampus": pytest.approx(0.8)}


def test_lesion_contrast_is_in_deviations_of_white_matter(rng):
    classes = np.full((30, 30, 30), anatomy.classes_of(name="cerebral white matter")[0], np.uint8)
    classes[:5] = anatomy.lesions()["wmh"].index
    image = rng.normal(0.5, 0.05, classes.shape)
    image[:5] += 0.2
    assert agreement.lesion_contrast(image, classes, "wmh") == pytest.approx(4, abs=0.1)
    assert np.isnan(agreement.lesion_contrast(image, classes, "stroke"))


def test_lesion_segmenter_learns_bright_blobs_that_no_threshold_finds(rng):
    def case() -> tuple[np.ndarray, np.ndarray]:
        image = np.pad(rng.normal(1.0, 0.1, (14, 14, 14)).clip(0.1), 1).astype(np.float32)
        mask = np.zeros(image.shape, bool)
        corner = rng.integers(2, 9, 3)
        blob = tuple(slice(c, c + 5) for c in corner)
        mask[blob] = True
        image[blob] += 0.35
        # Single bright voxels everywhere: only size tells a lesion from them.
        image[(rng.uniform(size=image.shape) > 0.97) & (image > 0)] += 0.35
        return utility.standard_scores(image), mask

    torch.set_num_threads(1)
    images, masks = zip(*(case() for _ in range(6)), strict=True)
    network = utility.train(images, masks, steps=60, seed=0, device=torch.device("cpu"), batch=2)
    tests = [case() for _ in range(3)]
    cut = utility.best_threshold(images, masks)
    learned = np.mean([spaces.dice(utility.predict(network, image), mask) for image, mask in tests])
    trivial = np.mean([spaces.dice(image > cut, mask) for image, mask in tests])
    assert learned > max(trivial, 0.5)


def test_standard_scores_do_not_depend_on_scale_or_shift_of_the_scanner(rng):
    image = np.pad(rng.uniform(0.2, 1, (10, 10, 10)), 3)
    scores = utility.standard_scores(image)
    assert not scores[image == 0].any()
    np.testing.assert_allclose(utility.standard_scores(np.where(image > 0, 7 * image + 3, 0)), scores, atol=1e-4)


def test_best_threshold_is_the_one_that_separates():
    image = np.linspace(0, 5, 1000).reshape(10, 10, 10)
    assert utility.best_threshold([image], [image > 3.1]) == pytest.approx(3.1, abs=0.051)


def test_result_survives_the_file_and_its_tables_become_markdown(tmp_path):
    table = results.Table(title="t", columns=["name", "value"], rows=[["a", 0.12345], ["b", None], ["c", 12345.6]])
    result = results.Result(name="x", title="X", tables=[table], headlines=[results.Headline(what="w", figure="1 s")])
    result.save(tmp_path / "x.json")
    again = results.Result.model_validate_json((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert again == result
    assert again.environment["torch"] == torch.__version__
    assert table.markdown().splitlines() == [
        "| name | value |",
        "| --- | ---: |",
        "| a | 0.123 |",
        "| b | – |",
        "| c | 12346 |",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
