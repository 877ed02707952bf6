"""A request in, a case out: on which grid, how reproducible, and what happens when it cannot be done."""

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from BrainGenLib import anatomy, spaces
from BrainGenLib.engine import Engine, stages
from BrainGenLib.errors import BadInput, OutOfMemory
from BrainGenLib.methods import brainspade, segmentation
from BrainGenLib.provenance import differences, hashes
from BrainGenLib.requests import Generate, Render, Segment


class Recorder:
    def __init__(self):
        self.stages = []
        self.previews = {}

    def step(self, stage, step, of, message=""):
        if stage not in self.stages:
            self.stages.append(stage)

    def preview(self, case, name):
        self.previews[name] = case.labels.shape


@pytest.fixture(scope="module")
def engine():
    torch.set_num_threads(1)
    return Engine()


def write(path, array, affine):
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return path.name


@pytest.fixture
def oblique():
    """A voxel-to-world matrix with axes (P, S, R), thick slices and a tilt."""
    tilt = np.deg2rad(12)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, 3.0], [-1.5, 0, 0], [0, 1.5, 0]])
    affine[:3, 3] = (-60, 80, -50)
    return affine


def test_a_draft_is_coarse_labels_with_the_asked_lesion(engine, tiny_bundles):
    request = Generate(pathologies={"wmh": 0.2}, seed=7, steps=2, draft=True)
    recorder = Recorder()
    case = engine.run(request, report=recorder)
    assert recorder.stages == stages(request)
    assert recorder.previews == {}
    assert (case.images, case.labels.shape) == ({}, spaces.GRID_2MM.shape)
    assert case.measurements["obtained"]["wmh"] == pytest.approx(0.2, rel=0.2)


def test_generate_gives_the_same_case_from_the_same_seed(engine, tiny_bundles):
    request = Generate(pathologies={"wmh": 0.2}, contrasts=["T1w", "FLAIR"], seed=7, steps=2)
    recorder = Recorder()
    first = engine.run(request, report=recorder)
    second = engine.run(request.model_copy(update={"contrasts": ["FLAIR"]}))

    assert recorder.stages == stages(request)
    assert recorder.previews == {name: spaces.GRID_1MM.shape for name in ("T1w", "FLAIR")} | {
        "anatomy": spaces.GRID_2MM.shape,
        "labels": spaces.GRID_2MM.shape,
    }
    assert np.array_equal(first.affine, spaces.GRID_1MM.affine)
    assert set(np.unique(first.labels)) <= {label.value for label in anatomy.labels()}
    for image in first.images.values():
        assert image.dtype == np.float32
        assert image.shape == first.labels.shape
        assert image.min() >= 0
        assert image.max() <= 1
        assert not image[first.labels == 0].any()
    assert first.measurements["requested"]["wmh"] == 0.2
    # A load of 1 is 50 mL in the tiny bundle.
    assert first.measurements["obtained"]["wmh"] == pytest.approx(
        first.measurements["volumes_ml"]["white matter hyperintensity"] / 50
    )
    assert first.measurements["volumes_ml"]["left cerebral cortex"] > 50

    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.images["FLAIR"], second.images["FLAIR"])
    assert not np.array_equal(first.images["FLAIR"], first.images["T1w"])

    record = first.provenance
    assert record["arrays"] == hashes(first)
    assert record["request"]["seed"] == 7
    assert record["bundles"]["brainspade3d"]["sha256"]
    assert record["software"]["torch"] == torch.__version__
    assert differences(record, record) == []
    changed = {**record, "threads": 9, "arrays": {**record["arrays"], "T1w": "other"}}
    assert differences(record, changed) == ["T1w differs", "threads: then 1, now 9"]


def test_lesions_without_a_brain_around_them_cannot_be_rendered(engine, tiny_bundles, tmp_path):
    values = np.zeros((20, 20, 20), np.uint8)
    values[5:9, 5:9, 5:9] = anatomy.lesions()["wmh"].value
    name = write(tmp_path / "lesions.nii", values, np.eye(4))
    with pytest.raises(BadInput, match=r"lesions\.nii cannot be rendered: it labels lesions but no brain"):
        engine.run(Render(segmentation=name), tmp_path)


def test_an_erased_lesion_is_rendered_as_what_surrounds_it(engine, tiny_bundles, tmp_path):
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[4:36, 4:36, 4:36] = 2
    labels[4:8, 4:36, 4:36] = 41
    whole = write(tmp_path / "whole.nii", labels, np.eye(4))
    labels[16:20, 16:20, 16:20] = 0
    erased = write(tmp_path / "erased.nii", labels, np.eye(4))
    cases = [engine.run(Render(segmentation=name, seed=1), tmp_path) for name in (whole, erased)]
    assert np.array_equal(cases[0].labels, cases[1].labels)
    assert np.array_equal(cases[0].images["T1w"], cases[1].images["T1w"])


def test_render_answers_in_the_grid_of_the_segmentation(engine, tiny_bundles, tmp_path, oblique):
    labels = np.zeros((50, 40, 24), np.uint16)
    labels[10:40, 8:32, 5:20], labels[20:30, 15:25, 8:16] = 3, 77
    name = write(tmp_path / "labels.nii", labels, oblique)
    case = engine.run(Render(segmentation=name, contrasts=["FLAIR"], seed=3), tmp_path)
    assert np.allclose(case.affine, oblique, atol=1e-5)
    assert np.array_equal(case.labels, labels)
    image = case.images["FLAIR"]
    assert image.shape == labels.shape
    assert image[20:30, 15:25, 8:16].mean() > 0
    # Further than a voxel from the brain nothing is drawn.
    assert not image[:8].any()
    assert case.measurements["volumes_ml"]["left cerebral cortex"] == pytest.approx(
        np.count_nonzero(labels == 3) * 6.75 / 1000
    )
    assert list(case.provenance["inputs"]) == ["labels.nii"]


def shifted_template(factor: float = 7.0) -> tuple[np.ndarray, np.ndarray]:
    """The template's brain in another position, another axis order and other units of intensity."""
    template, _ = spaces.template()
    scan, affine = np.swapaxes(template, 0, 2)[:, ::-1] * factor, spaces.GRID_2MM.affine.copy()
    affine = affine[:, [2, 1, 0, 3]]
    affine[:3, 3] += affine[:3, 1] * (scan.shape[1] - 1) + (10, -5, 20)
    affine[:3, 1] *= -1
    return scan, affine


def test_segment_answers_in_the_grid_of_the_scan(engine, tiny_bundles, tmp_path, monkeypatch):
    def bright(model, volume):
        assert volume.shape == spaces.GRID_1MM.shape
        return np.where(volume > 0.3 * volume.max(), 1, 0).astype(np.uint8)

    monkeypatch.setattr(segmentation, "segment_in_template", bright)
    scan, affine = shifted_template()
    case = engine.run(Segment(scan=write(tmp_path / "scan.nii", scan, affine)), tmp_path)
    assert np.allclose(case.affine, affine, atol=1e-5)
    assert spaces.dice(case.labels == 2, scan > 0.3 * scan.max()) > 0.97
    image, _ = spaces.template()
    assert case.template is not None
    assert np.allclose(case.template.affine, spaces.GRID_1MM.affine)
    assert spaces.dice(case.template.labels[::2, ::2, ::2] > 0, image > 0.3 * image.max()) > 0.9
    assert not case.synthetic
    assert case.images == {}


def test_the_segmenter_runs_on_a_whole_head(engine, tiny_bundles, tmp_path, monkeypatch):
    """What the network is given shows no scalp."""
    scalp = []
    inside = spaces.template()[1].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    far = ndimage.distance_transform_edt(~inside) > 8

    def brain(model, volume):
        scalp.append(np.count_nonzero(volume[far] > 1000))
        return np.where(inside & (volume > 0.3 * volume.max()), 1, 0).astype(np.uint8)

    monkeypatch.setattr(segmentation, "segment_in_template", brain)
    bare, affine = shifted_template()
    distance = 2 * ndimage.distance_transform_edt(bare == 0)
    noise = np.random.default_rng(0).uniform(5, 20, bare.shape)
    scan = np.where(bare > 0, bare, np.where((distance > 6) & (distance <= 12), 1500, noise)).astype(np.float32)
    case = engine.run(Segment(scan=write(tmp_path / "scan.nii", scan, affine)), tmp_path)
    assert scalp[0] < 0.25 * 8 * np.count_nonzero(scan == 1500)
    assert spaces.dice(case.labels > 0, bare > 0.3 * bare.max()) > 0.9


def test_a_scan_that_is_no_brain_is_not_segmented(engine, tiny_bundles, tmp_path):
    noise = np.random.default_rng(0).random((40, 50, 45), np.float32)
    with pytest.raises(BadInput, match=r"scan\.nii cannot be segmented"):
        engine.run(Segment(scan=write(tmp_path / "scan.nii", noise, np.diag([1.0, 1, 1, 1]))), tmp_path)


def test_a_style_is_taken_from_a_scan_in_any_grid(engine, tiny_bundles, tmp_path, monkeypatch):
    scan, affine = shifted_template()
    template, _ = spaces.template()
    seen = {}

    def encode(model, image):
        seen["image"] = image
        return np.zeros(16, np.float32)

    def render(model, classes, tissue, contrast, *, style, seed, report, where):
        seen["style"] = style
        return np.zeros(classes.shape, np.float32)

    monkeypatch.setattr(brainspade, "encode_style", encode)
    monkeypatch.setattr(brainspade, "render", render)
    segmentation_name = write(tmp_path / "labels.nii", np.tile(np.uint8([2, 41]), (10, 10, 5)), np.eye(4))
    request = Render(segmentation=segmentation_name, style=write(tmp_path / "style.nii", scan, affine))
    engine.run(request, tmp_path)
    assert np.array_equal(seen["style"], np.zeros(16))
    at_2mm = seen["image"].reshape(80, 2, 112, 2, 80, 2).mean((1, 3, 5))
    assert np.corrcoef(at_2mm.ravel(), template.ravel())[0, 1] > 0.97
    assert 0.99 < seen["image"].max() <= 1


def test_a_style_without_a_brain_is_refused(engine, tiny_bundles, tmp_path):
    noise = np.random.default_rng(0).random((80, 80, 80), np.float32)
    style = write(tmp_path / "style.nii", noise, np.diag([0.5, 0.5, 3, 1]))
    labels = write(tmp_path / "labels.nii", np.tile(np.uint8([2, 41]), (10, 10, 5)), np.eye(4))
    with pytest.raises(BadInput, match=r"style\.nii cannot be used as style"):
        engine.run(Render(segmentation=labels, style=style), tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 999 bytes."),
    ],
)
def test_out_of_memory_becomes_a_sentence(engine, tiny_bundles, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(brainspade, "render", fail)
    labels = write(tmp_path / "labels.nii", np.tile(np.uint8([2, 41]), (10, 10, 5)), np.eye(4))
    with pytest.raises(OutOfMemory, match="ran out of memory; close other programs"):
        engine.run(Render(segmentation=labels), tmp_path)


def test_an_unknown_device_is_refused_with_those_there_are(engine, tiny_bundles):
    with pytest.raises(BadInput, match=r"'cuda:99'.*there are: .*cpu"):
        engine.run(Generate(device="cuda:99"))


def test_a_request_is_checked_against_its_bundle(engine, tiny_bundles):
    with pytest.raises(BadInput, match="it knows: T1w, FLAIR, T1ce"):
        engine.run(Generate(contrasts=["CT"]))
