"""Public models: conditioned, scheduled and scaled as their publishers do it, and from a request to a case."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, RFlowScheduler
from public_weights import published, small

from BrainGenLib import bundles
from BrainGenLib.case import Case
from BrainGenLib.diffusion import rectified_flow, schedules
from BrainGenLib.diffusion.drift import Drift, per_step, started
from BrainGenLib.diffusion.samplers import flow_denoiser, sample_ddim, sample_dpmpp_2m
from BrainGenLib.diffusion.schedules import CLEAN
from BrainGenLib.engine import Engine, stages
from BrainGenLib.errors import BadInput
from BrainGenLib.export import bids
from BrainGenLib.methods.latent_diffusion import LatentDiffusion
from BrainGenLib.methods.maisi import Maisi
from BrainGenLib.provenance import hashes
from BrainGenLib.public_bundles import install, located
from BrainGenLib.reporting import Cancelled
from BrainGenLib.requests import Generate, check

BRAIN, BRATS, FLOW = "ukb-brain-ldm", "brats-ldm", "nv-generate-mr-brain"
PERSON = {"sex": 1.0, "age": 63.0, "ventricles": 0.7, "brain": 0.5}
ENCODED = [1.0, 0.5, 0.7, 0.5]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The public bundles, small, installed from files as they are published."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("public")
    for name in (BRAIN, BRATS, FLOW):
        entry = small(name)
        published(entry, root / "files" / name)
        install(entry, located(entry, [root / "files" / name]), root / "bundles")
    return root / "bundles"


@pytest.fixture
def installed(folder, monkeypatch):
    monkeypatch.setenv("BRAINGEN_BUNDLES", str(folder))
    return bundles.available()


@pytest.fixture(scope="module")
def brain(folder):
    return LatentDiffusion.from_bundle(bundles.Bundle(folder / BRAIN), "cpu")


@pytest.fixture(scope="module")
def flow(folder):
    return Maisi.from_bundle(bundles.Bundle(folder / FLOW), "cpu")


def noise(model, count=1):
    return torch.randn((count, *model.latent_shape), generator=torch.Generator().manual_seed(3))


# -- latent diffusion ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_the_brain_model_is_sampled_as_in_the_zoo(brain):
    """The loop of the bundle's own sampler, with the conditions as context and as planes. MONAI 1.6 spaces times
    otherwise than its update assumes, so they are set here to those of the bundle's MONAI."""
    scheduler = DDIMScheduler(1000, "scaled_linear_beta", clip_sample=False, beta_start=0.0015, beta_end=0.0205)
    scheduler.num_inference_steps = 4
    context = torch.tensor([[ENCODED]])
    planes = context.squeeze(1)[..., None, None, None].expand(-1, -1, *brain.latent_shape[1:])
    x = noise(brain)
    times = [750, 500, 250, 0]
    for time in times:
        output = brain.unet(torch.cat([x, planes], 1), timesteps=torch.tensor([time]), context=context)
        x, _ = scheduler.step(output, time, x)

    steps = [*map(brain.schedule.at, times), CLEAN]
    ours = sample_ddim(brain.denoiser(PERSON, "T1w", 1.0), noise(brain), steps)
    assert torch.allclose(ours, x, rtol=1e-3, atol=1e-3 * float(x.abs().max()))


def test_the_schedule_keeps_the_signal_that_training_left_at_its_end(brain, folder):
    first, *_, last = brain.steps(20)
    assert first.time == 999
    assert first.alpha == pytest.approx(0.0098, abs=1e-4)
    assert last == CLEAN
    assert len(brain.steps(20)) == 21
    brats = LatentDiffusion.from_bundle(bundles.Bundle(folder / BRATS), "cpu")
    assert brats.steps(20)[0].alpha == pytest.approx(0.0119, abs=1e-4)


@torch.inference_mode()
def test_every_condition_of_the_brain_model_changes_what_it_draws(brain):
    step = brain.steps(20)[10]
    before = brain.denoiser(PERSON, "T1w", 1.0)(noise(brain), step)
    for name, value in {"sex": 0.0, "age": 44.0, "ventricles": 0.1, "brain": 1.0}.items():
        after = brain.denoiser(PERSON | {name: value}, "T1w", 1.0)(noise(brain), step)
        assert (after - before).abs().max() > 1e-3
    two = brain.denoiser(PERSON, "T1w", 1.0)(noise(brain).expand(2, -1, -1, -1, -1), step)
    assert torch.allclose(two[1], before[0], atol=1e-4)


@torch.inference_mode()
def test_latents_are_decoded_without_a_scale_unless_the_bundle_has_one(folder, brain):
    bundle = bundles.Bundle(folder / BRATS)
    brats = LatentDiffusion.from_bundle(bundle, "cpu")
    z = noise(brats)
    assert brats.decode(z).shape == (1, 1, 16, 32, 16)
    assert torch.equal(brats.decode(z), brats.autoencoder.decode(z))
    bundle.metadata.parameters["scale_factor"] = 2.0
    scaled = LatentDiffusion.from_bundle(bundle, "cpu")
    assert torch.equal(scaled.decode(z), brats.autoencoder.decode(z / 2))
    assert brain.decode(noise(brain)).shape == (1, 1, 32, 64, 32)


@torch.inference_mode()
@pytest.mark.parametrize("sampler", [sample_ddim, sample_dpmpp_2m])
def test_latent_drifting_acts_on_public_models(brain, flow, sampler):
    """δ in the noise that sampling starts from, or at each update; without it nothing changes."""
    for model, conditions in ((brain, PERSON), (flow, {"skull_stripped": 0.0})):
        denoiser, steps = model.denoiser(conditions, "T1w", 2.0), model.steps(3)
        plain = sampler(denoiser, noise(model), steps)
        for drift in (Drift(0.0, step="normalised"), Drift(0.05), Drift(0.05, start=False, step="normalised")):
            start, after_update = started(noise(model), drift), per_step(drift, steps)
            drifted = sampler(denoiser, start, steps, after_update=after_update)
            assert torch.isfinite(drifted).all()
            assert torch.equal(drifted, plain) == (drift.delta == 0)


# -- rectified flow --------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_the_flow_in_monai_compatibility_has_the_bits_of_nv_generate(flow):
    """The loop of NV-Generate's diff_model_infer.py: T1w without skull is class 29, spacing in hundredths of a mm."""
    flow.compat = "monai"
    arguments = {"use_discrete_timesteps": False, "use_timestep_transform": True, "sample_method": "uniform"}
    scheduler = RFlowScheduler(num_train_timesteps=1000, scale=1.4, **arguments)
    x = noise(flow)
    scheduler.set_timesteps(30, input_img_size_numel=torch.prod(torch.tensor(x.shape[2:])))
    times = scheduler.timesteps
    for now, after in zip(times, torch.cat([times[1:], torch.tensor([0], dtype=times.dtype)]), strict=True):
        output = flow.unet(
            x=torch.cat([x, x]),
            timesteps=torch.cat([torch.Tensor((now,))] * 2),
            spacing_tensor=torch.tensor([[94.0, 94.0, 136.0]] * 2),
            class_labels=torch.tensor([29, 0]),
        )
        conditional, unconditional = output.chunk(2)
        x, _ = scheduler.step(unconditional + 2.0 * (conditional - unconditional), now, x, after)

    seen = []
    ours = flow.sample(noise(flow), {"skull_stripped": 1.0}, "T1w", 2.0, 30, lambda index, x, z: seen.append(index))
    assert torch.equal(ours, x)
    assert seen == list(range(30))
    flow.compat = "exact"
    exact = flow.sample(noise(flow), {"skull_stripped": 1.0}, "T1w", 2.0, 30)
    assert not torch.equal(exact, x)
    assert (exact - x).abs().mean() < 0.1 * x.abs().mean()


@pytest.mark.parametrize(("count", "excess"), [(30, 0.010), (300, 0.094)])
def test_only_the_exact_flow_arrives_where_it_should(count, excess):
    """Along a constant v from ε one arrives at ε + v, whatever the number of steps."""
    start = torch.zeros(1, 1, 64, 64, 32)

    def velocity(x, times):
        return torch.ones_like(x)

    exact = sample_ddim(flow_denoiser(velocity), start, schedules.rectified_flow(count, shift=4 ** (1 / 3)))
    assert exact.mean() == pytest.approx(1, abs=1e-5)
    arguments = {"use_discrete_timesteps": False, "use_timestep_transform": True}
    monai = rectified_flow.sample_as_monai(velocity, start, count, arguments)
    assert monai.mean() == pytest.approx(1 + excess, abs=0.003)


def test_the_steps_of_the_flow_are_those_of_monai_before_rounding():
    scheduler = RFlowScheduler(use_discrete_timesteps=False, use_timestep_transform=True)
    scheduler.set_timesteps(30, input_img_size_numel=64 * 64 * 32)
    *steps, last = schedules.rectified_flow(30, shift=4 ** (1 / 3))
    assert [step.time for step in steps] == pytest.approx(scheduler.timesteps.tolist(), rel=1e-3)
    assert all(step.alpha + step.sigma == pytest.approx(1) for step in steps)
    assert last == CLEAN


@torch.inference_mode()
def test_guidance_of_the_flow_is_away_from_the_class_of_none(flow):
    step, x = flow.steps(10)[4], noise(flow)
    conditional, unconditional, guided = (
        flow.denoiser({"skull_stripped": 0.0}, "FLAIR", weight)(x, step) for weight in (1.0, 0.0, 3.0)
    )
    assert torch.allclose(guided, unconditional + 3 * (conditional - unconditional), atol=1e-4)
    whole_none = flow.denoiser({"skull_stripped": 1.0}, "T1w", 0.0)(x, step)
    assert torch.allclose(whole_none, unconditional, atol=1e-5)
    stripped = flow.denoiser({"skull_stripped": 1.0}, "FLAIR", 1.0)(x, step)
    assert (stripped - conditional).abs().max() > 1e-3


@torch.inference_mode()
def test_the_flow_decodes_scaled_latents_whole_or_in_windows(flow, monkeypatch):
    z = noise(flow)
    whole = flow.decode(z)
    assert whole.shape == (1, 1, 64, 32, 32)
    assert torch.equal(whole, flow.autoencoder.decode(z / 1.25))
    monkeypatch.setattr("BrainGenLib.methods.maisi._WINDOW", 6)
    windows = flow.decode(z)
    assert windows.shape == whole.shape
    assert not torch.equal(windows, whole)


# -- requests --------------------------------------------------------------------------------------------------------


class Recorder:
    def __init__(self, stop_at=None):
        self.stages, self.messages, self.stop_at = [], [], stop_at

    def step(self, stage, step, of, message=""):
        if stage not in self.stages:
            self.stages.append(stage)
        self.messages.append((message, step, of))
        if (message, step) == self.stop_at:
            raise Cancelled

    def preview(self, case, name):
        raise AssertionError("There is nothing to preview.")


def test_generate_draws_a_case_without_labels(installed, folder, tmp_path):
    engine, recorder = Engine(), Recorder()
    request = Generate(bundle=BRAIN, anatomy={"age": 80, "sex": 1}, seed=7, steps=2)
    case = engine.run(request, report=recorder)
    assert recorder.stages == stages(request) == ["loading", "image"]
    assert {("sampling", 1, 2), ("decoding", 0, 1)} <= set(recorder.messages)
    assert case.labels is None
    assert case.images["T1w"].dtype == np.float32
    assert 0 <= case.images["T1w"].min() < case.images["T1w"].max() <= 1
    # Given from right to left, kept from left to right.
    assert np.allclose(case.affine[:3, :3], np.eye(3))
    assert np.allclose(case.affine[:3, 3], (101.48149872 - 31, -146.47715759, -156.55375671))
    assert case.measurements["conditions"] == {"sex": 1, "age": 80, "ventricles": 0.2, "brain": 0.4}
    low, high = case.measurements["decoded_percentiles"]
    assert low < high
    assert case.provenance["bundles"][BRAIN]["sha256"] == installed[BRAIN].sha256

    assert hashes(engine.run(request)) == hashes(case)
    other = engine.run(request.model_copy(update={"seed": 8}))
    assert not np.array_equal(other.images["T1w"], case.images["T1w"])


@pytest.mark.parametrize(
    ("request_", "stripped"),
    [
        (Generate(bundle=BRATS, contrasts=["FLAIR"], steps=2), True),
        (Generate(bundle=FLOW, contrasts=["T2w"], steps=2), False),
        (Generate(bundle=FLOW, contrasts=["T2w"], anatomy={"skull_stripped": 1}, steps=2), True),
        (Generate(bundle=BRAIN, steps=2), False),
    ],
)
def test_a_case_without_labels_is_exported_and_read_again(installed, tmp_path, request_, stripped):
    case = Engine().run(request_)
    case.save(tmp_path / "case")
    assert Case.load(tmp_path / "case").labels is None
    subject = bids.write_case(tmp_path / "out", case)
    (contrast,) = case.images
    assert sorted(path.name for path in (subject / "anat").iterdir()) == [
        f"sub-0001_{contrast}.json",
        f"sub-0001_{contrast}.nii.gz",
    ]
    sidecar = json.loads((subject / "anat" / f"sub-0001_{contrast}.json").read_text("utf-8"))
    assert sidecar["SkullStripped"] is stripped
    assert np.allclose(nib.load(subject / "anat" / f"sub-0001_{contrast}.nii.gz").affine, case.affine)
    again = bids.read_case(subject)
    assert again.labels is None
    assert np.abs(again.images[contrast] - case.images[contrast]).max() < 1e-4
    assert again.provenance == json.loads(json.dumps(case.provenance))
    _, row = (tmp_path / "out" / "participants.tsv").read_text("utf-8").splitlines()
    assert row.startswith(f"sub-0001\t1\tmodel\tgenerate\t{request_.bundle}\t0\tn/a\tn/a")


def test_the_bundle_says_how_many_steps_suit_it(installed):
    recorder = Recorder(stop_at=("sampling", 1))
    with pytest.raises(Cancelled):
        Engine().run(Generate(bundle=BRATS, contrasts=["FLAIR"]), report=recorder)
    assert recorder.messages[-1] == ("sampling", 1, 20)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Generate(bundle=FLOW, contrasts=["T1w", "FLAIR"]), "another head for every contrast"),
        (Generate(bundle=BRAIN, draft=True), "has no draft"),
        (Generate(bundle=BRAIN, style="style.nii"), "look of a scan"),
        (Generate(bundle=BRAIN, anatomy={"age": 30}), r"age=30 is outside .* 44 to 82 \(years\)"),
        (Generate(bundle=BRAIN, pathologies={"wmh": 0.1}), "it knows: none"),
        (Generate(bundle=BRATS), "it knows: FLAIR"),
    ],
)
def test_what_an_image_model_cannot_do_is_refused(installed, request_, says):
    with pytest.raises(BadInput, match=says):
        check(request_, installed[request_.bundle].metadata)
