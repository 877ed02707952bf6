"""Which files of a BIDS tree go together, by their names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from BrainGenLib.training.sources import File, Session, scan_bids

NATIVE = "sub-a_T1w"
MNI = "space-MNI152NLin2009cAsym"


def sessions(root: Path, *names: str) -> dict[str, Session]:
    """Sessions of a tree of empty files; names without ``dseg`` and ``mask`` are raw."""
    for name in names:
        parts = dict(part.split("-", 1) for part in name.split("_")[:-1])
        place = root if name.endswith("w") or name.endswith("FLAIR") else root / "derivatives" / "pipeline"
        folder = place / f"sub-{parts['sub']}" / (f"ses-{parts['ses']}" if "ses" in parts else "") / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.nii.gz").touch()
    return {session.id: session for session in scan_bids(root)}


def one(root: Path, *names: str) -> Session:
    (session,) = sessions(root, *names).values()
    return session


def name_of(file: File | None) -> str:
    return "" if file is None else Path(file.path).name.removesuffix(".nii.gz")


def dropped(session: Session) -> list[str]:
    return sorted(name.removesuffix(".nii.gz") for names in session.remarks.values() for name in names)


@pytest.mark.parametrize(
    ("scans", "labels", "used"),
    [
        (["sub-a_run-1_T1w", "sub-a_run-2_T1w"], "sub-a_run-2_dseg", "sub-a_run-2_T1w"),
        (["sub-a_run-1_T1w", "sub-a_run-02_T1w"], "sub-a_run-2_dseg", "sub-a_run-02_T1w"),
        (["sub-a_run-1_T1w", "sub-a_run-2_T1w"], "sub-a_run-2_space-T1w_dseg", "sub-a_run-2_T1w"),
        (["sub-a_acq-flash_T1w", "sub-a_acq-mprage_T1w"], "sub-a_acq-mprage_dseg", "sub-a_acq-mprage_T1w"),
        (["sub-a_T1w", "sub-a_rec-defaced_T1w"], "sub-a_dseg", "sub-a_T1w"),
        (["sub-a_T1w", "sub-a_rec-norm_T1w"], "sub-a_rec-norm_dseg", "sub-a_rec-norm_T1w"),
        (["sub-a_echo-1_T1w", "sub-a_echo-2_T1w"], "sub-a_dseg", "sub-a_echo-1_T1w"),
        (["sub-a_part-mag_T1w", "sub-a_part-phase_T1w"], "sub-a_dseg", "sub-a_part-mag_T1w"),
        (["sub-a_acq-mprage_T1w"], "sub-a_dseg", "sub-a_acq-mprage_T1w"),
    ],
)
def test_labels_go_with_the_scan_of_their_entities(tmp_path, scans, labels, used):
    session = one(tmp_path, *scans, labels)
    assert name_of(session.images["T1w"]) == used
    assert [name_of(file) for file in session.labels] == [labels]
    assert dropped(session) == sorted(set(scans) - {used})


@pytest.mark.parametrize(
    ("scans", "labels"),
    [
        (["sub-a_run-1_T1w", "sub-a_run-2_T1w"], "sub-a_dseg"),
        (["sub-a_run-1_T1w"], "sub-a_run-2_dseg"),
        (["sub-a_T1w"], "sub-a_space-T2w_dseg"),
        (["sub-a_T1w"], f"sub-a_{MNI}_dseg"),
        (["sub-a_T1w"], "sub-a_space-MNIPediatricAsym_cohort-3_dseg"),
        (["sub-a_T1w"], "sub-a_space-fsaverage_dseg"),
        (["sub-a_T1w"], "sub-a_space-dwi_dseg"),
        ([f"sub-a_{MNI}_T1w"], "sub-a_dseg"),
        ([f"sub-a_{MNI}_T1w"], "sub-a_space-T1w_dseg"),
        ([f"sub-a_{MNI}_T1w"], "sub-a_space-MNIInfant_dseg"),
    ],
)
def test_labels_of_no_scan_in_use_are_left_out_and_named(tmp_path, scans, labels):
    session = one(tmp_path, *scans, labels)
    assert name_of(session.images["T1w"]) == scans[0]
    assert session.labels == []
    assert labels in dropped(session)


@pytest.mark.parametrize(
    "space", ["", "space-orig_", "space-T1w_", "space-t1w_", "space-individual_", "space-native_"]
)
def test_names_of_the_own_space(tmp_path, space):
    session = one(tmp_path, NATIVE, "sub-a_FLAIR", f"sub-a_{space}dseg")
    assert session.labels == [File(session.labels[0].path, "T1w")]


def test_without_labels_the_lowest_run_is_used_for_all_contrasts(tmp_path):
    names = [f"sub-a_run-{run}_{contrast}" for run in (2, 10, 1) for contrast in ("T1w", "FLAIR")]
    session = one(tmp_path, *names)
    assert [name_of(file) for file in session.images.values()] == ["sub-a_run-1_T1w", "sub-a_run-1_FLAIR"]


def test_other_contrasts_come_from_the_run_of_the_labels(tmp_path):
    names = [f"sub-a_run-{run}_{contrast}" for run in (1, 2) for contrast in ("T1w", "FLAIR")]
    session = one(tmp_path, *names, "sub-a_run-2_space-T1w_dseg")
    assert [name_of(file) for file in session.images.values()] == ["sub-a_run-2_T1w", "sub-a_run-2_FLAIR"]


def test_scans_and_labels_of_one_space_go_together(tmp_path):
    scans = [f"sub-a_{MNI}_T1w", f"sub-a_{MNI}_FLAIR"]
    session = one(tmp_path, *scans, f"sub-a_{MNI}_dseg")
    assert session.labels[0].space == "T1w"
    assert not session.remarks
    # Raw scans of a person whose labels were made in the template.
    session = one(tmp_path, NATIVE)
    assert name_of(session.images["T1w"]) == scans[0]
    assert dropped(session) == [NATIVE]
    # And labels for those too.
    session = one(tmp_path, "sub-a_space-orig_dseg")
    assert name_of(session.images["T1w"]) == NATIVE
    assert [name_of(file) for file in session.labels] == ["sub-a_space-orig_dseg"]
    # With a lesion, too, the template has more.
    session = one(tmp_path, f"sub-a_{MNI}_label-wmh_mask")
    assert name_of(session.images["T1w"]) == scans[0]
    assert session.lesions["wmh"].space == "T1w"


def test_lesions_lie_on_a_scan_in_use_or_in_the_template(tmp_path):
    session = one(tmp_path, NATIVE, "sub-a_FLAIR", "sub-a_space-FLAIR_label-wmh_mask", f"sub-a_{MNI}_label-wmh_mask")
    assert session.lesions["wmh"].space == "FLAIR"
    assert dropped(session) == [f"sub-a_{MNI}_label-wmh_mask"]
    session = one(tmp_path, f"sub-a_{MNI}_label-stroke_mask")
    assert session.lesions["stroke"].in_template


@pytest.mark.parametrize(
    ("scan", "mask"),
    [
        (NATIVE, "sub-a_space-T2w_label-wmh_mask"),
        (NATIVE, "sub-a_space-MNIPediatricAsym_label-wmh_mask"),
        (NATIVE, "sub-a_space-MNI305_label-wmh_mask"),
        (NATIVE, "sub-a_run-2_label-wmh_mask"),
        (f"sub-a_{MNI}_T1w", "sub-a_label-wmh_mask"),
    ],
)
def test_a_lesion_that_cannot_be_placed_does_not_leave_a_healthy_brain(tmp_path, scan, mask):
    session = one(tmp_path, scan, mask)
    assert mask in session.problem
    assert scan in session.problem


def test_brain_masks_of_another_space_are_not_used(tmp_path):
    session = one(tmp_path, NATIVE, f"sub-a_{MNI}_desc-brain_mask")
    assert session.brain is None
    assert name_of(one(tmp_path, "sub-a_space-T1w_desc-brain_mask").brain) == "sub-a_space-T1w_desc-brain_mask"


def test_label_maps_that_are_likelier_to_be_understood_come_first(tmp_path):
    maps = ["sub-a_dseg", "sub-a_desc-aseg_dseg", "sub-a_desc-aparcaseg_dseg", "sub-a_desc-carpet_dseg"]
    session = one(tmp_path, NATIVE, *maps, "sub-a_desc-donors_dseg")
    assert [name_of(file) for file in session.labels] == [maps[2], maps[1], maps[0], maps[3]]


def test_spellings_of_lesions_and_masks_of_unknown_ones(tmp_path):
    session = one(tmp_path, NATIVE, "sub-a_label-Tumor_dseg", "sub-a_label-lesion_mask", "sub-a_label-GM_mask")
    assert set(session.lesions) == {"tumour"}
    assert dropped(session) == ["sub-a_label-lesion_mask"]


@pytest.mark.parametrize(
    "lesion",
    [
        "derivatives/a/sub-a/anat/sub-a_label-lesion_mask.nii.gz",
        "derivatives/a/sub-a/anat/sub-a_T1w_lesion-manual.nii.gz",
        "derivatives/ATLAS/sub-a/anat/sub-a_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz",
        "sub-a/anat/sub-a_T1w_label-lesion_roi.nii.gz",
        "derivatives/a/sub-a/dwi/sub-a_space-TRACE_desc-lesion_mask.nii.gz",
        "derivatives/a/sub-a/dwi/sub-a_label-stroke_mask.nii.gz",
        "derivatives/sub-a/sub-a_msk.nii.gz",
        "derivatives/a/sub-a/sub-a_label-stroke_mask.nii.gz",
    ],
)
def test_a_lesion_of_unknown_kind_does_not_leave_a_healthy_brain(tmp_path, lesion):
    (tmp_path / lesion).parent.mkdir(parents=True)
    (tmp_path / lesion).touch()
    assert Path(lesion).name in one(tmp_path, NATIVE).problem
    # Names of people, tissues and sides are no lesions.
    others = [
        "sub-stroke1_T1w",
        "sub-stroke1_label-WM_mask",
        "sub-stroke1_desc-white_mask",
        "sub-stroke1_label-L_mask",
    ]
    assert not sessions(tmp_path, *others)["stroke1"].problem


def test_what_a_mask_is_called_may_say_which_lesion_it_is(tmp_path):
    assert set(one(tmp_path, "sub-a_FLAIR", "sub-a_desc-wmh_mask").lesions) == {"wmh"}


def test_derivatives_without_session_are_of_the_only_one(tmp_path):
    (session,) = sessions(tmp_path, "sub-a_ses-1_T1w", "sub-a_label-stroke_mask").values()
    assert (set(session.images), set(session.lesions)) == ({"T1w"}, {"stroke"})


def test_a_lesion_in_a_session_folder_is_seen_though_it_is_not_in_anat(tmp_path):
    # As in ISLES 2022.
    mask = tmp_path / "derivatives" / "sub-a" / "ses-1" / "sub-a_ses-1_msk.nii.gz"
    mask.parent.mkdir(parents=True)
    mask.touch()
    assert mask.name in one(tmp_path, "sub-a_ses-1_FLAIR").problem


def test_a_lesion_beside_several_sessions_leaves_none_of_them_healthy(tmp_path):
    mask = "sub-a_space-T1w_label-stroke_mask"
    found = sessions(tmp_path, "sub-a_ses-1_T1w", "sub-a_ses-2_T1w", "sub-a_ses-2_label-stroke_mask", mask)
    assert mask in found["a_ses-1"].problem
    assert not found["a_ses-2"].problem
    assert set(found["a_ses-2"].lesions) == {"stroke"}


def test_hidden_files_are_none_and_endings_may_be_in_capitals(tmp_path):
    folder = tmp_path / "sub-a" / "anat"
    folder.mkdir(parents=True)
    for name in ("._sub-a_T1w.nii.gz", ".sub-a_T2w.nii.gz", "sub-a_FLAIR.NII.GZ", "sub-a_T1w.json"):
        (folder / name).touch()
    assert set(one(tmp_path, NATIVE).images) == {"T1w", "FLAIR"}
    assert name_of(one(tmp_path, NATIVE).images["T1w"]) == NATIVE


def test_sessions_and_links_to_folders(tmp_path):
    far = tmp_path / "far" / "anat"
    far.mkdir(parents=True)
    (far / "sub-a_ses-2_T1w.nii.gz").touch()
    (tmp_path / "tree" / "sub-a").mkdir(parents=True)
    (tmp_path / "tree" / "sub-a" / "ses-2").symlink_to(far.parent)
    found = sessions(tmp_path / "tree", "sub-a_ses-1_T1w", "sub-a_ses-1_dseg")
    assert set(found) == {"a_ses-1", "a_ses-2"}


def test_a_file_in_the_folder_of_another_subject_is_left_out(tmp_path):
    (tmp_path / "sub-a" / "anat").mkdir(parents=True)
    (tmp_path / "sub-a" / "anat" / "sub-b_T1w.nii.gz").touch()
    assert set(sessions(tmp_path, "sub-a_FLAIR")) == {"a"}
