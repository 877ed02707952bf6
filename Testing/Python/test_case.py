import json

import nibabel as nib
import numpy as np
import pytest

from BrainGenLib.bundles import file_sha256
from BrainGenLib.case import Case, Frame
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
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), field: value}))
    with pytest.raises(BadInput, match=rf"case\.json is not of a case of BrainGen: {field}"):
        Case.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", "[" * 100_000])
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


REQUEST = {"verb": "counterfactual", "known": {"age": 60.0}, "locations": {"wmh": {"side": "left", "lobe": None}}}


@pytest.mark.parametrize(
    ("folder", "path", "value"),
    [
        (".", "provenance request", 7),
        (".", "provenance request of", None),
        (".", "provenance request of known", []),
        (".", "provenance request of known age", [1]),
        (".", "provenance request of locations wmh", "left"),
        (".", "provenance bundles b", {}),
        (".", "provenance arrays", "x"),
        (".", "measurements over", ...),
        (".", "measurements over", {}),
        (".", "measurements unit", ...),
        (".", "measurements front", 2),
        (".", "measurements front", [3]),
        (".", "measurements best", ...),
        (".", "measurements best", 0),
        ("frame-01", "measurements volumes_ml", 5),
        ("frame-01", "measurements volumes_before_ml", {}),
        ("frame-01", "measurements reached age", "much"),
        ("frame-01", "measurements similarity", {}),
        ("frame-02", "measurements similarity", ...),
        ("frame-02", "provenance request", "x"),
    ],
)
def test_what_a_case_says_of_itself_has_the_types_that_its_readers_expect(tmp_path, folder, path, value):
    measured = {"volumes_ml": {"WMH": 1.0}, "volumes_before_ml": {"WMH": 2.0}, "reached": {"age": 0.5}}
    measured["similarity"] = {"ssim": 0.9}
    one = Case({"T1w": np.zeros((2, 2, 2), np.float32)}, None, np.eye(4), measured, {"request": REQUEST})
    swept = {"over": "age", "unit": "year", "front": [1, 2], "best": 1}
    provenance = {"request": {"verb": "sweep", "of": REQUEST}, "bundles": {"b": {"sha256": ""}}, "arrays": {}}
    Case({}, None, np.eye(4), swept, provenance, frames=[Frame(1.0, one), Frame(2.0, one)]).save(tmp_path)
    assert len(Case.load(tmp_path).frames) == 2
    record = tmp_path / folder / "case.json"
    data = place = json.loads(record.read_text(encoding="utf-8"))
    *keys, last = path.split()
    for key in keys:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    record.write_text(json.dumps(data))
    with pytest.raises(BadInput, match="case of BrainGen"):
        Case.load(tmp_path)


def test_extensions_in_the_volumes_of_a_case_are_passed_over(tmp_path, monkeypatch):
    Case({"T1w": np.ones((2, 2, 2), np.float32)}, None, np.eye(4)).save(tmp_path)
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"hello"))
    nib.save(image, tmp_path / "T1w.nii")
    monkeypatch.setattr(nib.nifti1.Nifti1Extensions, "from_fileobj", lambda *_: pytest.fail("it was parsed"))
    assert np.array_equal(Case.load(tmp_path).images["T1w"], np.ones((2, 2, 2)))


def test_a_case_makes_no_folder_beside_its_own(tmp_path):
    with pytest.raises(FileNotFoundError):
        Case({}, np.zeros((2, 2, 2), np.uint16), np.eye(4)).save(tmp_path / "removed" / "case")
    assert not list(tmp_path.iterdir())
