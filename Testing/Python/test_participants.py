"""What a BIDS tree says of the person on a scan."""

import json

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


def one(tmp_path, header, row, described=None, encoding="utf-8"):
    """The person of a table of one row."""
    (tmp_path / "participants.tsv").write_bytes(f"{header}\n{row}\n".encode(encoding))
    if described is not None:
        (tmp_path / "participants.json").write_text(json.dumps(described))
    return participants.person_on(tmp_path / "sub-01_T1w.nii.gz")


@pytest.mark.parametrize(
    ("subject", "age", "sex"),
    [
        ("sub-01", 61.5, "M"),
        ("sub-02", None, "F"),
        ("sub-03", 89.0, None),
        ("sub-04", None, "F"),
        ("sub-05", None, None),
        ("scan", None, None),
    ],
)
def test_age_and_sex_are_read_as_far_as_they_are_given(tree, subject, age, sex):
    person = participants.person_on(tree / "sub-01" / "ses-2" / "anat" / f"{subject}_T1w.nii.gz")
    assert (person.age, person.sex) == (age, sex)


def test_without_a_table_nothing_is_known(tmp_path):
    assert participants.person_on(tmp_path / "sub-01_T1w.nii.gz") == participants.Person()


def test_the_table_of_another_study_is_not_read(tree):
    study = tree / "nested"
    (study / "sub-01").mkdir(parents=True)
    (study / "dataset_description.json").write_text("{}")
    assert participants.person_on(study / "sub-01" / "sub-01_T1w.nii.gz") == participants.Person()
    derived = tree / "derivatives" / "pipeline"
    derived.mkdir(parents=True)
    (derived / "dataset_description.json").write_text("{}")
    assert participants.person_on(derived / "sub-01_T1w.nii.gz").age == 61.5


@pytest.mark.parametrize(
    ("header", "text", "described", "age"),
    [
        ("age", "61", None, 61),
        ("age", "61,5", None, 61.5),
        ("age", "061Y", None, 61),
        ("age", "018M", None, 1.5),
        ("age", "18 months", None, 1.5),
        ("age", "89+", None, 89),
        ("age", ">89", None, 89),
        ("age", "0.5", None, 0.5),
        ("Age", " 61 ", None, 61),
        ('"age"', '"61"', None, 61),
        ("age_months", "312", None, 26),
        ("Age (years)", "26", None, 26),
        ("age_at_scan", "26", None, 26),
        ("age", "312", {"age": {"Units": "months"}}, 26),
        ("age", "312", {"Age": {"units": "Months"}}, 26),
        ("age", "312", {"age": {"Description": "age in months at the scan"}}, 26),
        ("age", "1461", {"age": {"Units": "days"}}, 4),
        ("age", "312", {"age": {"Unit": "months"}}, 26),
        ("age", "312", {"age": {"Description": "Age of the child, months"}}, 26),
        ("age", "31", {"age": {"Description": "age of the participant on the day of the scan"}}, 31),
        ("age", "31", {"age": {"Description": "age two weeks after the stroke"}}, 31),
        ("Age at scan", "61", None, 61),
        ("age_at_first_scan_years", "61", None, 61),
        ("scan_age", "52", {"scan_age": {"Units": "weeks"}}, 1),
        ("age", "61 y/o", None, 61),
        ("age", "26", {"age": {"Units": "year"}}, 26),
        ("age", "26", {"age": {"Units": "year(s)"}}, 26),
        ("age", "312", {"age": {"Units": "[months]"}}, 26),
        ("age", "061Y", {"age": {"Units": "months"}}, 61),
        ("age", "61", {"age": {"Levels": {"999": "unknown"}}}, 61),
    ],
)
def test_ages_come_in_years(tmp_path, header, text, described, age):
    person = one(tmp_path, f"participant_id\t{header}", f"sub-01\t{text}", described)
    assert person.age == pytest.approx(age)
    assert not person.doubts


@pytest.mark.parametrize(
    ("text", "described", "reason"),
    [
        ("312", None, "implausible"),
        ("121", None, "implausible"),
        ("999", None, "code for a missing value"),
        ("999.0", None, "code for a missing value"),
        ("999", {"age": {"Units": "months"}}, "code for a missing value"),
        ("-1", None, "code for a missing value"),
        ("-999", None, "code for a missing value"),
        ("0", None, "missing value"),
        ("60-64", None, "is a range"),
        ("60 – 64 years", None, "is a range"),
        ("3", {"age": {"Levels": {"3": "60-64"}}}, "is a range"),
        ("<18", None, "not understood"),
        ("old", None, "not understood"),
        ("61", {"age": {"Units": "mm"}}, "not understood as a unit"),
    ],
)
def test_what_is_no_age_is_unknown_and_named(tmp_path, text, described, reason):
    person = one(tmp_path, "participant_id\tage", f"sub-01\t{text}", described)
    assert person.age is None
    (doubt,) = person.doubts
    assert doubt.value == text
    assert reason in doubt.reason


@pytest.mark.parametrize("text", ["", "n/a", "N/A", "NaN", "unknown", " "])
def test_missing_ages_are_just_missing(tmp_path, text):
    assert one(tmp_path, "participant_id\tsite\tage", f"sub-01\tA\t{text}").doubts == ()


@pytest.mark.parametrize(
    ("header", "text", "described", "sex"),
    [
        ("Gender", "Female", None, "F"),
        ("SEX", "m", None, "M"),
        ("sex", "1", {"sex": {"Levels": {"1": "male", "2": "female"}}}, "M"),
        ("sex", "1", {"sex": {"Levels": {"0": "male", "1": "Female participant"}}}, "F"),
        ("sex", "1.0", {"Sex": {"Levels": {"1": {"Description": "female"}}}}, "F"),
        ("sex", "other", None, None),
        ("M/F", "F", None, "F"),
        ("Biological sex", "w", None, "F"),
        ("SEX_ID (1=m, 2=f)", "2", None, "F"),
        ("sex", "0", {"sex": {"Description": "0 = female, 1 = male"}}, "F"),
        ("sex", "1", {"sex": {"Levels": {"female": 0, "male": 1}}}, "M"),
    ],
)
def test_sexes_and_their_codes(tmp_path, header, text, described, sex):
    person = one(tmp_path, f"participant_id\t{header}", f"sub-01\t{text}", described)
    assert (person.sex, person.doubts) == (sex, ())


def test_a_code_without_meaning_is_named(tmp_path):
    person = one(tmp_path, "participant_id\tsex", "sub-01\t1")
    assert person.sex is None
    assert "Levels" in person.doubts[0].reason


@pytest.mark.parametrize(
    ("header", "what"), [("age_at_onset", "age"), ("age_group", "age"), ("scan_age", "age"), ("is_male", "sex")]
)
def test_a_column_that_need_not_be_age_or_sex_is_named(tmp_path, header, what):
    person = one(tmp_path, f"participant_id\t{header}", "sub-01\t1")
    assert (person.age, person.sex) == (None, None)
    assert (person.doubts[0].column, header in person.doubts[0].reason) == (what, True)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_read(tmp_path, encoding):
    assert one(tmp_path, "participant_id\tage\tsite\r", "sub-01\t61\tMünchen\r", encoding=encoding).age == 61


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_other_encodings_are_named(tmp_path, encoding):
    with pytest.raises(BadInput, match=r"participants.tsv is not text in UTF-8.* save it again"):
        one(tmp_path, "participant_id\tage\tsite", "sub-01\t61\tMünchen", encoding=encoding)


def test_participants_without_prefix_are_found(tmp_path):
    assert one(tmp_path, "Participant_ID\tage", "01\t61").age == 61


def test_a_participant_without_a_row_is_named(tree):
    (doubt,) = participants.person_on(tree / "sub-05_T1w.nii.gz").doubts
    assert (doubt.value, doubt.reason) == ("sub-05", "has no row in participants.tsv")


def test_two_different_rows_of_a_participant_are_refused(tmp_path):
    assert one(tmp_path, "participant_id\tage", "sub-01\t61\nsub-01\t61").age == 61
    with pytest.raises(BadInput, match="sub-01 twice, in the rows 2 and 3"):
        one(tmp_path, "participant_id\tage", "sub-01\t61\n01\tn/a")
    assert one(tmp_path, "participant_id\tsession_id\tage", "sub-01\tses-1\t61\nsub-01\tses-2\t62").age is None
    scan = tmp_path / "sub-01_ses-2_T1w.nii.gz"
    assert participants.person_on(scan).age == 62


def test_the_age_at_the_session_goes_before_that_of_the_participant(tree):
    scan = tree / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_T1w.nii.gz"
    assert participants.person_on(scan).age == 61.5
    (tree / "sub-01" / "sub-01_sessions.tsv").write_text("session_id\tage\nses-1\t741\nses-2\t768\n")
    (tree / "sessions.json").write_text('{"age": {"Units": "months"}}')
    person = participants.person_on(scan)
    assert (person.age, person.sex, person.source.name) == (64, "M", "sub-01_sessions.tsv")
    (tree / "sub-01/ses-2/sub-01_ses-2_scans.tsv").write_text(f"filename\tage\nanat/{scan.name}\t65\n")
    (tree / "scans.json").write_text('{"age": {"Units": "years"}}')
    assert participants.person_on(scan).age == 65


def test_a_model_gets_what_it_is_conditioned_on_and_where_that_is_from_is_said(tree, tiny_bundles):
    scan = tree / "sub-03_T1w.nii.gz"
    known, (note,) = _person(scan, "brain-ldm")
    assert known == {"age": 89.0}
    assert note == f"From {tree / 'participants.tsv'}: age 89."
    assert _person(scan, "brain-ldm", without={"age"})[0] == {}
    (tree / "participants.tsv").write_text("participant_id\tage\nsub-03\t99")
    known, notes = _person(scan, "brain-ldm")
    assert known == {"age": 90.0}
    assert "ages from 20 to 90: 99 counts as 90" in notes[-1]
    assert _person(scan, "brainspade3d") == ({}, [])


@pytest.mark.parametrize("age", ["312", "999"])
def test_an_implausible_age_is_not_the_oldest(tree, tiny_bundles, age):
    (tree / "participants.tsv").write_text(f"participant_id\tage\nsub-03\t{age}")
    known, (note,) = _person(tree / "sub-03_T1w.nii.gz", "brain-ldm")
    assert known == {}
    assert f"'{age}'" in note


def test_a_broken_table_is_named(tree, tiny_bundles):
    scan = tree / "sub-03_T1w.nii.gz"
    (tree / "participants.tsv").write_text("participant_id,age\nsub-03,99")
    with pytest.raises(BadInput, match="has no column participant_id; columns must be separated by tabs"):
        _person(scan, "brain-ldm")
    # It is not needed where all is given by hand.
    assert _person(scan, "brain-ldm", without={"age", "sex"}) == ({}, [])
    (tree / "participants.tsv").write_text("participant_id\tage\nsub-03\t99")
    (tree / "participants.json").write_text("{")
    with pytest.raises(BadInput, match=r"participants.json is damaged JSON"):
        _person(scan, "brain-ldm")


def test_rows_that_differ_in_other_things_are_one_person(tmp_path):
    header = "participant_id\tsession\tage\tscore"
    assert one(tmp_path, header, "sub-01\t1\t61\t7\nsub-01\t1\t61\t8").age == 61
    # The rows of others are no reason to refuse this one.
    assert one(tmp_path, header, "sub-01\t1\t61\t7\nsub-02\t1\t50\t7\nsub-02\t1\t51\t7").age == 61
    one(tmp_path, header, "sub-01\tses-1\t61\t7\nsub-01\tses-2\t62\t7")
    assert participants.person_on(tmp_path / "sub-01_ses-2_T1w.nii.gz").age == 62
    # A number of sessions.
    one(tmp_path, header, "sub-01\t3\t61\t7")
    assert participants.person_on(tmp_path / "sub-01_ses-2_T1w.nii.gz").age == 61
