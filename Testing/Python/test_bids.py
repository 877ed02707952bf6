import errno
import json
import multiprocessing
import re
import subprocess
import sys
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from BrainGenLib.case import Case, Frame
from BrainGenLib.errors import BadInput
from BrainGenLib.export import bids
from BrainGenLib.export.dataset import SOURCES
from BrainGenLib.export.write import write
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
        assert json.loads(path.read_text(encoding="utf-8"))["SYNTHETIC"] is True
    description = json.loads((tmp_path / "dataset_description.json").read_text(encoding="utf-8"))
    assert "SYNTHETIC" in description["Name"]
    assert description["DatasetType"] == "derivative"
    header = nib.load(anat / "sub-0001_T1w.nii.gz").header
    assert header.get_xyzt_units()[0] == "mm"
    assert header["qform_code"] > 0
    assert "77\twhite matter hyperintensity" in (tmp_path / "dseg.tsv").read_text(encoding="utf-8")


def test_more_cases_become_more_subjects(tmp_path, case):
    for _ in range(3):
        bids.check_target(tmp_path)
        bids.write_case(tmp_path, case)
    lines = (tmp_path / "participants.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines] == ["participant_id", "sub-0001", "sub-0002", "sub-0003"]
    row = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    assert (row["seed"], row["wmh_load"], row["wmh_ml"], row["ms_load"]) == ("5", "0.05", "0.001", "n/a")
    described = json.loads((tmp_path / "participants.json").read_text(encoding="utf-8"))
    assert list(row) == list(described)


def test_a_full_disk_leaves_no_half_written_subject(tmp_path, case, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bids.nib, "save", full)
    with pytest.raises(BadInput, match="The disk is full"):
        bids.write_case(tmp_path, case)
    case.template = case
    with pytest.raises(BadInput, match="The disk is full"):
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
    assert json.loads((tmp_path / "scan_dseg.json").read_text(encoding="utf-8"))["SYNTHETIC"] is False
    assert "white matter hyperintensity\t0.001" in (tmp_path / "scan_volumes.tsv").read_text(encoding="utf-8")
    mask = nib.load(tmp_path / "scan_desc-brain_mask.nii.gz").get_fdata()
    assert np.array_equal(mask > 0, case.labels > 0)
    with pytest.raises(BadInput, match="exists already"):
        bids.write_segmentation(tmp_path, "scan", case)


def test_cases_of_a_scene_are_written_by_a_process_and_say_what_was_edited(tmp_path, case):
    case.provenance["arrays"] = hashes(case)
    case.labels[2, 2, 2] = 77
    case.measurements = {}
    (tmp_path / "cases").mkdir()
    case.save(tmp_path / "cases" / "a")
    Case({}, case.labels, case.affine, provenance=case.provenance, synthetic=False).save(tmp_path / "cases" / "scan")
    command = [sys.executable, "-m", "BrainGenLib.export.write", str(tmp_path / "out"), str(tmp_path / "cases")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told == [str(tmp_path / "out" / name) for name in ("sub-0001", "scan")]
    loaded = bids.read_case(tmp_path / "out" / "sub-0001")
    assert loaded.provenance["edited"] == ["labels"]
    assert loaded.measurements["volumes_ml"]["white matter hyperintensity"] == pytest.approx(0.004)
    assert (tmp_path / "out" / "scan" / "scan_volumes.tsv").is_file()
    # A validator takes a pattern that ends in a slash for the files, not for the folder.
    assert "scan" in (tmp_path / "out" / ".bidsignore").read_text(encoding="utf-8").splitlines()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "exists already" in again.stdout


def test_another_folder_holds_no_case(tmp_path):
    with pytest.raises(BadInput, match="holds no case"):
        bids.read_case(tmp_path)


def add(folder, out, together):
    case = Case.load(folder)
    together.wait()
    bids.write_case(out, case)


def test_processes_that_begin_together_lose_no_case(tmp_path, case):
    case.save(tmp_path / "case")
    # Where processes can be forked they really begin together.
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    arguments = tmp_path / "case", tmp_path / "out", context.Barrier(8)
    processes = [context.Process(target=add, args=arguments) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    names = [f"sub-{number:04d}" for number in range(1, 9)]
    assert sorted(path.name for path in (tmp_path / "out").glob("sub-*")) == names
    first, *rows = (tmp_path / "out" / "participants.tsv").read_text(encoding="utf-8").splitlines()
    assert first.startswith("participant_id\t")
    assert sorted(row.split("\t")[0] for row in rows) == names


def test_what_a_killed_writer_left_is_removed(tmp_path, case):
    program = """
import os, sys
from pathlib import Path
from BrainGenLib.case import Case
from BrainGenLib.export import bids
bids._save = lambda *_, **__: os._exit(9)
bids.write_case(Path(sys.argv[2]), Case.load(Path(sys.argv[1])))
"""
    case.save(tmp_path / "case")
    out = tmp_path / "out"
    assert (
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "case"), str(out)], check=False).returncode == 9
    )
    assert list(out.glob(".braingen-*/sub-0001"))
    assert bids.write_case(out, case).name == "sub-0001"
    assert not [path for path in out.glob(".braingen-*") if path.is_dir()]


def test_a_subject_without_a_row_is_not_kept(tmp_path, case, monkeypatch):
    bids.write_case(tmp_path, case)
    before = (tmp_path / "participants.tsv").read_text(encoding="utf-8")
    write = bids._write_text

    def stopped(path, text):
        if path.name == "participants.tsv":
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(bids, "_write_text", stopped)
    with pytest.raises(KeyboardInterrupt):
        bids.write_case(tmp_path, case)
    assert [path.name for path in tmp_path.glob("*sub-*")] == ["sub-0001"]
    assert (tmp_path / "participants.tsv").read_text(encoding="utf-8") == before


def test_a_table_of_another_version_or_of_the_user_keeps_its_columns(tmp_path, case):
    bids.write_case(tmp_path, case)
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tsite\nsub-0001\tA\n")
    bids.write_case(tmp_path, case)
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    assert rows[0][:3] == ["participant_id", "site", "synthetic"]
    assert [row[:3] for row in rows[1:]] == [["sub-0001", "A", "n/a"], ["sub-0002", "n/a", "1"]]
    table.write_text("sub-0001\tA\n")
    with pytest.raises(BadInput, match="does not name its columns"):
        bids.check_target(tmp_path)
    table.write_bytes("participant_id\tné\n".encode("utf-16"))
    with pytest.raises(BadInput, match="not a UTF-8 table"):
        bids.check_target(tmp_path)


def texts(folder):
    return {
        path.name: path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.suffix in (".json", ".tsv")
    }


def row(folder):
    names, values = (
        line.split("\t") for line in (folder / "participants.tsv").read_text(encoding="utf-8").splitlines()
    )
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("swept", [False, True])
def test_a_changed_scan_is_never_said_to_be_of_nobody(tmp_path, case, swept):
    case.maps = {"difference": case.images["T1w"]}
    request = {"verb": "counterfactual", "bundle": "toy", "seed": 5, "scan": "scan.nii.gz"}
    request |= {"known": {"age": 93.5, "sex": 1}, "wanted": {"age": 75, "sex": 0, "wmh": 0.2}}
    if swept:
        request = {"verb": "sweep", "of": request, "over": "age", "values": [75, 80]}
        frames = [Frame(value, case) for value in (75.0, 80.0)]
        whole = Case({}, None, case.affine, {"over": "age", "unit": "years"}, frames=frames)
    case.provenance = {"request": request}
    if swept:
        whole.provenance = case.provenance
    subject = bids.write_case(tmp_path, whole if swept else case)
    found = texts(subject)
    assert len(found) >= 5
    for name, text in found.items():
        assert not re.search(r"no person|nobody|no one", text), name
        assert name.endswith(".tsv") or "A changed scan of a real person" in text, name
    described = (tmp_path / "dataset_description.json").read_text(encoding="utf-8")
    assert "not all of it without a real person" in described
    told = row(tmp_path)
    assert (told["source"], told["known"]) == ("scan", "age=89+ sex=1")
    assert (told["age"], told["wanted"]) == (("n/a", "sex=0 wmh=0.2") if swept else ("75", "age=75 sex=0 wmh=0.2"))
    assert (told["sex"], told["wmh_load"]) == ("F", "0.2")


@pytest.mark.parametrize(
    ("request_", "source"),
    [
        ({"verb": "render", "segmentation": "a.nii"}, "segmentation"),
        ({"verb": "generate", "style": "a.nii"}, "style"),
        ({"verb": "sweep", "of": {"verb": "generate", "style": "a.nii"}}, "style"),
        ({"verb": "generate", "style": None}, "model"),
        # As a later version may ask.
        ({"verb": "harmonise", "scan": "a.nii"}, "scan"),
        ({"verb": "mix", "first": "a.nii"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_dataset_says_where_each_case_comes_from(tmp_path, case, request_, source):
    case.provenance = {"request": request_} if request_ else {}
    subject = bids.write_case(tmp_path, case)
    assert row(tmp_path)["source"] == source
    for text in (path.read_text(encoding="utf-8") for path in subject.rglob("*.json")):
        assert SOURCES[source] in text
        assert ("no person was scanned" in text) == (source == "model")
    described = (tmp_path / "dataset_description.json").read_text(encoding="utf-8")
    assert ("not all of it" in described) == (source != "model")
    ignored = (tmp_path / ".bidsignore").read_text(encoding="utf-8").splitlines()
    assert {"*_map.*", "figures", "*.mrb"} == set(ignored)
    described = json.loads((tmp_path / "participants.json").read_text(encoding="utf-8"))
    assert {"age", *row(tmp_path)} == set(described)
    assert SOURCES["scan"] in (tmp_path / "README").read_text(encoding="utf-8")


def test_places_that_were_asked_for_stand_in_the_table(tmp_path, case):
    case.provenance["request"]["locations"] = {"wmh": {"side": "left", "lobe": None}}
    bids.write_case(tmp_path, case)
    told = row(tmp_path)
    assert (told["wmh_side"], told["wmh_lobe"], told["ms_side"]) == ("left", "n/a", "n/a")


@pytest.mark.parametrize("linked", [False, True])
def test_a_table_of_labels_that_is_there_is_never_overwritten(tmp_path, case, linked):
    case.synthetic = False
    out, other = tmp_path / "out", tmp_path / "other.tsv"
    out.mkdir()
    (other if linked else out / "dseg.tsv").write_text("index\tname\n1\tmine\n")
    if linked:
        (out / "dseg.tsv").symlink_to(other)
    with pytest.raises(BadInput, match=r"dseg\.tsv exists already and is another table"):
        bids.write_segmentation(out, "scan", case)
    assert (out / "dseg.tsv").read_text(encoding="utf-8") == "index\tname\n1\tmine\n"
    assert [path.name for path in out.iterdir()] == ["dseg.tsv"]


def test_links_that_lead_nowhere_are_taken_too(tmp_path, case):
    case.synthetic = False
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scan_volumes.tsv").symlink_to(tmp_path / "nothing.tsv")
    with pytest.raises(BadInput, match="exists already"):
        bids.write_segmentation(tmp_path / "out", "scan", case)
    assert not (tmp_path / "nothing.tsv").exists()


def test_a_file_that_appears_meanwhile_is_kept_and_the_others_go(tmp_path, case, monkeypatch):
    case.synthetic = False
    monkeypatch.setattr(bids, "check_segmentation_target", lambda *_: None)
    (tmp_path / "scan_volumes.tsv").write_text("mine")
    with pytest.raises(BadInput, match=r"scan_volumes\.tsv exists already"):
        bids.write_segmentation(tmp_path, "scan", case)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [
        ("scan_volumes.tsv", "mine")
    ]


def test_the_axes_of_a_scan_come_back(tmp_path, case):
    case.affine = np.array([[-1.0, 0, 0, 5], [0, 1, 0, -3], [0, 0, 2, 1], [0, 0, 0, 1]])
    (tmp_path / "cases").mkdir()
    case.save(tmp_path / "cases" / "one")
    (subject,) = write(tmp_path / "out", [tmp_path / "cases" / "one"])
    for path in subject.rglob("*.nii.gz"):
        image = nib.load(path)
        assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
        assert np.array_equal(image.affine, case.affine)
    assert np.array_equal(nib.load(subject / "anat" / "sub-0001_dseg.nii.gz").get_fdata(), case.labels)


def test_a_table_keeps_its_cells_whatever_quotes_they_hold(tmp_path, case):
    bids.write_case(tmp_path, case)
    table = tmp_path / "participants.tsv"
    lines = ["participant_id\tnote", 'sub-0001\t"alone', 'sub-0002\t5" or "six"', 'sub-0003\t""']
    table.write_text("\n".join([*lines, ""]))
    bids.write_case(tmp_path, case)
    rows = [line.split("\t")[:2] for line in table.read_text(encoding="utf-8").splitlines()]
    assert rows == [*(line.split("\t") for line in lines), ["sub-0002", "n/a"]]


@pytest.mark.parametrize("name", ["participants.json", "dataset_description.json"])
def test_a_description_that_no_reader_can_end_is_named(tmp_path, case, name):
    bids.write_case(tmp_path, case)
    (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(BadInput, match=f"{name} cannot be understood"):
        bids.write_case(tmp_path, case)
    assert not list(tmp_path.glob("sub-0002"))
