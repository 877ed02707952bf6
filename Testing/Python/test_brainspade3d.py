"""The label model: conditions become a label map that keeps to them; autoencoder and denoiser do what they say."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from BrainGenLib import anatomy, bundles
from BrainGenLib.evaluation.memorisation import between_cases, mean_dice, nearest_dice
from BrainGenLib.lesions import PATHOLOGIES, STRUCTURES, VOXEL_ML
from BrainGenLib.methods import label_cleaning
from BrainGenLib.methods.brainspade3d import LabelModel, LabelSample, anatomy_volumes, draw_anatomy, sample_labels
from BrainGenLib.methods.lesion_loads import place_lesions
from BrainGenLib.networks.label_autoencoder import LabelAutoencoder
from BrainGenLib.networks.label_diffusion import GaussianPrior, LabelDenoiser
from BrainGenLib.reporting import Cancelled, Silent
from BrainGenLib.requests import Generate, Location
from BrainGenLib.spaces import GRID_1MM, GRID_2MM
from BrainGenLib.training import label_export

LESIONS = len(PATHOLOGIES)


@pytest.fixture
def model(tiny_bundles) -> LabelModel:
    return LabelModel.from_bundle(bundles.find("brainspade3d"), "cpu")


def ask(**fields) -> Generate:
    return Generate(steps=2, **fields)


def test_the_same_request_gives_the_same_map_and_another_seed_another(model):
    first, again = (sample_labels(model, ask(seed=1, pathologies={"wmh": 0.2}), Silent()) for _ in range(2))
    np.testing.assert_array_equal(first.classes_2mm, again.classes_2mm)
    np.testing.assert_array_equal(first.classes_1mm(), again.classes_1mm())
    other = sample_labels(model, ask(seed=2, pathologies={"wmh": 0.2}), Silent())
    assert (other.classes_2mm != first.classes_2mm).any()
    assert other.anatomy != first.anatomy


def test_loads_are_obtained_alone_and_together_and_nothing_else_appears(model):
    sample = sample_labels(model, ask(pathologies={"wmh": 0.1, "stroke": 0.5}), Silent())
    assert sample.obtained["wmh"] == pytest.approx(0.1, rel=0.1)
    assert sample.obtained["stroke"] == pytest.approx(0.5, rel=0.1)
    present = set(np.unique(sample.classes_2mm[sample.classes_2mm >= STRUCTURES]))
    assert present == {anatomy.lesions()[name].index for name in ("wmh", "stroke")}
    assert set(np.unique(sample.classes_1mm()[sample.classes_1mm() >= STRUCTURES])) == present


def test_a_healthy_request_has_no_lesion(model):
    sample = sample_labels(model, ask(pathologies={"wmh": 0.0}), Silent())
    assert sample.classes_2mm.max() < STRUCTURES
    assert not any(sample.obtained.values())


def test_a_lesion_stays_on_the_asked_side(model):
    request = ask(pathologies={"stroke": 0.2}, locations={"stroke": Location(side="left")})
    found = np.argwhere(sample_labels(model, request, Silent()).classes_2mm == anatomy.lesions()["stroke"].index)
    assert len(found)
    assert found[:, 0].max() < GRID_2MM.shape[0] // 2


def test_1mm_maps_agree_with_2mm_maps(model):
    sample = sample_labels(model, ask(pathologies={"stroke": 0.4}), Silent())
    fine = sample.classes_1mm()
    assert fine.shape == GRID_1MM.shape
    assert fine.dtype == np.uint8
    centre = fine[1::2, 1::2, 1::2]
    # Tissue of an untrained network is noise: what is one voxel at 2 mm may be none at 1 mm.
    assert (centre == sample.classes_2mm).mean() > 0.9
    volumes = [(m == anatomy.lesions()["stroke"].index).sum() * v for m, v in ((fine, 1), (sample.classes_2mm, 8))]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.1)


def test_anatomy_is_drawn_unless_asked_for(model):
    drawn = [draw_anatomy(model, {}, torch.Generator().manual_seed(seed))["ventricles"] for seed in range(20)]
    assert len(set(drawn)) > 10
    assert all(10 <= value <= 60 for value in drawn)
    assert draw_anatomy(model, {"brain": 1111.0}, torch.Generator())["brain"] == 1111.0


def test_sampling_stops_within_a_step(model):
    class Stop:
        calls = 0

        def step(self, stage, step, of, message=""):
            self.calls += 1
            if self.calls == 2:
                raise Cancelled

    stop = Stop()
    with pytest.raises(Cancelled):
        sample_labels(model, Generate(steps=10), stop)
    assert stop.calls == 2


def test_placing_lesions_respects_load_tissue_region_and_each_other():
    rng = np.random.default_rng(0)
    shape = (24, 24, 24)
    structures = np.full(shape, anatomy.classes_of(name="cerebral white matter")[0], np.uint8)
    structures[:, :4] = anatomy.classes_of(name="lateral ventricle")[0]
    logits = rng.standard_normal((1 + LESIONS, *shape)).astype(np.float32)
    left = np.zeros(shape, bool)
    left[:12] = True
    wanted = {"wmh": 2.0, "tumour": 3.0, "stroke": 0.0}
    regions = {name: left for name in PATHOLOGIES}
    lesions, placed = place_lesions(logits, structures, wanted, regions, rng)
    assert set(placed) == {"wmh", "tumour"}
    assert not lesions[12:].any()
    assert not lesions[:, :4].any()
    for name in placed:
        volume = (lesions == PATHOLOGIES.index(name) + 1).sum() * VOXEL_ML
        assert volume == pytest.approx(wanted[name], rel=0.15)


def test_cleaning_puts_sides_right_and_fills_holes():
    logs = torch.full((STRUCTURES, *GRID_2MM.shape), -5.0)
    left, right = anatomy.classes_of(name="cerebral white matter")
    logs[0] = 0
    # Left white matter everywhere in the brain, with right as the second guess; a hole; an island outside.
    logs[left, 10:70, 20:90, 10:70] = 2
    logs[right, 10:70, 20:90, 10:70] = 1
    logs[:, 20:24, 40:44, 40:44] = -4
    logs[0, 20:24, 40:44, 40:44] = 3
    logs[left, 2:5, 2:5, 2:5] = 4
    classes = label_cleaning.clean(logs).argmax(0)
    assert set(classes[60].unique().tolist()) == {0, right}
    assert (classes[20:24, 40:44, 40:44] > 0).all()
    assert (classes[2:5, 2:5, 2:5] == 0).all()


def test_the_autoencoder_starts_from_its_atlas_and_crops_decode_like_the_whole():
    torch.manual_seed(0)
    network = LabelAutoencoder(3, 2, grid=(16, 16, 16), atlas_rank=6, width=8, deep_width=8)
    # Rank 6 suffices for what is constant over the blocks that the atlas is folded into.
    prior = torch.randn(3 + 1 + 2, 8, 8, 8).repeat_interleave(2, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    network.start_from(prior)
    z = torch.randn(1, network.latent_channels, 4, 4, 4)
    whole = network.decode(z)
    torch.testing.assert_close(whole.anatomy[0], prior[:3], atol=1e-2, rtol=1e-2)
    part = network.decode(z[..., 1:3], corner=(0, 0, 1))
    torch.testing.assert_close(part.anatomy, whole.anatomy[..., 4:12])


def test_a_linear_codec_tells_tissues_apart_before_any_training():
    torch.manual_seed(0)
    network = LabelAutoencoder(3, 2, grid=(8, 8, 8), anatomy_latent=2, groups=3, width=8, deep_width=8)
    # Components: more of tissue 1 instead of tissue 0, and of tissue 2, in the whole cell.
    components = torch.zeros(2, 3, 4, 4, 4)
    components[0, 1], components[0, 0], components[1, 2], components[1, 0] = 1, -1, 1, -1
    mean = torch.full((3, 8, 8, 8), 1 / 3)
    network.start_codes(torch.eye(3), components, mean)
    classes = torch.randint(3, (2, 2, 2)).repeat_interleave(4, 0).repeat_interleave(4, 1).repeat_interleave(4, 2)
    soft = torch.nn.functional.one_hot(classes, 3).movedim(-1, 0).float()[None]
    code, _ = network.encode(soft, torch.zeros(1, 2, 8, 8, 8))
    assert (network.decode(code).anatomy.argmax(1)[0] == classes).all()


def test_class_probabilities_sum_to_one_and_lesions_cover_structures():
    network = LabelAutoencoder(3, 2, grid=(8, 8, 8), width=8, deep_width=8)
    logits = network.decode(torch.randn(1, network.latent_channels, 2, 2, 2))
    probabilities = logits.log_probabilities().exp()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, 8, 8, 8))
    torch.testing.assert_close(probabilities[:, 3:], logits.lesion.softmax(1)[:, 1:])


def test_the_gaussian_prior_is_the_exact_posterior_mean():
    torch.manual_seed(0)
    prior = GaussianPrior(size=6, modes=3, conditions=1)
    prior.modes.copy_(torch.randn(3, 6))
    prior.remainder.copy_(torch.rand(6) + 0.1)
    x = torch.randn(2, 6)
    alpha, sigma = torch.tensor([0.6, 0.0]), torch.tensor([0.8, 1.0])
    condition = torch.tensor([[1.5], [0.5]])
    for known in (torch.ones(2, 1), torch.zeros(2, 1)):
        mean = condition * known @ prior.modes[:1]
        free = prior.modes[int(known[0, 0]) :]
        covariance = free.T @ free + torch.diag(prior.remainder)
        for i in range(2):
            noisy = alpha[i] ** 2 * covariance + sigma[i] ** 2 * torch.eye(6)
            expected = mean[i] + alpha[i] * covariance @ torch.linalg.solve(noisy, x[i] - alpha[i] * mean[i])
            found = prior(x, alpha, sigma, condition, known)[i]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_an_untrained_denoiser_is_the_gaussian_prior_and_keeps_the_background_still():
    torch.manual_seed(0)
    denoiser = LabelDenoiser(2, 1, (4, 4, 4), 20, LESIONS, 2, modes=2, unet_channels=(16, 16), attention=(False,) * 2)
    x = torch.randn(1, 3, 4, 4, 4) * denoiser.inside
    conditions, known, regions = (
        torch.zeros(1, LESIONS + 2),
        torch.ones(1, LESIONS + 2),
        torch.ones(1, LESIONS, 4, 4, 4),
    )
    alpha, sigma = torch.tensor([0.6]), torch.tensor([0.8])
    velocity = denoiser(x, torch.tensor([500]), alpha, sigma, conditions, known, regions)
    expected = denoiser.gaussian(x, alpha, sigma, conditions[:, -2:], known[:, -2:])
    torch.testing.assert_close(0.6 * x - 0.8 * velocity, expected, atol=1e-5, rtol=1e-5)
    assert not velocity[:, :, denoiser.inside[0, 0] == 0].any()
    z = torch.randn(1, 3, 4, 4, 4)
    torch.testing.assert_close(denoiser.restore(denoiser.standardise(z)) * denoiser.inside, z * denoiser.inside)


def test_only_the_modes_of_an_anatomy_are_decoded_and_lesions_stay():
    denoiser = LabelDenoiser(2, 1, (4, 4, 4), 20, LESIONS, 2, modes=2, unet_channels=(16, 16), attention=(False,) * 2)
    generator = torch.Generator().manual_seed(0)
    denoiser.prior.modes.copy_(torch.randn(2, 40, generator=generator))
    z = torch.randn(3, 3, 4, 4, 4, generator=generator) * denoiser.inside
    smooth = denoiser.smooth(z)
    assert torch.equal(smooth[:, 2:], z[:, 2:])
    assert torch.allclose(denoiser.smooth(smooth), smooth, atol=1e-4)
    anatomy_of = [part[:, :2].flatten(2)[..., denoiser.index].flatten(1) for part in (z, smooth)]
    left = (anatomy_of[0] - anatomy_of[1]) @ denoiser.prior.modes.T
    assert left.abs().max() < 1e-3  # nothing that a mode spans is lost


def test_volumes_of_anatomy_conditions_are_measured_in_millilitres():
    soft = np.zeros((STRUCTURES, 4, 4, 4), np.float32)
    ventricle, cortex = (anatomy.classes_of(name=name)[0] for name in ("lateral ventricle", "cerebral cortex"))
    soft[ventricle, 0] = 1
    soft[cortex, 1:3] = 0.5
    assert anatomy_volumes(soft) == pytest.approx({"ventricles": 16 * VOXEL_ML, "brain": 16 * VOXEL_ML})


def test_a_copy_is_recognised_as_one(phantom_classes):
    other = np.roll(phantom_classes, 8, axis=1)
    assert mean_dice(phantom_classes, phantom_classes) == 1
    assert nearest_dice(phantom_classes, [other, phantom_classes]) == 1
    assert nearest_dice(phantom_classes, [other]) < 0.9
    assert len(between_cases([phantom_classes, other, other], 2, np.random.default_rng(0))) == 2


def test_a_label_sample_says_what_it_holds(model):
    sample = sample_labels(model, ask(), Silent())
    assert isinstance(sample, LabelSample)
    assert sample.classes_2mm.dtype == np.uint8
    assert set(sample.requested) == set(sample.obtained) == set(model.millilitres)
    assert set(sample.anatomy) == {"ventricles", "brain"}


def test_writing_the_label_model_keeps_the_rest_of_the_bundle(tiny_folder, tmp_path):
    folder = tmp_path / "brainspade3d"
    shutil.copytree(tiny_folder / "brainspade3d", folder)
    before = bundles.Bundle(folder)
    names = ("label_autoencoder", "label_diffusion")
    networks = {name: before.load(name) for name in names}
    facts = {
        "millilitres": {"wmh": 40.0},
        "masks": {"wmh": 22},
        "marks": {"wmh": [0.1, 0.2, 0.4]},
        "anatomy": {"ventricles": [8, 15, 20, 40, 100], "brain": [1000, 1100, 1200, 1300, 1400]},
        "correlation": -0.4,
    }
    args = {name: before.metadata.networks[name].args for name in names}
    label_export.write(folder, networks, args, dict.fromkeys(names, 10), facts)
    after = bundles.Bundle(folder)
    after.verify()
    assert after.metadata.contrasts == before.metadata.contrasts
    assert set(after.metadata.networks) == set(before.metadata.networks)
    assert after.metadata.parameters["styles"] == before.metadata.parameters["styles"]
    assert [condition.name for condition in after.metadata.conditions] == ["wmh", "age", "sex", "ventricles", "brain"]
    assert "22 wmh" in (folder / "docs" / "README.md").read_text("utf-8")
    written = LabelModel.from_bundle(after, "cpu")
    assert written.millilitres == {"wmh": 40.0}
    assert written.correlation == -0.4
