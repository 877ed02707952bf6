"""Fine-tuning: what each scheme may change, what drift does to it, and the bundle that comes out."""

import dataclasses
import os

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import DiffusionModelUNet
from phantoms import phantom_image
from typer.testing import CliRunner

from BrainGenLib import bundles, spaces
from BrainGenLib.cli import app
from BrainGenLib.diffusion.drift import Drift, started, training_pair
from BrainGenLib.diffusion.samplers import sample_dpmpp_2m, velocity_denoiser
from BrainGenLib.diffusion.schedules import cosine
from BrainGenLib.engine import Engine
from BrainGenLib.errors import BadInput
from BrainGenLib.export import bids
from BrainGenLib.methods.brain_ldm import BrainLDM
from BrainGenLib.networks.noise_unet import UNet
from BrainGenLib.requests import Generate, check
from BrainGenLib.training import finetuning, finetuning_drift, finetuning_material, image_diffusion, schemes
from BrainGenLib.training.cache import CachedCase, CacheWriter
from BrainGenLib.training.image_material import Picture
from BrainGenLib.training.schemes import SCHEMES


def write_cache(folder, classes, names, contrast="T1w", values=(0.8, 0.7, 0.3)):
    """Unlabelled scans that are duller than those of the tiny bundle."""
    writer = CacheWriter(folder)
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        image = phantom_image(classes, *values) + rng.normal(0, 0.02 + 0.01 * number, classes.shape)
        scan = np.where(classes > 0, np.clip(image, 0.02, 1) * 255, 0).astype(np.uint8)
        case = CachedCase(name, "set", "train", "template", 2, images={contrast: (2, 2, 2)}, age=40.0 + 20 * number)
        writer.add(case, None, {contrast: scan})
    writer.close()
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory, phantom_classes):
    torch.set_num_threads(1)
    return write_cache(tmp_path_factory.mktemp("mine"), phantom_classes, "abc")


@pytest.fixture
def model(tiny_folder):
    return BrainLDM.from_bundle(bundles.Bundle(tiny_folder / "brain-ldm"), "cpu")


@pytest.fixture(scope="module")
def awake(tiny_folder, tmp_path_factory):
    """A folder with a ``brain-ldm`` whose U-Net has something to say: that of the tiny one starts silent, and in such
    a network nothing but its last layer learns in two steps."""
    tiny = bundles.Bundle(tiny_folder / "brain-ldm")
    networks = {name: tiny.load(name) for name in tiny.metadata.networks}
    generator = torch.Generator().manual_seed(0)
    for parameter in networks["diffusion"].unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    folder = tmp_path_factory.mktemp("awake")
    bundles.save(folder / "brain-ldm", tiny.metadata.model_copy(deep=True), networks, "For tests.", "Apache-2.0")
    return folder


@pytest.fixture
def seconds(tiny_bundles, awake, monkeypatch):
    """Runs of seconds: few examples, few samples, large steps."""
    monkeypatch.setenv("BRAINGEN_BUNDLES", f"{awake}{os.pathsep}{tiny_bundles}")
    monkeypatch.setattr(finetuning, "RATE", dict.fromkeys(SCHEMES, 0.1))
    monkeypatch.setattr(finetuning_material, "VARIED", {"cpu": 3})
    monkeypatch.setattr(finetuning_material, "FEWEST", 1)
    monkeypatch.setattr(finetuning, "BATCH", {"cpu": 2})
    monkeypatch.setattr(finetuning, "PRIOR", {"cpu": 2})
    monkeypatch.setattr(finetuning, "PRIOR_STEPS", 2)
    monkeypatch.setattr(finetuning, "WATCHED", 1)
    monkeypatch.setattr(finetuning, "WATCH_EVERY", 2)
    monkeypatch.setattr(image_diffusion, "SAMPLED", 2)
    monkeypatch.setattr(finetuning_drift, "DRAWN", 4)
    monkeypatch.setattr(finetuning_drift, "STEPS", 3)
    monkeypatch.setattr(finetuning_drift, "SHARES", (0.0, 1.0))


@pytest.fixture
def tuned(seconds, cache, tmp_path):
    """Fine-tunes the tiny bundle in a folder of its own."""

    def run(name="mine", out="run", **settings):
        settings = {"steps": 2, "device": "cpu", "folder": tmp_path / "bundles", **settings}
        return finetuning.train(cache, tmp_path / out, name=name, **settings)

    return run


def told(network):
    """An input of a small U-Net of the project, whose output depends on all of its weights."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 3, 4, 4, 4)
    return x, torch.tensor([0.3, 0.8]), torch.randn(2, 5)


def unet():
    torch.manual_seed(0)
    return UNet(3, 2, (4, 4), told=5, code=8)


# -- schemes ---------------------------------------------------------------------------------------------------------

ALLOWED = {
    "basic": lambda key: True,
    "dreambooth": lambda key: True,
    "textual-inversion": lambda key: key == "code.0.bias",
    "custom-diffusion": lambda key: key.startswith("code.") or ".film." in key,
    "lora": lambda key: key.endswith(".weight") and "film" not in key and "code" not in key,
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_changes_what_it_may_and_nothing_else(scheme):
    network = unet()
    given = told(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first = network(*given)
    chosen = schemes.adapt(network, scheme)
    assert torch.equal(network(*given), first)
    optimizer = torch.optim.Adam(chosen, lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        network(*given).square().mean().backward()
        optimizer.step()
    trained = network(*given)
    schemes.merge(network)
    assert torch.allclose(network(*given), trained, atol=1e-6)
    assert not torch.allclose(trained, first, atol=1e-6)
    after = network.state_dict()
    assert after.keys() == before.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if ALLOWED[scheme](key)}


def test_a_word_that_is_not_said_changes_nothing():
    network = unet()
    given = told(network)
    first = network(*given)
    schemes.adapt(network, "dreambooth")
    token = schemes.token_of(network)
    token.vector.data.fill_(1.0)
    assert not torch.allclose(network(*given), first)
    token.said = False
    assert torch.equal(network(*given), first)


def test_of_monais_networks_custom_diffusion_trains_keys_and_values():
    network = DiffusionModelUNet(
        3, 3, 3, channels=(8, 8), attention_levels=(False, True), num_res_blocks=1, num_head_channels=8,
        norm_num_groups=4, with_conditioning=True, cross_attention_dim=4,
    )  # fmt: skip
    chosen = {id(parameter) for parameter in schemes.adapt(network, "custom-diffusion")}
    names = {name for name, parameter in network.named_parameters() if id(parameter) in chosen}
    assert names
    assert names == {key for key, _ in network.named_parameters() if ".attn2.to_k." in key or ".attn2.to_v." in key}
    assert {name for name, parameter in network.named_parameters() if parameter.requires_grad} == names
    with pytest.raises(BadInput, match="new word"):
        schemes.adapt(network, "textual-inversion")


# -- drift -----------------------------------------------------------------------------------------------------------


def examples_of(model, count=3):
    z = torch.randn(count, *model.latent_shape, generator=torch.Generator().manual_seed(5)) * model.diffusion.inside
    nothing = torch.zeros(count, 11)
    return image_diffusion.Examples(z, torch.zeros(count, dtype=torch.long), nothing, nothing)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["V1", "V2", "V3"])
def test_training_with_a_drift_of_0_is_training_without(model, variant):
    """Bit for bit what the schedule's own noising and velocity give."""
    examples = examples_of(model)
    width = len(model.diffusion.centre)
    examples.conditions = examples.known = torch.zeros(3, width)
    pick, schedule = torch.tensor([2, 0]), cosine()
    alike, generator = torch.ones(model.autoencoder.latent), torch.Generator().manual_seed(1)
    found, _ = image_diffusion.errors(
        model.diffusion, schedule, examples, pick, generator, alike, Drift((0.0, 0.0)), variant
    )
    generator = torch.Generator().manual_seed(1)
    times = (len(schedule) * torch.rand(2, generator=generator).sqrt()).long()
    z = examples.z[pick]
    noise = torch.randn(z.shape, generator=generator) * model.diffusion.inside
    x = schedule.noised(z, noise, times)
    nothing = torch.zeros(2, width)
    velocity = model.diffusion(
        x, schedule.alpha[times], schedule.sigma[times], torch.zeros(2, dtype=torch.long), nothing, nothing
    )
    plain = (velocity - schedule.velocity(z, noise, times)).square().flatten(1).sum(1)
    assert torch.allclose(found, plain / model.diffusion.spread.numel(), rtol=1e-4)


@torch.no_grad()
def test_undrifting_the_gaussian_model_would_take_drift_out_of_it(model):
    """Of the tiny model, whose U-Net is silent. With v_δ(x) = v(x - σδ) + αδ, sampling from ε + δ gives what
    sampling from ε without drift gives. As it is, drift moves what is drawn."""
    noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    drift, schedule = Drift((0.05, -0.05)), cosine()
    number = torch.tensor([0])
    nothing = torch.zeros(1, len(model.diffusion.centre))
    inside = model.diffusion.inside

    def velocity(x, times):
        return model.diffusion(x * inside, schedule.alpha[times], schedule.sigma[times], number, nothing, nothing)

    def undrifted(x, times):
        shift = drift.added_to(torch.zeros_like(x)) * inside
        sigma, alpha = schedule.sigma[times].view(-1, 1, 1, 1, 1), schedule.alpha[times].view(-1, 1, 1, 1, 1)
        return velocity(x - sigma * shift, times) + alpha * shift

    steps = schedule.trailing(8)
    plain = sample_dpmpp_2m(velocity_denoiser(velocity), noise * inside, steps)
    moved = sample_dpmpp_2m(velocity_denoiser(velocity), started(noise, drift) * inside, steps)
    unmoved = sample_dpmpp_2m(velocity_denoiser(undrifted), started(noise, drift) * inside, steps)
    assert torch.allclose(unmoved, plain, atol=1e-3)
    change = (moved - plain).mean((0, 2, 3, 4))
    assert change[0] > 0.001 > -0.001 > change[1]


@torch.no_grad()
def test_a_bundle_is_drawn_from_with_its_own_drift_unless_another_is_asked_for(model):
    noise = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))

    def mean(one):
        return one.sample(noise, {}, "T1w", 1.0, 8).mean((0, 2, 3, 4))

    without = mean(model)
    assert model.drift == Drift()
    own = dataclasses.replace(model, drift=model.drift_of(2.0, 8))
    assert (mean(own) > without).all()
    assert torch.equal(mean(dataclasses.replace(own, drift=own.drift_of(0.0, 8))), without)


@torch.no_grad()
def test_automatic_drift_finds_a_planted_shift(model, monkeypatch):
    """Latents that the model draws itself with drift are closest to what it draws with that drift."""
    monkeypatch.setattr(finetuning_drift, "SHARES", (-1.0, 0.0, 1.0))
    monkeypatch.setattr(finetuning_drift, "DRAWN", 6)
    monkeypatch.setattr(finetuning_drift, "STEPS", 4)
    planted = Drift((0.04, -0.04))
    z = torch.cat(
        [
            model.sample(
                planted.added_to(torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed))),
                {}, "T1w", 1.0, finetuning_drift.STEPS,
            )
            for seed in range(50, 56)
        ]
    )  # fmt: skip
    found, curve = finetuning_drift.choose(model, z, ["T1w"] * 6, [{}] * 6)
    assert found.delta[0] > 0 > found.delta[1]
    assert curve.best == 1.0


def test_drift_begins_with_a_smaller_error_only_near_pure_noise():
    """One Gaussian mode that is off by 1, with the δ that makes samples right at once; docs/latent-drifting.md."""
    spread, positions = 0.3, 11_200.0
    delta = 1 / (spread * positions**0.5)
    for time in (300, 900, 980, 995):
        step = cosine().at(time)
        alpha, sigma = (torch.tensor([value], dtype=torch.float64) for value in step[1:])
        one, none = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
        errors = []
        for drift in (0.0, delta):
            x, target = training_pair(one, none, alpha, sigma, "v", Drift(drift))
            share = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2 / positions)
            errors.append(float(sigma * (target - (alpha * x - share * x) / sigma)))
        without, drifted = errors
        signal = float(alpha) * spread * positions**0.5
        total = float(sigma) ** 2 + signal**2
        assert without == pytest.approx(-(float(sigma) ** 2) / total, rel=1e-3)
        assert drifted == pytest.approx(-float(sigma) * (float(sigma) - signal) / total, rel=1e-3)
        assert (abs(drifted) < abs(without)) == (signal < 2 * float(sigma))
    assert abs(drifted) < abs(without)


# -- runs and bundles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_run_becomes_a_bundle_that_names_its_base(tuned, scheme, awake, tmp_path, monkeypatch):
    written = tuned(scheme=scheme, drift="1.5")
    monkeypatch.setenv("BRAINGEN_BUNDLES", os.pathsep.join(map(str, (tmp_path / "bundles", awake))))
    assert "mine" in bundles.available()
    written.verify()
    base, metadata = bundles.find("brain-ldm"), written.metadata
    assert metadata.finetuning.sha256 == base.sha256
    assert metadata.finetuning.scheme == scheme
    assert (metadata.finetuning.scans, metadata.finetuning.subjects, metadata.finetuning.steps) == (3, 3, 2)
    assert metadata.contrasts == ["T1w"]
    assert "wmh" not in [condition.name for condition in metadata.conditions]
    assert metadata.parameters["drift"] == metadata.finetuning.drift
    assert min(metadata.parameters["drift"]) > 0
    assert metadata.networks["judge"].sha256 == base.metadata.networks["judge"].sha256
    assert base.sha256 in (written.folder / "docs" / "README.md").read_text("utf-8")
    assert (written.folder / "LICENSE").read_text("utf-8") == (base.folder / "LICENSE").read_text("utf-8")
    assert list((tmp_path / "run" / "samples").glob("samples-*.png"))
    names = {
        line.split(",")[2] for line in (tmp_path / "run" / "curves.csv").read_text(encoding="utf-8").splitlines()[1:]
    }
    assert {"nearest", "nearest_of_scans"} <= names
    old, new = base.load("diffusion").state_dict(), written.load("diffusion").state_dict()
    assert new.keys() == old.keys()
    changed = {key for key in old if not torch.equal(old[key], new[key])}
    assert changed
    assert all(key.startswith("unet.") and ALLOWED[scheme](key.removeprefix("unet.")) for key in changed)
    case = Engine().run(Generate(bundle="mine", steps=2, device="cpu"))
    assert case.images["T1w"].shape == spaces.GRID_2MM.shape
    assert case.provenance["bundles"]["mine"]["base"] == {
        "name": "brain-ldm",
        "version": base.metadata.version,
        "sha256": base.sha256,
    }


def test_a_run_goes_on_where_it_stopped(tuned, tmp_path):
    whole = tuned("whole", "one", scheme="lora", drift="1", steps=4)
    tuned("parts", "two", scheme="lora", drift="1", steps=2)
    parts = tuned("parts", "two", scheme="lora", drift="1", steps=4)
    assert parts.metadata.finetuning.steps == 4
    for key, value in whole.load("diffusion").state_dict().items():
        assert torch.equal(value, parts.load("diffusion").state_dict()[key])
    with pytest.raises(BadInput, match="another drift"):
        tuned("parts", "two", scheme="lora", drift="0")


def test_automatic_drift_is_stored_with_its_curve(tuned):
    parameters = tuned(drift="auto", steps=1).metadata.parameters
    assert parameters["drift_search"]["deltas"] == [0.0, 1.0]
    assert any(parameters["drift"]) == (np.argmin(parameters["drift_search"]["distances"]) == 1)


def test_a_bids_folder_is_prepared_first(seconds, tmp_path, phantom_classes):
    for name in ("01", "02"):
        folder = tmp_path / "bids" / f"sub-{name}" / "anat"
        folder.mkdir(parents=True)
        image = phantom_image(phantom_classes) + 0.02 * np.random.default_rng(int(name)).normal(
            size=phantom_classes.shape
        ) * (phantom_classes > 0)
        nib.save(nib.Nifti1Image(image.astype(np.float32), spaces.GRID_2MM.affine), folder / f"sub-{name}_T1w.nii.gz")
    arguments = ["train", "finetune", tmp_path / "bids", tmp_path / "run", "--name", "mine", "--steps", "1"]
    arguments += ["--folder", tmp_path / "bundles", "--device", "cpu", "--scheme", "textual-inversion"]
    result = CliRunner().invoke(app, [str(part) for part in arguments])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "cache" / "index.json").is_file()
    metadata = bundles.Bundle(tmp_path / "bundles" / "mine").metadata
    assert metadata.finetuning.subjects == 2


def test_the_skull_comes_off_whole_heads(monkeypatch, phantom_classes):
    fine = phantom_classes.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    monkeypatch.setattr(finetuning_material, "segment_in_template", lambda segmenter, volume: fine)
    head = np.full(phantom_classes.shape, 200, np.uint8)
    scan = Picture(head, "T1w", {}, False, None, "a", "d")
    assert finetuning_material._is_head(scan)
    bare = finetuning_material.stripped(scan, None)
    assert not finetuning_material._is_head(bare)
    assert (bare.image[phantom_classes > 0] == 255).all()
    assert (bare.image > 0).mean() < 1.1 * (phantom_classes > 0).mean()


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"scheme": "magic"}, "no scheme 'magic'"),
        ({"drift": "much"}, "drift of 'much'"),
        ({"drift": "nan"}, "drift of 'nan'"),
        ({"variant": "V4"}, "no variant 'V4'"),
        ({"name": "brain-ldm"}, "a bundle 'brain-ldm' already"),
        ({"name": "../mine"}, "cannot be the name"),
        ({"bundle": "segmenter"}, "cannot be fine-tuned"),
    ],
)
def test_what_cannot_be_tuned_is_refused(tuned, tmp_path, settings, sentence):
    with pytest.raises(BadInput, match=sentence):
        tuned(**settings)
    assert not (tmp_path / "bundles").exists()


def test_scans_that_cannot_be_learnt_from_are_refused(seconds, tmp_path, phantom_classes):
    def tune(data):
        finetuning.train(data, tmp_path / "run", name="mine", folder=tmp_path / "bundles", device="cpu")

    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no scans"):
        tune(tmp_path / "empty")
    with pytest.raises(BadInput, match="PDw, which bundle brain-ldm does not know"):
        tune(write_cache(tmp_path / "other", phantom_classes, "ab", contrast="PDw"))
    with pytest.raises(BadInput, match="one brain"):
        tune(write_cache(tmp_path / "one", phantom_classes, "a"))
    writer = CacheWriter(tmp_path / "none")
    writer.close()
    with pytest.raises(BadInput, match="holds no scans to learn from"):
        tune(tmp_path / "none")


def test_drift_is_asked_only_of_models_that_have_it(tiny_folder):
    check(Generate(bundle="brain-ldm", drift=0.5), bundles.Bundle(tiny_folder / "brain-ldm").metadata)
    with pytest.raises(BadInput, match="cannot generate with drift"):
        check(Generate(drift=0.5), bundles.Bundle(tiny_folder / "brainspade3d").metadata)


def test_generate_takes_drift_from_the_command_line(tiny_bundles, tmp_path):
    arguments = ["generate", "--bundle", "brain-ldm", "--out", tmp_path / "out", "--seed", "1", "--steps", "2"]
    result = CliRunner().invoke(app, [str(part) for part in [*arguments, "--device", "cpu", "--drift", "2"]])
    assert result.exit_code == 0, result.output
    (subject,) = (tmp_path / "out").glob("sub-*")
    record = bids.read_case(subject).provenance
    assert record["request"]["drift"] == 2
    plain = Engine().run(Generate(bundle="brain-ldm", seed=1, steps=2, device="cpu"))
    drifted = Engine().run(Generate(bundle="brain-ldm", seed=1, steps=2, device="cpu", drift=2))
    assert record["arrays"] == drifted.provenance["arrays"] != plain.provenance["arrays"]
