"""The image autoencoder, the image diffusion with its Gaussian model, and the model that is made of them."""

import numpy as np
import pytest
import torch
from phantoms import phantom_image

from BrainGenLib.bundles import Bundle
from BrainGenLib.diffusion.schedules import cosine
from BrainGenLib.errors import BadInput
from BrainGenLib.methods.brain_ldm import CONDITIONS, BrainLDM, told, volume_conditions
from BrainGenLib.methods.image_model import draw
from BrainGenLib.networks.image_autoencoder import ImageAutoencoder, cells_of
from BrainGenLib.networks.image_diffusion import ImageDenoiser
from BrainGenLib.reporting import Silent
from BrainGenLib.requests import Generate, check
from BrainGenLib.spaces import GRID_2MM


@pytest.fixture(scope="module")
def model(tiny_folder):
    torch.set_num_threads(1)
    return BrainLDM.from_bundle(Bundle(tiny_folder / "brain-ldm"), "cpu")


@pytest.fixture
def image(phantom_classes):
    return torch.from_numpy(phantom_image(phantom_classes))[None, None]


@torch.no_grad()
def test_an_autoencoder_starts_as_the_best_linear_codec(image):
    network = ImageAutoencoder(latent=4, width=4, deep_width=4, place=1)
    noise = 0.05 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    noisy = (image + noise).clamp_min(0.01) * (image > 0)
    cells = cells_of(noisy)
    network.start_from(cells)
    found = network(noisy)
    assert torch.allclose(found, network.linear_decode(network.linear_code(noisy)), atol=1e-5)
    # What four principal components leave of the cells that hold brain; no other four numbers leave less.
    inside = torch.nn.functional.max_pool3d(noisy, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    inside = inside.repeat_interleave(4, 4) > 0
    left = torch.linalg.svdvals(cells - cells.mean(0))[4:].square().sum()
    assert float((found - noisy)[inside].square().sum()) == pytest.approx(float(left), rel=1e-2)
    assert float(network.linear_code(noisy).std()) == pytest.approx(1, abs=0.6)


@torch.no_grad()
def test_a_box_decodes_as_the_whole_does(model, image):
    code = model.autoencoder.encode(image)
    whole = model.autoencoder.decode(code)
    boxes = torch.cat([code[:, :, 4:14, 6:18, 4:14], code[:, :, 5:15, 6:18, 4:14]])
    parts = model.autoencoder.decode(boxes, ((4, 6, 4), (5, 6, 4)))
    inner = (slice(None), slice(12, -12), slice(12, -12), slice(12, -12))
    for part, first in zip(parts, (16, 20), strict=True):
        assert torch.allclose(part[inner], whole[0, :, first : first + 40, 24:72, 16:56][inner], atol=1e-4)


@torch.no_grad()
def test_the_gaussian_model_of_an_untrained_denoiser_is_exact():
    """Data of one mode and no remainder to speak of: its coefficient is found again from any noise."""
    torch.manual_seed(0)
    grid = (4, 4, 4)
    network = ImageDenoiser(
        2, grid, 64, 8, contrasts=1, directions=1, conditions=3, components=1, unet_channels=(4, 4)
    )
    network.modes[0, 1] = torch.randn(2, 8)
    network.spectrum.fill_(1e-4)
    z = 1.7 * network.modes_of(0)[1].view(1, 2, *grid)
    step = cosine().at(300)
    x = step.alpha * z + step.sigma * torch.randn(z.shape)
    a, s = torch.tensor([step.alpha]), torch.tensor([step.sigma])
    nothing = torch.zeros(1, 3)
    velocity = network(x, a, s, torch.tensor([0]), nothing, nothing)
    assert (step.alpha * x - step.sigma * velocity - z).abs().mean() < 0.2 * z.abs().mean()


@torch.no_grad()
def test_a_known_condition_moves_the_estimate_and_an_unknown_one_does_not(model):
    noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    start = model.steps(4)[0]

    def ventricles(conditions, contrast):
        z = model.denoiser(conditions, contrast, 1.0)(noise, start)
        return float(model.decode(z)[0, 0][38:42, 50:62, 38:44].mean())

    assert ventricles({"age": 85.0}, "T1w") < ventricles({}, "T1w") < ventricles({"age": 20.0}, "T1w")
    assert ventricles({"age": 85.0}, "T2w") > ventricles({"age": 20.0}, "T2w")
    assert float(model.expected({"age": 85.0}, "T1w")[0].mean()) < float(model.expected({}, "T1w")[0].mean())


@torch.no_grad()
def test_latents_decode_without_their_contrast(model, phantom_classes):
    for values in ((0.9, 0.6, 0.2), (0.3, 0.5, 0.9)):
        image = torch.from_numpy(phantom_image(phantom_classes, *values))[None, None]
        z = model.encode(image)
        linear = model.autoencoder.linear_decode(model.autoencoder.linear_code(image))
        assert torch.allclose(model.decode(z), linear, atol=1e-3)


@torch.no_grad()
def test_samples_follow_the_seed_and_the_conditions(model):
    noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(3))
    first, again = (model.sample(noise, {"age": 30.0}, "T1w", 1.0, 4) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, model.sample(noise, {"age": 80.0}, "T1w", 1.0, 4))


def test_temperature_is_the_share_of_the_noise_that_images_are_drawn_from(model, tiny_folder):
    plain = Bundle(tiny_folder / "brain-ldm").metadata

    @torch.no_grad()
    def images(temperature):
        metadata = plain.model_copy(update={"parameters": {**plain.parameters, "temperature": temperature}})
        requests = [Generate(contrasts=["T1w"], anatomy={"age": 30}, seed=seed, steps=2) for seed in (1, 2)]
        return [draw(model, [request], metadata, Silent())[0].images["T1w"] for request in requests]

    apart = [float(np.abs(first - second).mean()) for first, second in map(images, (0.0, 0.5, 1.0))]
    assert apart[0] == 0
    assert 0 < apart[1] < apart[2]


def test_what_the_network_is_told():
    values, known = told({"age": 60.0, "wmh": 0.125, "brain": 1200.0})
    named = dict(zip(CONDITIONS, values.tolist(), strict=True))
    assert named["age"] == 60
    assert named["wmh"] == pytest.approx(0.5)
    assert named["brain"] == pytest.approx(np.log(1200))
    assert {name for name, is_known in zip(CONDITIONS, known, strict=True) if is_known} == {"age", "wmh", "brain"}


def test_volumes_are_measured_in_millilitres(phantom_classes):
    found = volume_conditions(phantom_classes, GRID_2MM.spacing)
    assert found["brain"] + found["ventricles"] == pytest.approx((phantom_classes > 0).sum() * 0.008)
    assert 0 < found["ventricles"] < found["brain"]


def test_a_condition_is_offered_where_scans_support_it(tiny_folder):
    metadata = Bundle(tiny_folder / "brain-ldm").metadata
    check(Generate(bundle="brain-ldm", pathologies={"wmh": 0.5}, contrasts=["T2w"]), metadata)
    with pytest.raises(BadInput, match="too few T1w scans"):
        check(Generate(bundle="brain-ldm", pathologies={"wmh": 0.5}, contrasts=["T1w"]), metadata)
