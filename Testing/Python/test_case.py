import json

import numpy as np
import pytest

from BrainGenLib.bundles import file_sha256
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.provenance import fingerprint, is_of


def test_a_case_survives_its_folder(tmp_path):
    rng = np.random.default_rng(0)
    affine = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -4], [0, 0, 1, 7], [0, 0, 0, 1]])
    case = Case(
        {"T1w": rng.random((4, 5, 6), np.float32)},
        rng.integers(0, 906, (4, 5, 6)).astype(np.uint16),
        affine,
        {"volumes_ml": {"left thalamus": 7.5}},
        {"request": {"seed": 3}},
    )
    case.save(tmp_path / "case")
    loaded = Case.load(tmp_path / "case")
    assert np.array_equal(loaded.images["T1w"], case.images["T1w"])
    assert np.array_equal(loaded.labels, case.labels)
    assert np.array_equal(loaded.affine, affine)
    assert (loaded.measurements, loaded.provenance, loaded.synthetic) == (case.measurements, case.provenance, True)


def test_a_case_may_have_labels_only(tmp_path):
    case = Case({}, np.zeros((2, 2, 2), np.uint16), np.eye(4), synthetic=False)
    case.template = Case({}, np.ones((3, 3, 3), np.uint16), 2 * np.eye(4), synthetic=False)
    case.save(tmp_path)
    loaded = Case.load(tmp_path)
    assert loaded.template is not None
    assert np.array_equal(loaded.template.labels, case.template.labels)
    assert loaded.images == {}
    assert not loaded.synthetic


def test_another_folder_is_no_case(tmp_path):
    with pytest.raises(BadInput, match=r"case\.json"):
        Case.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("contrasts", ["/tmp/x"]),
        ("contrasts", ["../x"]),
        ("contrasts", ["T1w\n"]),
        ("contrasts", ["labels"]),
        ("contrasts", ["map-x"]),
        ("contrasts", [7]),
        ("contrasts", "T1w"),
        ("maps", ["a/b"]),
        ("maps", ["C:x"]),
        ("affine", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ("affine", [[float("nan")] * 4] * 4),
        ("values", list(range(33))),
        ("measurements", None),
        ("provenance", []),
    ],
)
def test_a_case_from_elsewhere_names_no_files_of_its_own(tmp_path, field, value):
    Case({}, np.zeros((2, 2, 2), np.uint16), np.eye(4)).save(tmp_path)
    path = tmp_path / "case.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(BadInput, match=rf"case\.json is not of a case of BrainGen: {field}"):
        Case.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}"])
def test_a_damaged_case_is_refused_with_a_sentence(tmp_path, content):
    (tmp_path / "case.json").write_text(content)
    with pytest.raises(BadInput, match=r"case\.json is not of a case"):
        Case.load(tmp_path)


def test_volumes_that_are_damaged_or_on_other_grids_are_refused(tmp_path):
    Case({"T1w": np.zeros((2, 2, 2), np.float32)}, np.zeros((2, 2, 2), np.uint16), np.eye(4)).save(tmp_path)
    volume, whole = tmp_path / "T1w.nii", (tmp_path / "T1w.nii").read_bytes()
    for content in (b"", b"no image", whole[:360]):
        volume.write_bytes(content)
        with pytest.raises(BadInput, match=r"T1w\.nii is missing or damaged"):
            Case.load(tmp_path)
    Case({"T1w": np.zeros((2, 2, 3), np.float32)}, None, np.eye(4)).save(tmp_path / "other")
    volume.write_bytes((tmp_path / "other" / "T1w.nii").read_bytes())
    with pytest.raises(BadInput, match="not on one grid"):
        Case.load(tmp_path)


def test_an_input_is_known_again_but_two_cases_do_not_share_its_checksum(tmp_path):
    scan, other = tmp_path / "scan.nii", tmp_path / "other.nii"
    scan.write_bytes(b"scan")
    other.write_bytes(b"other")
    first, second = fingerprint(scan), fingerprint(scan)
    assert first != second
    assert file_sha256(scan) not in first
    for told in (first, second, file_sha256(scan)):
        assert is_of(scan, told)
        assert not is_of(other, told)
