import errno
import json
import subprocess
import sys
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.export import bids
from BrainGenLib.provenance import hashes


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    labels = np.zeros((8, 9, 10), np.uint16)
    labels[2:6, 2:6, 2:6], labels[3, 3, 3] = 2, 77
    images = {name: rng.random(labels.shape, np.float32) for name in ("T1w", "T1ce", "FLAIR")}
    request = {
        "verb": "generate",
        "bundle": "toy",
        "seed": 5,
        "contrasts": list(images),
        "pathologies": {"wmh": 0.05},
    }
    measurements = {"volumes_ml": {"white matter hyperintensity": 0.001}}
    return Case(images, labels, np.diag([1.0, 1, 2, 1]), measurements, {"request": request, "arrays": {}})


def test_a_case_survives_the_dataset(tmp_path, case):
    subject = bids.write_case(tmp_path / "out", case)
    loaded = bids.read_case(subject)
    assert subject.name == "sub-0001"
    assert list(loaded.images) == list(case.images)
    for name, image in case.images.items():
        assert np.abs(loaded.images[name] - image).max() < 2e-5
    assert np.array_equal(loaded.labels, case.labels)
    assert np.array_equal(loaded.affine, case.affine)
    assert (loaded.provenance, loaded.measurements) == (case.provenance, case.measurements)


@pytest.mark.parametrize("sweep", [False, True])
@pytest.mark.parametrize("top", [2000.0, 1.0, 1e-4, 1e-7])
def test_a_scan_that_was_changed_keeps_its_values_voxel_by_voxel(tmp_path, case, top, sweep):
    request = {"verb": "counterfactual", "bundle": "toy", "seed": 5}
    case.provenance["request"] = {"verb": "sweep", "of": request} if sweep else request
    case.images = {"T1w": case.images["T1w"] * np.float32(top)}
    subject = tmp_path / "sub-0001"
    subject.mkdir()
    bids._write_images(subject, "sub-0001", case)
    assert np.array_equal(bids.read_case(subject).images["T1w"], case.images["T1w"])


def test_files_have_bids_names_sidecars_and_the_word_synthetic(tmp_path, case):
    anat = bids.write_case(tmp_path, case) / "anat"
    stems = ["T1w", "FLAIR", "ce-gadolinium_T1w", "dseg"]
    expected = {f"sub-0001_{stem}{ending}" for stem in stems for ending in (".nii.gz", ".json")}
    assert {path.name for path in anat.iterdir()} == expected
    for path in anat.glob("*.json"):
        assert json.loads(path.read_text())["SYNTHETIC"] is True
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert "SYNTHETIC" in description["Name"]
    assert description["DatasetType"] == "derivative"
    header = nib.load(anat / "sub-0001_T1w.nii.gz").header
    assert header.get_xyzt_units()[0] == "mm"
    assert header["qform_code"] > 0
    assert "77\twhite matter hyperintensity" in (tmp_path / "dseg.tsv").read_text()


def test_more_cases_become_more_subjects(tmp_path, case):
    for _ in range(3):
        bids.check_target(tmp_path)
        bids.write_case(tmp_path, case)
    lines = (tmp_path / "participants.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["participant_id", "sub-0001", "sub-0002", "sub-0003"]
    row = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    assert (row["seed"], row["wmh_load"], row["wmh_ml"], row["ms_load"]) == ("5", "0.05", "0.001", "n/a")
    described = json.loads((tmp_path / "participants.json").read_text())
    assert list(row) == list(described)


def test_a_full_disk_leaves_no_half_written_subject(tmp_path, case, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bids.nib, "save", full)
    with pytest.raises(BadInput, match="No space left on device"):
        bids.write_case(tmp_path, case)
    case.template = case
    with pytest.raises(BadInput, match="No space left on device"):
        bids.write_segmentation(tmp_path / "segmented", "scan", case)
    assert not list(tmp_path.glob("*sub-*"))
    assert not (tmp_path / "participants.tsv").exists()
    assert not list((tmp_path / "segmented").iterdir())


def test_a_target_that_cannot_be_used_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(BadInput, match="is a file"):
        bids.check_target(tmp_path / "file")
    with pytest.raises(BadInput, match="holds other files"):
        bids.check_target(tmp_path / "photos")
    with monkeypatch.context() as patch:
        patch.setattr(bids.shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
        with pytest.raises(BadInput, match=r"has only 5 MB free, and about 120 MB are needed"):
            bids.check_target(tmp_path / "new", cases=3)

    def forbidden(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(bids.tempfile, "TemporaryFile", forbidden)
    with pytest.raises(BadInput, match=r"Cannot write to .*: Permission denied"):
        bids.check_target(tmp_path / "new")


def test_the_labels_of_a_scan_become_files_that_are_not_overwritten(tmp_path, case):
    case.synthetic = False
    case.template = Case({}, np.full((4, 4, 4), 3, np.uint16), np.eye(4), synthetic=False)
    files = bids.write_segmentation(tmp_path, "scan", case)
    in_template = "scan_space-MNI152NLin2009aSym_dseg.nii.gz"
    names = {"scan_dseg.nii.gz", "scan_dseg.json", "scan_desc-brain_mask.nii.gz", "scan_volumes.tsv", in_template}
    assert (nib.load(tmp_path / in_template).get_fdata() == 3).all()
    assert {path.name for path in files} == names
    assert {path.name for path in tmp_path.iterdir()} == names | {"dseg.tsv"}
    assert json.loads((tmp_path / "scan_dseg.json").read_text())["SYNTHETIC"] is False
    assert "white matter hyperintensity\t0.001" in (tmp_path / "scan_volumes.tsv").read_text()
    mask = nib.load(tmp_path / "scan_desc-brain_mask.nii.gz").get_fdata()
    assert np.array_equal(mask > 0, case.labels > 0)
    with pytest.raises(BadInput, match="exists already"):
        bids.write_segmentation(tmp_path, "scan", case)


def test_cases_of_a_scene_are_written_by_a_process_and_say_what_was_edited(tmp_path, case):
    case.provenance["arrays"] = hashes(case)
    case.labels[2, 2, 2] = 77
    case.measurements = {}
    case.save(tmp_path / "cases" / "a")
    Case({}, case.labels, case.affine, provenance=case.provenance, synthetic=False).save(tmp_path / "cases" / "scan")
    command = [sys.executable, "-m", "BrainGenLib.export.write", str(tmp_path / "out"), str(tmp_path / "cases")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told == [str(tmp_path / "out" / name) for name in ("sub-0001", "scan")]
    loaded = bids.read_case(tmp_path / "out" / "sub-0001")
    assert loaded.provenance["edited"] == ["labels"]
    assert loaded.measurements["volumes_ml"]["white matter hyperintensity"] == pytest.approx(0.004)
    assert (tmp_path / "out" / "scan" / "scan_volumes.tsv").is_file()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "exists already" in again.stdout


def test_another_folder_holds_no_case(tmp_path):
    with pytest.raises(BadInput, match="holds no case"):
        bids.read_case(tmp_path)
