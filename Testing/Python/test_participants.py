"""What a BIDS tree says of the person on a scan."""

import pytest

from BrainGenLib import participants
from BrainGenLib.cli.changing import _person
from BrainGenLib.errors import BadInput


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "sub-01" / "ses-2" / "anat").mkdir(parents=True)
    lines = ["participant_id\tage\tsex", "sub-01\t61.5\tM", "sub-02\tn/a\tfemale", "sub-03\t89+\tO", "sub-04\told\tF"]
    (tmp_path / "participants.tsv").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("sub-01", {"age": 61.5, "sex": 1.0}),
        ("sub-02", {"sex": 0.0}),
        ("sub-03", {"age": 89.0}),
        ("sub-04", {"sex": 0.0}),
        ("sub-05", {}),
        ("scan", {}),
    ],
)
def test_age_and_sex_are_read_as_far_as_they_are_told(tree, subject, expected):
    scan = tree / "sub-01" / "ses-2" / "anat" / f"{subject}_T1w.nii.gz"
    assert participants.conditions_of(scan) == expected


def test_without_a_table_nothing_is_known(tmp_path):
    assert participants.conditions_of(tmp_path / "sub-01_T1w.nii.gz") == {}


def test_a_model_is_told_what_it_understands(tree, tiny_bundles):
    scan = tree / "sub-03_T1w.nii.gz"
    assert _person(scan, "brain-ldm") == {"age": 89.0}
    (tree / "participants.tsv").write_text("participant_id\tage\nsub-03\t99")
    assert _person(scan, "brain-ldm") == {"age": 90.0}
    assert _person(scan, "brainspade3d") == {}


def test_a_broken_table_is_named(tree, tiny_bundles):
    (tree / "participants.tsv").write_text("name,age\nsub-03,99")
    with pytest.raises(BadInput, match="has no column participant_id"):
        _person(tree / "sub-03_T1w.nii.gz", "brain-ldm")
