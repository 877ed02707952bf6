"""Counterfactuals of a scan, run by the engine: what changes, what does not, and where it lies."""

import nibabel as nib
import numpy as np
import pytest
from phantoms import phantom_image
from scipy import ndimage
from typer.testing import CliRunner

from BrainGenLib import anatomy, counterfactuals, spaces
from BrainGenLib.bundles import Bundle
from BrainGenLib.case import Case
from BrainGenLib.cli import app
from BrainGenLib.engine import Engine, stages
from BrainGenLib.errors import BadInput
from BrainGenLib.export import bids
from BrainGenLib.methods import latent_drifting, segmentation
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.reading.volume import Volume
from BrainGenLib.reporting import Silent
from BrainGenLib.requests import Counterfactual, Segment, check
from BrainGenLib.verbs import counterfactual, work

STEPS = 4


@pytest.fixture
def scan(tmp_path, phantom_classes):
    """A T1w-like scan of the phantom in scanner units, with axes (P, S, R) and voxels of its own."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 2.2], [-2.0, 0, 0], [0, 2.0, 0]])
    affine[:3, 3] = (-76, 88, -70)
    shape = (100, 70, 70)
    image = phantom_image(phantom_classes) * 800
    array = spaces.resample(image, spaces.GRID_2MM.affine, shape, affine, order=1).astype(np.float32)
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "scan.nii")
    return tmp_path / "scan.nii"


@pytest.fixture
def quick(monkeypatch, phantom_classes):
    """The phantom's own labels in place of the tiny segmenter's, which are nonsense."""
    fine = phantom_classes.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    found = segmentation.Segmentation(fine, np.eye(4))
    monkeypatch.setattr(segmentation, "segment", lambda *_: found)
    monkeypatch.setattr(segmentation, "segment_in_template", lambda *_: fine)


class Recorder(Silent):
    def __init__(self):
        self.stages, self.previews = [], []

    def step(self, stage, step, of, message=""):
        if stage not in self.stages:
            self.stages.append(stage)

    def preview(self, case, name):
        self.previews.append((name, next(iter(case.images.values())).shape))


def test_a_scan_is_changed_in_its_own_grid_and_units(scan, quick, tiny_bundles, tmp_path):
    request = Counterfactual(
        scan="scan.nii", known={"age": 30}, wanted={"age": 85}, steps=STEPS, seed=1, variants=2, guidance=6
    )
    recorder = Recorder()
    case = Engine().run(request, tmp_path, recorder)
    assert recorder.stages == stages(request)
    assert recorder.previews == [(name, spaces.GRID_2MM.shape) for name in ("expected", "counterfactual")]
    before = np.asarray(nib.load(scan).dataobj)
    after = case.images["T1w"]
    assert case.measurements["contrast"] == "T1w"
    assert after.shape == case.labels.shape == before.shape
    assert np.allclose(case.affine, nib.load(scan).affine)
    assert np.allclose(after - before, case.maps["difference"], atol=0.1)
    # Fluid lies inside, where it darkens; most of the rest is untouched.
    assert case.maps["difference"].min() < -20
    assert case.measurements["similarity"]["unchanged"] > 0.5
    assert case.measurements["wanted"]["ventricles"] > case.measurements["own"]["ventricles"]
    assert case.maps["uncertainty"].max() > 0
    looks = case.measurements["looks_years_old"]
    assert looks["after"] > looks["before"]
    assert case.measurements["reached"].keys() == {"model", "age"}
    assert case.measurements["reached"]["age"] > 0
    assert case.synthetic
    subject = bids.write_case(tmp_path / "out", case)
    again = bids.read_case(subject)
    assert np.allclose(again.images["T1w"], after)
    assert set(again.maps) == {"difference", "uncertainty"}
    case.save(tmp_path / "case")
    assert np.allclose(Case.load(tmp_path / "case").maps["difference"], case.maps["difference"])


def test_the_same_request_gives_the_same_bits(scan, quick, tiny_bundles, tmp_path):
    request = Counterfactual(scan="scan.nii", wanted={"age": 85}, steps=STEPS, seed=1, drift="auto")
    one, two = (Engine().run(request, tmp_path).images["T1w"] for _ in range(2))
    assert np.array_equal(one, two)


def test_a_scan_is_segmented_once_for_several_questions(scan, quick, tiny_bundles, tmp_path, monkeypatch):
    engine = Engine()
    first = engine.run(Counterfactual(scan="scan.nii", wanted={"age": 85}, steps=STEPS, seed=1), tmp_path)
    monkeypatch.setattr(segmentation, "segment", lambda *_: pytest.fail("segmented again"))
    again = engine.run(Counterfactual(scan="scan.nii", wanted={"age": 85}, steps=STEPS, seed=1), tmp_path)
    assert np.array_equal(first.images["T1w"], again.images["T1w"])
    other = nib.load(scan)
    nib.save(nib.Nifti1Image(np.asarray(other.dataobj) * 2, other.affine), scan)
    with pytest.raises(pytest.fail.Exception, match="segmented again"):
        engine.run(Counterfactual(scan="scan.nii", wanted={"age": 85}, steps=STEPS, seed=1), tmp_path)


@pytest.mark.parametrize("change", ["voxels", "place"])
def test_what_a_scan_holds_is_remembered_for_its_voxels_and_place_alone(
    scan, tiny_bundles, tmp_path, monkeypatch, phantom_classes, change
):
    """Whatever the file's hash says: some formats keep voxels or place in a second file."""
    fine = phantom_classes.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    seen = []

    def segment(model, data, affine, report):
        seen.append((float(data.sum()), affine[0, 3]))
        return segmentation.Segmentation(fine, np.eye(4))

    monkeypatch.setattr(segmentation, "segment", segment)
    engine, volume = Engine(), work.read_scan(scan)
    monkeypatch.setattr(work, "read_scan", lambda _: volume)
    engine.run(Segment(scan="scan.nii"), tmp_path)
    engine.run(Segment(scan="scan.nii"), tmp_path)
    assert len(seen) == 1
    if change == "voxels":
        volume.data = volume.data + volume.data[::-1]
    else:
        volume.affine = volume.affine + np.outer([1, 0, 0, 0], [0, 0, 0, 1])
    engine.run(Segment(scan="scan.nii"), tmp_path)
    assert len(set(seen)) == 2


def test_what_is_not_taken_away_is_said():
    had = dict.fromkeys(anatomy.lesions(), 0.0) | {"wmh": 0.62}
    (nothing, other) = counterfactuals.removal_remarks(["ms"], had, {"ms": 0}, given=False)
    assert nothing == "Nothing was to be taken away: the segmenter found no multiple sclerosis lesion."
    assert other.startswith("0.62 mL of white matter hyperintensity stay")
    (misses,) = counterfactuals.removal_remarks(["wmh"], had, {"wmh": 0}, given=False)
    assert "0.62 mL" in misses
    assert "are still there" in misses
    assert counterfactuals.removal_remarks(["wmh"], had, {"wmh": 0}, given=True) == []


@pytest.mark.parametrize(
    ("factor", "offset", "outside"),
    [(0.003, -1.1, 0), (1, -1024, -1024), (1e-6, 0, -0.01)],
)
def test_a_change_is_the_same_whatever_the_air_of_the_scan_is(phantom_classes, factor, offset, outside):
    affine, fine = spaces.GRID_2MM.affine, phantom_classes.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    inside = phantom_classes > 0
    # In a masked brain the darkest is nearly black.
    data = np.where(inside, np.random.default_rng(0).uniform(2, 1000, inside.shape), 0).astype(np.float32)
    written = np.where(inside, data * factor + offset, outside).astype(np.float32)
    darker = np.where(inside, -0.3, 0).astype(np.float32)
    darker[::2] = 0
    change = counterfactuals.TemplateChange(darker, spaces.GRID_2MM, None, None, {}, {}, {})
    found = []
    for scan in (data, written):
        aligned = counterfactuals.Aligned.of(Volume(scan, affine), np.eye(4), fine)
        after = counterfactuals.changed_scan(change, aligned)
        found.append((aligned.image(), (after - scan) / (1 if scan is data else factor)))
        assert np.array_equal(after[::2], scan[::2])
        assert np.array_equal(after[~inside], scan[~inside])
    (image, difference), (other_image, other_difference) = found
    assert np.abs(other_image - image).max() < 0.01
    assert np.abs(other_difference - difference).max() < 10


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"wanted": {"mood": 1.0}}, "does not know the condition 'mood'"),
        ({"wanted": {"age": 300.0}}, "outside the range"),
        ({"wanted": {"age": 50.0}, "contrast": "CT"}, "does not know contrast 'CT'"),
        ({"wanted": {"wmh": 0.0}, "contrast": "T1w"}, "too few T1w scans"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(tiny_folder, fields, sentence):
    with pytest.raises(BadInput, match=sentence):
        check(Counterfactual(scan="scan.nii", **fields), Bundle(tiny_folder / "brain-ldm").metadata)


def test_the_command_tells_what_is_wrong(tiny_bundles, scan, tmp_path):
    runner = CliRunner()
    for arguments, sentence in (
        (["--set", "age"], "write NAME=VALUE"),
        (["--set", "age=60", "--drift", "much"], "write auto, or a number"),
        (["--set", "age=600"], "outside the range"),
    ):
        found = runner.invoke(app, ["counterfactual", str(scan), *arguments, "--out", str(tmp_path / "out")])
        assert found.exit_code == 2
        assert sentence in " ".join(found.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.fixture
def lesion_scan(tmp_path, phantom_classes):
    """A T2w-like scan of the phantom with a bright lesion, and its labels, both at 1 mm in template space."""
    classes = phantom_classes.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    wmh = anatomy.lesions()["wmh"].index
    white = np.isin(classes, anatomy.classes_of(tissue="wm"))
    deepest = np.unravel_index(ndimage.distance_transform_edt(white).argmax(), white.shape)
    distance = np.linalg.norm(np.indices(white.shape) - np.reshape(deepest, (3, 1, 1, 1)), axis=0)
    where = white & (distance < 6)
    image = phantom_image(classes, 0.3, 0.5, 0.9) * 800
    image[where] = 700
    classes = np.where(where, wmh, classes).astype(np.uint8)
    for name, array in (("scan", image.astype(np.float32)), ("labels", anatomy.to_values(classes))):
        nib.save(nib.Nifti1Image(array, spaces.GRID_1MM.affine), tmp_path / f"{name}.nii")
    return where


def test_an_erased_lesion_takes_the_look_of_its_surroundings(lesion_scan, quick, tiny_bundles, tmp_path, few_steps):
    assert lesion_scan.sum() > 300
    request = Counterfactual(
        scan="scan.nii", segmentation="labels.nii", wanted={"wmh": 0}, contrast="T1w", bundle="brainspade3d", seed=1
    )
    recorder = Recorder()
    case = Engine().run(request, tmp_path, recorder)
    assert recorder.stages == stages(request)
    before = np.asarray(nib.load(tmp_path / "scan.nii").dataobj)
    after = case.images["T1w"]
    core = ndimage.binary_erosion(lesion_scan, iterations=2)
    assert abs(after[core].mean() - 0.3 * 800) < 60
    far = ~ndimage.binary_dilation(lesion_scan, iterations=6)
    assert np.array_equal(after[far], before[far])
    assert case.measurements["volumes_before_ml"]["white matter hyperintensity"] == pytest.approx(
        lesion_scan.sum() / 1000
    )
    assert not np.isin(case.labels, [anatomy.lesions()["wmh"].value]).any()


def test_a_lesion_comes_at_the_asked_load_beside_what_is_there(lesion_scan, quick, tiny_bundles, tmp_path, pictures):
    request = Counterfactual(
        scan="scan.nii", segmentation="labels.nii", wanted={"wmh": 0.3}, contrast="T1w", bundle="brainspade3d", seed=1
    )
    case = Engine().run(request, tmp_path)
    lesion = case.labels == anatomy.lesions()["wmh"].value
    assert lesion.sum() / 1000 == pytest.approx(0.3 * 50, rel=0.1)
    assert lesion[lesion_scan].all()
    far = ~ndimage.binary_dilation(lesion, iterations=6)
    assert np.abs(case.maps["difference"][far]).max() == 0


def test_by_labels_a_contrast_that_the_renderer_does_not_know_is_refused(lesion_scan, quick, tiny_bundles, tmp_path):
    request = Counterfactual(scan="scan.nii", segmentation="labels.nii", wanted={"wmh": 0}, bundle="brainspade3d")
    with pytest.raises(BadInput, match="looks like T2w; if it is not, name its contrast"):
        Engine().run(request, tmp_path)


def test_painted_lesions_are_known_to_the_diffusion(lesion_scan, quick, tiny_bundles, tmp_path):
    request = Counterfactual(
        scan="scan.nii",
        segmentation="labels.nii",
        wanted={"wmh": 0},
        contrast="T2w",
        steps=STEPS,
        lesions="diffusion",
    )
    case = Engine().run(request, tmp_path)
    assert case.measurements["own"]["wmh"] == pytest.approx(lesion_scan.sum() / 1000 / 50, rel=0.05)
    assert case.measurements["wanted"]["wmh"] == 0


def test_what_has_no_meaning_by_labels_is_refused(tiny_bundles, tmp_path):
    request = Counterfactual(scan="scan.nii", wanted={"wmh": 0}, bundle="brainspade3d", drift=0.5)
    with pytest.raises(BadInput, match="leave drift out, or use brain-ldm"):
        Engine().run(request, tmp_path)


def test_by_labels_ventricles_change_too(lesion_scan, quick, pictures, tiny_bundles, tmp_path, phantom_classes):
    had = volume_conditions(phantom_classes, 2)["ventricles"]
    wanted = {"ventricles": round(0.9 * had), "wmh": 0}
    request = Counterfactual(
        scan="scan.nii", segmentation="labels.nii", wanted=wanted, contrast="T1w", bundle="brainspade3d", seed=1
    )
    case = Engine().run(request, tmp_path)
    assert case.measurements["reached"] == pytest.approx({"ventricles": 1.0, "wmh": 1.0}, abs=0.1)
    assert not np.isin(case.labels, [anatomy.lesions()["wmh"].value]).any()


@pytest.fixture
def idle(monkeypatch):
    """A diffusion that changes nothing; what it was asked for."""
    asked = []

    def edit(model, image, contrast, changes, generator, report):
        asked.extend(changes)
        still = np.zeros(spaces.GRID_2MM.shape, np.float32)
        return [latent_drifting.Edit(still, still, still, (0.0,)) for _ in changes]

    monkeypatch.setattr(latent_drifting, "edit", edit)
    return asked


def ask(folder, **fields):
    return Engine().run(Counterfactual(scan="scan.nii", contrast="T1w", seed=1, **fields), folder)


def test_by_diffusion_ventricles_move_as_they_do_by_labels(
    scan, quick, idle, tiny_bundles, tmp_path, phantom_classes
):
    had = volume_conditions(phantom_classes, 2)["ventricles"]
    wanted = {"ventricles": round(0.9 * had)}
    by_labels = ask(tmp_path, wanted=wanted, bundle="brainspade3d").maps["difference"]
    assert np.array_equal(ask(tmp_path, wanted=wanted).maps["difference"], by_labels)
    (change,) = idle
    assert change.wanted["ventricles"] == pytest.approx(change.own["ventricles"])
    # Half the strength moves them half the way.
    half = ask(tmp_path, wanted=wanted, strength=0.5).maps["difference"]
    assert 0.3 < np.abs(half).sum() / np.abs(by_labels).sum() < 0.7
    assert not ask(tmp_path, wanted=wanted, guidance=0.0).maps["difference"].any()


def test_what_of_the_ventricles_cannot_move_is_left_to_the_diffusion(scan, quick, idle, tiny_bundles, tmp_path):
    with pytest.raises(BadInput, match="can be made"):
        ask(tmp_path, wanted={"ventricles": 10.0}, bundle="brainspade3d")
    case = ask(tmp_path, wanted={"ventricles": 10.0})
    assert np.abs(case.maps["difference"]).max() > 50
    (change,) = idle
    assert 10.0 < change.wanted["ventricles"] < change.own["ventricles"]


def test_a_brain_without_ventricles_is_left_to_the_diffusion(
    scan, idle, tiny_bundles, tmp_path, phantom_classes, monkeypatch
):
    white = anatomy.classes_of(name="cerebral white matter")[0]
    solid = np.where(np.isin(phantom_classes, anatomy.classes_of(name="lateral ventricle")), white, phantom_classes)
    fine = solid.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    monkeypatch.setattr(segmentation, "segment", lambda *_: segmentation.Segmentation(fine, np.eye(4)))
    monkeypatch.setattr(segmentation, "segment_in_template", lambda *_: fine)
    assert not ask(tmp_path, wanted={"ventricles": 30.0}).maps["difference"].any()
    assert idle[0].wanted["ventricles"] == 30


@pytest.fixture
def painted(lesion_scan, tmp_path):
    """Asks about the scan with the lesion, whose labels are known."""

    def ask_painted(**fields):
        return ask(tmp_path, segmentation="labels.nii", **fields)

    return ask_painted


def test_lesions_alone_are_drawn_without_the_diffusion(
    painted, quick, idle, tiny_bundles, pictures, lesion_scan, tmp_path
):
    case = painted(wanted={"wmh": 0})
    before, after = np.asarray(nib.load(tmp_path / "scan.nii").dataobj), case.images["T1w"]
    assert after[ndimage.binary_erosion(lesion_scan, iterations=2)].mean() == pytest.approx(0.3 * 800, abs=20)
    far = ~ndimage.binary_dilation(lesion_scan, iterations=6)
    assert np.array_equal(after[far], before[far])
    assert case.measurements["reached"] == {"wmh": pytest.approx(1.0, abs=0.05)}
    assert case.measurements["wanted"]["wmh"] == 0
    assert idle == []


def test_age_and_lesions_change_in_one_request(painted, quick, tiny_bundles, pictures, lesion_scan):
    years = {"known": {"age": 30}, "guidance": 6, "steps": STEPS}
    both, older = painted(wanted={"age": 85, "wmh": 0}, **years), painted(wanted={"age": 85}, **years)
    aged = older.maps["difference"]
    assert np.abs(aged).max() > 20
    # The lesion's 700 become white matter, and ventricles move, and with them the lesion, a little.
    core = ndimage.binary_erosion(lesion_scan, iterations=2)
    assert (both.maps["difference"] - aged)[core].mean() == pytest.approx(0.3 * 800 - 700, abs=40)
    far = ~ndimage.binary_dilation(lesion_scan, iterations=9)
    assert np.allclose(both.maps["difference"][far], aged[far], atol=25)
    assert both.measurements["reached"].keys() == {"model", "age", "wmh"}
    assert both.measurements["reached"]["wmh"] == pytest.approx(1, abs=0.05)
    value = anatomy.lesions()["wmh"].value
    assert not (both.labels == value).any()
    # It stays where nobody asks for it, whatever the segmenter finds.
    assert (older.labels == value).sum() == pytest.approx(lesion_scan.sum(), rel=0.1)
    assert "white matter hyperintensity" in older.measurements["volumes_before_ml"]


def test_lesions_that_cannot_be_drawn_are_refused(lesion_scan, quick, idle, tiny_bundles, tmp_path):
    with pytest.raises(BadInput, match="cannot render lesions in T2w; leave them to the diffusion or out"):
        Engine().run(Counterfactual(scan="scan.nii", wanted={"wmh": 0.1}, contrast="T2w"), tmp_path)
    with pytest.raises(BadInput, match="measured on labels where lesions are rendered"):
        ask(tmp_path, known={"wmh": 0.1}, wanted={"age": 85})
    for lesions in ("labels", "diffusion"):
        assert (
            stages(Counterfactual(scan="scan.nii", wanted={"age": 85}, lesions=lesions))[-1] == "segmentation of it"
        )


def test_only_lesions_and_ventricles_change_by_labels(lesion_scan, quick, tiny_bundles, tmp_path):
    request = Counterfactual(scan="scan.nii", wanted={"age": 60.0}, bundle="brainspade3d")
    with pytest.raises(BadInput, match="does not know the change 'age'"):
        Engine().run(request, tmp_path)


def test_a_lesion_that_can_still_be_seen_is_not_reported_as_gone():
    before = np.full((40, 40, 40), anatomy.classes_of(name="cerebral white matter")[0])
    lesion = np.zeros(before.shape, bool)
    lesion[16:24, 16:24, 16:24] = True
    labels = np.where(lesion, anatomy.lesions()["wmh"].index, before)
    noise = np.random.default_rng(0).normal(0.4, 0.02, before.shape)
    image = noise + 0.5 * lesion
    for share in (1.0, 0.5, 0.0):
        seen = counterfactuals.still_seen(image, noise + 0.5 * share * lesion, labels, before, ["wmh"])
        assert seen == {"wmh": pytest.approx(share, abs=0.05)}
    assert counterfactuals.still_seen(noise, noise, labels, before, ["wmh"]) == {}


def test_lesions_are_reported_in_the_scans_own_millilitres():
    classes = np.zeros(spaces.GRID_1MM.shape, np.uint8)
    classes[60:70, 60:70, 60:70] = anatomy.lesions()["wmh"].index
    found = segmentation.Segmentation(classes, np.diag([0.8, 0.8, 0.8, 1]))
    request = Counterfactual(scan="scan.nii", wanted={"wmh": 0}, segmentation="labels.nii", lesions="diffusion")
    measurements = {}
    counterfactual._report_lesions(measurements, request, None, found, classes)
    assert measurements["lesions_found_ml"]["wmh"] == measurements["lesions_given_ml"]["wmh"] == 0.512
