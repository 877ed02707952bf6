import numpy as np
import pytest

from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput


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
