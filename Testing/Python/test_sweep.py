"""Sweeps: series of cases that differ in one number, computed together, on disk and back."""

import csv
import json
import xml.etree.ElementTree as ElementTree

import nibabel as nib
import numpy as np
import pytest
import torch
from phantoms import phantom_image
from typer.testing import CliRunner

from BrainGenLib import anatomy, counterfactuals, requests, spaces, sweeps
from BrainGenLib.bundles import Bundle
from BrainGenLib.case import Case, Frame
from BrainGenLib.cli import app
from BrainGenLib.diffusion.drift import Drift
from BrainGenLib.engine import Engine, stages
from BrainGenLib.errors import BadInput
from BrainGenLib.export import bids
from BrainGenLib.export.write import write
from BrainGenLib.methods import latent_drifting, segmentation
from BrainGenLib.methods.brain_ldm import BrainLDM
from BrainGenLib.networks.gaussian import discriminant
from BrainGenLib.provenance import differences
from BrainGenLib.reporting import Silent
from BrainGenLib.requests import Counterfactual, Generate, Sweep
from BrainGenLib.service import archive

STEPS = 3
# A batch rounds in another way than one latent at a time; images are of 0 to 1.
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def metadata(tiny_folder):
    return {name: Bundle(tiny_folder / name).metadata for name in ("brain-ldm", "brainspade3d")}


@pytest.fixture(scope="module")
def model(tiny_folder):
    torch.set_num_threads(1)
    return BrainLDM.from_bundle(Bundle(tiny_folder / "brain-ldm"), "cpu")


@pytest.fixture
def scan(tmp_path, phantom_classes):
    image = (phantom_image(phantom_classes) * 800).astype(np.float32)
    nib.save(nib.Nifti1Image(image, spaces.GRID_2MM.affine), tmp_path / "scan.nii")
    return tmp_path / "scan.nii"


@pytest.fixture
def quick(monkeypatch, phantom_classes):
    """The phantom's own labels in place of the tiny segmenter's, which are nonsense; counts how often it is asked."""
    fine = phantom_classes.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    asked = []
    found = segmentation.Segmentation(fine, np.eye(4))
    monkeypatch.setattr(segmentation, "segment", lambda *_: asked.append(1) or found)
    monkeypatch.setattr(segmentation, "segment_in_template", lambda *_: fine)
    return asked


def drawn(**fields):
    return Generate(bundle="brain-ldm", steps=STEPS, seed=3, guidance=1.5, **fields)


def changed(**fields):
    return Counterfactual(scan="scan.nii", contrast="T1w", steps=STEPS, seed=1, known={"age": 30.0}, **fields)


class Recorder(Silent):
    def __init__(self):
        self.stages, self.previews, self.last = [], [], (0, 1)

    def step(self, stage, step, of, message=""):
        assert 0 <= step <= of
        if not self.stages or stage != self.stages[-1]:
            self.stages.append(stage)

    def preview(self, case, name):
        assert name not in self.previews, "a job folder has room for a name once"
        self.previews.append(name)


def test_values_come_in_order_and_each_once():
    assert Sweep(of=drawn(), over="age", values=[60, 20, 40]).values == [20, 40, 60]
    with pytest.raises(BadInput, match="a value comes twice"):
        requests.parse({"verb": "sweep", "of": {"verb": "generate"}, "over": "age", "values": [20, 20]})
    with pytest.raises(BadInput, match="at least 2"):
        requests.parse({"verb": "sweep", "of": {"verb": "generate"}, "over": "age", "values": [20]})


def test_a_sweep_survives_as_json_and_names_the_files_of_its_frames():
    request = Sweep(of=changed(wanted={"age": 60}, segmentation="lesions.nii"), over="drift", values=[0, 1])
    again = requests.parse(request.model_dump_json())
    assert again == request
    assert requests.inputs_of(again) == ["scan.nii", "lesions.nii"]
    assert (again.bundle, again.seed, again.device) == ("brain-ldm", 1, "auto")


@pytest.mark.parametrize(
    ("bundle", "of", "over", "values", "sentence"),
    [
        ("brain-ldm", drawn(), "age", [20, 300], "outside the range"),
        ("brain-ldm", drawn(), "mood", [0, 1], "cannot sweep over 'mood'.*drift, guidance, age"),
        ("brain-ldm", drawn(), "strength", [0.2, 0.4], "cannot sweep over 'strength'"),
        ("brain-ldm", changed(wanted={"age": 60}), "strength", [0.2, 1.4], "less than or equal to 1, not 1.4"),
        ("brain-ldm", changed(), "drift", [0, 1], "Nothing is asked to change"),
        ("brain-ldm", changed(), "wmh", [0, 1], "too few T1w scans"),
        ("brainspade3d", Generate(), "drift", [0, 1], "cannot sweep over 'drift'"),
        ("brainspade3d", Counterfactual(scan="scan.nii", bundle="brainspade3d"), "guidance", [0, 1], "over: wmh"),
    ],
)
def test_what_cannot_be_swept_over_is_a_sentence(metadata, bundle, of, over, values, sentence):
    with pytest.raises(BadInput, match=sentence):
        requests.check(Sweep(of=of, over=over, values=values), metadata[bundle])


@pytest.mark.parametrize(("over", "values"), [("age", [25, 50, 85]), ("drift", [-1, 0, 2]), ("guidance", [0, 1, 3])])
def test_drawn_frames_are_what_the_single_requests_give(tiny_bundles, metadata, over, values):
    request = Sweep(of=drawn(anatomy={"age": 70.0}), over=over, values=values)
    recorder = Recorder()
    case = Engine().run(request, report=recorder)
    assert recorder.stages == stages(request)
    assert [frame.value for frame in case.frames] == values
    for frame, single in zip(case.frames, requests.frames(request, metadata["brain-ldm"]), strict=True):
        alone = Engine().run(single)
        assert np.abs(frame.case.images["T1w"] - alone.images["T1w"]).max() < ROUNDING
        assert frame.case.measurements["conditions"] == alone.measurements["conditions"]
    first, last = (case.frames[index].case.images["T1w"] for index in (0, -1))
    assert np.abs(first - last).max() > 20 * ROUNDING


def test_frames_are_drawn_in_batches_that_fit_in_memory(tiny_bundles, monkeypatch):
    request = Sweep(of=drawn(), over="age", values=[25, 50, 85])
    whole = Engine().run(request)
    monkeypatch.setattr(BrainLDM, "batch", 2)
    parts = Engine().run(request)
    for one, other in zip(whole.frames, parts.frames, strict=True):
        assert np.abs(one.case.images["T1w"] - other.case.images["T1w"]).max() < ROUNDING


def test_models_that_draw_labels_make_one_frame_after_the_other(tiny_bundles, metadata, few_steps):
    request = Sweep(of=Generate(seed=2, steps=4), over="wmh", values=[0.1, 0.4])
    recorder = Recorder()
    case = Engine().run(request, report=recorder)
    assert recorder.stages == stages(request)
    assert {"frame-01-labels", "frame-01-T1w", "frame-02-T1w"} <= set(recorder.previews)
    alone = Engine().run(requests.frames(request, metadata["brainspade3d"])[1])
    second = case.frames[1].case
    assert np.array_equal(second.labels, alone.labels)
    assert np.array_equal(second.images["T1w"], alone.images["T1w"])
    volumes = [frame.case.measurements["volumes_ml"]["white matter hyperintensity"] for frame in case.frames]
    assert volumes[0] < volumes[1]


@pytest.mark.parametrize(
    ("over", "values", "others"),
    [
        ("age", [40, 85], {"variants": 2}),
        ("drift", [0, 1.5], {"wanted": {"age": 80.0}, "drift_step": "normalised"}),
        ("strength", [0.4, 1], {"wanted": {"age": 80.0}, "variants": 2}),
        ("guidance", [1, 4], {"wanted": {"age": 80.0}, "drift": "auto"}),
    ],
)
def test_changed_frames_are_what_the_single_requests_give(
    scan, quick, tiny_bundles, metadata, tmp_path, over, values, others
):
    request = Sweep(of=changed(**others), over=over, values=values)
    recorder = Recorder()
    case = Engine().run(request, tmp_path, recorder)
    assert len(quick) == 1, "the scan is segmented once"
    last, single = case.frames[1].case, requests.frames(request, metadata["brain-ldm"])[1]
    alone = Engine().run(single, tmp_path)
    assert np.abs(last.maps["difference"] - alone.maps["difference"]).max() < 800 * ROUNDING
    assert last.measurements["drift"] == pytest.approx(alone.measurements["drift"], abs=1e-4)
    assert last.measurements["reached"] == pytest.approx(alone.measurements["reached"], abs=1e-2)
    assert set(last.maps) == set(alone.maps)
    first = case.frames[0].case
    assert np.abs(first.maps["difference"] - last.maps["difference"]).max() > 8


def test_lesions_of_a_scan_are_changed_by_labels_to_every_load(
    scan, quick, tiny_bundles, metadata, phantom_classes, tmp_path, pictures
):
    labels = anatomy.to_values(phantom_classes)
    labels[24:30, 50:60, 38:44] = anatomy.lesions()["wmh"].value
    nib.save(nib.Nifti1Image(labels, spaces.GRID_2MM.affine), tmp_path / "lesions.nii")
    of = Counterfactual(bundle="brainspade3d", scan="scan.nii", segmentation="lesions.nii", contrast="T1w", seed=1)
    request = Sweep(of=of, over="wmh", values=[0, 0.2])
    case = Engine().run(request, tmp_path)
    name = anatomy.lesions()["wmh"].name
    volumes = [frame.case.measurements["volumes_ml"][name] for frame in case.frames]
    # The scan's voxels of 2 mm lose some of what is thin.
    assert volumes == pytest.approx([0, 10], rel=0.25)
    for frame in case.frames:
        assert frame.case.measurements["reached"]["wmh"] == pytest.approx(1, abs=0.05)
    alone = Engine().run(requests.frames(request, metadata["brainspade3d"])[1], tmp_path)
    assert np.array_equal(case.frames[1].case.images["T1w"], alone.images["T1w"])


def test_a_counterfactual_is_inverted_once_and_sampled_as_one_batch(model, phantom_classes, monkeypatch):
    sizes = []
    denoiser = model.diffusion.forward
    monkeypatch.setattr(model.diffusion, "forward", lambda x, *rest: sizes.append(len(x)) or denoiser(x, *rest))
    image = torch.from_numpy(phantom_image(phantom_classes))[None, None]
    asked = [
        latent_drifting.Change({"age": 30.0}, {"age": age}, 1.0, 1.0, Drift(), False, STEPS, 1)
        for age in (40.0, 60.0, 85.0)
    ]
    with torch.no_grad():
        latent_drifting.edit(model, image, "T1w", asked, torch.Generator().manual_seed(0), Silent())
    # Two calls a step to invert (an estimate and an iteration), one for the own conditions, one for all wanted ones.
    assert sizes == [1] * (3 * STEPS) + [3] * STEPS


@torch.no_grad()
def test_the_judge_says_how_far_an_image_has_gone_to_where_it_was_to_go(model, phantom_classes):
    image = torch.from_numpy(phantom_image(phantom_classes, fluid=0.5))[None, None]
    change = latent_drifting.Change({"age": 40.0}, {"age": 60.0}, 1.0, 1.0, Drift(), False, STEPS, 1)
    z = model.encode(image)
    shift = model.expected(change.wanted, "T1w") - model.expected(change.own, "T1w")
    for share in (0.0, 0.5, 1.0, 1.5):
        moved = model.decode(z + share * shift)
        found = latent_drifting.reached(model, model.decode(z), moved, "T1w", change)
        assert found == pytest.approx(share, abs=0.05)
    other = torch.zeros_like(shift)
    other[:, :4] = 3.0  # a corner, where ageing changes nothing
    assert latent_drifting.reached(model, model.decode(z), model.decode(z + other), "T1w", change) == pytest.approx(
        0, abs=0.05
    )
    nothing = latent_drifting.Change({"age": 40.0}, {"age": 40.0}, 1.0, 1.0, Drift(), False, STEPS, 1)
    assert latent_drifting.reached(model, image, image, "T1w", nothing) is None


def test_the_discriminant_is_the_direction_by_the_inverse_covariance():
    torch.manual_seed(0)
    modes, remainder = torch.randn(3, 20, dtype=torch.double), torch.rand(20, dtype=torch.double) + 0.1
    variance, direction = torch.tensor([1.0, 0.0, 2.0]).double(), torch.randn(20, dtype=torch.double)
    covariance = modes.T @ torch.diag(variance) @ modes + torch.diag(remainder)
    expected = torch.linalg.solve(covariance, direction)
    assert torch.allclose(discriminant(direction, modes, remainder, variance), expected)


def test_lesions_are_judged_by_the_labels():
    before = np.zeros((20, 20, 20), np.uint8)
    after = before.copy()
    wmh = anatomy.lesions()["wmh"].index
    before[:10, :10, :10] = wmh
    after[:5, :10, :10] = wmh
    found = counterfactuals.lesions_reached(before, after, {"wmh": -1.0, "ms": 0.001, "stroke": 2.0})
    assert found == {"wmh": 0.5, "stroke": 0.0}


def test_the_front_holds_what_nothing_beats_and_the_best_is_the_smallest_worst():
    losses = [(1.0, 0.0), (0.4, 0.02), (0.5, 0.03), (0.05, 0.09), (0.0, 0.1)]
    front = sweeps.pareto_front(losses)
    assert front == [0, 1, 3, 4]
    assert sweeps.best_of(losses, front) == 1
    assert sweeps.best_of(losses, [4]) == 4


def frame(value, flip=None, ssim=0.9, size=6):
    image = np.full((size,) * 3, value / 100, np.float32)
    labels = np.full((size,) * 3, 2, np.uint16)
    measurements = {"volumes_ml": {"left cerebral white matter": float(value)}}
    if flip is not None:
        measurements |= {"reached": {"model": flip}, "similarity": {"ssim": ssim}}
    return Frame(value, Case({"T1w": image}, labels, np.eye(4), measurements, maps={"difference": image - 0.5}))


@pytest.fixture
def traded(metadata):
    """A sweep over guidance that trades flip for identity."""
    request = Sweep(of=changed(wanted={"age": 80.0}), over="guidance", values=[0, 1, 2, 4])
    frames = [frame(*each) for each in ((0.0, 0.0, 1.0), (1.0, 0.6, 0.97), (2.0, 0.5, 0.95), (4.0, 1.1, 0.8))]
    whole = {"request": request.model_dump(mode="json"), "bundles": {}, "arrays": {}}
    case = Case({}, None, np.eye(4), sweeps.measured(request, metadata["brain-ldm"], frames), whole, frames=frames)
    for number, one in enumerate(frames, 1):
        one.case.provenance = {**whole, "frame": number}
    return case


def test_what_a_counterfactual_trades_is_measured(traded):
    assert traded.measurements == {"over": "guidance", "unit": "", "front": [1, 2, 4], "best": 2}


def test_of_a_sweep_over_years_no_frame_is_the_best(metadata):
    request = Sweep(of=changed(), over="age", values=[40, 50])
    frames = [frame(value, 0.5) for value in (40.0, 50.0)]
    assert sweeps.measured(request, metadata["brain-ldm"], frames) == {"over": "age", "unit": "years"}


def test_frames_are_sessions_of_one_subject(traded, tmp_path):
    subject = bids.write_case(tmp_path / "out", traded)
    assert (subject / "ses-04/anat/sub-0001_ses-04_T1w.nii.gz").is_file()
    with (subject / "sub-0001_sessions.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["guidance"] for row in rows] == ["0.0", "1.0", "2.0", "4.0"]
    assert [row["pareto_front"] for row in rows] == ["1", "2", "0", "1"]
    assert [float(row["flip"]) for row in rows] == [0.0, 0.6, 0.5, 1.1]
    assert json.loads((subject / "ses-01/anat/sub-0001_ses-01_T1w.json").read_text(encoding="utf-8"))["SYNTHETIC"]
    again = bids.read_case(subject)
    assert again.measurements == traded.measurements
    for one, other in zip(again.frames, traded.frames, strict=True):
        assert one.value == other.value
        assert np.allclose(one.case.images["T1w"], other.case.images["T1w"], atol=1e-4)
        assert np.array_equal(one.case.labels, other.case.labels)
        assert np.allclose(one.case.maps["difference"], other.case.maps["difference"])
    alone = bids.read_case(subject / "ses-03")
    assert np.allclose(alone.images["T1w"], 0.02, atol=1e-4)
    assert alone.provenance["frame"] == 3


def test_the_plot_shows_every_frame_and_the_front(traded, tmp_path):
    subject = bids.write_case(tmp_path / "out", traded)
    plot = ElementTree.parse(subject / "figures/sub-0001_desc-tradeoff_plot.svg").getroot()
    name = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in plot.iter(f"{name}text")]
    assert any("SYNTHETIC" in text for text in texts)
    points = [circle for circle in plot.iter(f"{name}circle") if circle.get("r") == "4"]
    assert len(points) == 4
    (ring,) = (circle for circle in plot.iter(f"{name}circle") if circle.get("r") == "9")
    assert (ring.get("cx"), ring.get("cy")) == (points[1].get("cx"), points[1].get("cy"))
    # More identity is further right, more flip higher up.
    assert float(points[0].get("cx")) > float(points[3].get("cx"))
    assert float(points[0].get("cy")) > float(points[3].get("cy"))
    (line,) = plot.iter(f"{name}polyline")
    assert len(line.get("points").split()) == 3


def test_frames_survive_their_folder_the_way_over_a_server_and_the_export(traded, tmp_path):
    (tmp_path / "cases").mkdir()
    traded.save(tmp_path / "cases" / "case")
    archive.unpack(archive.pack(tmp_path / "cases" / "case"), tmp_path / "there")
    again = Case.load(tmp_path / "there")
    assert [one.value for one in again.frames] == [0, 1, 2, 4]
    assert np.array_equal(again.frames[2].case.maps["difference"], traded.frames[2].case.maps["difference"])
    (subject,) = write(tmp_path / "out", [tmp_path / "cases" / "case"])
    assert len(bids.read_case(subject).frames) == 4


def test_the_command_writes_sessions_that_can_be_made_again(tiny_bundles, tmp_path):
    runner, out = CliRunner(), tmp_path / "out"
    arguments = ["--over", "age=20:80:3", "--bundle", "brain-ldm", "--steps", "2", "--seed", "4", "--out", str(out)]
    made = runner.invoke(app, ["sweep", *arguments, "--json"])
    assert made.exit_code == 0, made.output
    result = json.loads(made.stdout.splitlines()[-1])["result"]
    assert [path.rsplit("/", 1)[1] for path in result["files"]] == [
        f"sub-0001_ses-{number:02d}_T1w.nii.gz" for number in (1, 2, 3)
    ]
    case = bids.read_case(out / "sub-0001")
    assert [one.value for one in case.frames] == [20, 50, 80]
    assert set(case.provenance["arrays"]) == {"01 T1w", "02 T1w", "03 T1w"}
    assert differences(case.provenance, case.provenance) == []
    for folder in (out / "sub-0001", out / "sub-0001" / "ses-02"):
        found = runner.invoke(app, ["replay", str(folder)])
        assert (found.exit_code, found.stdout.strip()) == (0, "Identical."), found.output
    participants = (out / "participants.tsv").read_text(encoding="utf-8").splitlines()[1].split("\t")
    assert participants[:6] == ["sub-0001", "1", "model", "sweep", "brain-ldm", "4"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--over", "age"], "write NAME=START:STOP:COUNT"),
        (["--over", "age=20:80:x"], "write NAME=START:STOP:COUNT"),
        (["--over", "wmh=0,0.3", "--strength", "0.5"], "--strength is of scans; give --scan"),
        (["--over", "age=20,80", "--scan", "scan.nii", "--lobe", "wmh=frontal"], "--lobe is of generated brains"),
        (["--over", "age=20,80", "--scan", "scan.nii", "--contrast", "T1w", "--contrast", "T2w"], "one contrast"),
        (["--over", "age=20,800", "--bundle", "brain-ldm"], "outside the range"),
    ],
)
def test_the_command_tells_what_is_wrong(tiny_bundles, tmp_path, arguments, sentence):
    found = CliRunner().invoke(app, ["sweep", *arguments, "--out", str(tmp_path / "out")])
    assert found.exit_code == 2
    assert sentence in " ".join(found.stderr.split())
    assert not (tmp_path / "out").exists()


def test_the_command_passes_on_what_a_scan_is_to_be_changed_to(tiny_bundles, scan, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "BrainGenLib.cli.sweeping.to_dataset", lambda wanted, inputs, *_: seen.append((wanted, inputs))
    )
    arguments = ["--over", "drift=-0.2:0.2:3", "--scan", str(scan), "--set", "age=80", "--known", "age=50"]
    found = CliRunner().invoke(app, ["sweep", *arguments, "--strength", "0.5", "--seed", "1", "--out", str(tmp_path)])
    assert found.exit_code == 0, found.output
    ((request,), inputs) = seen[0]
    assert request.values == [-0.2, 0, 0.2]
    assert request.of == Counterfactual(scan="scan.nii", wanted={"age": 80}, known={"age": 50}, strength=0.5, seed=1)
    assert inputs == {"scan.nii": scan}
