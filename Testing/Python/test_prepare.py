"""``braingen prepare`` on a tiny BIDS tree made of the shipped template."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

from BrainGenLib import anatomy, spaces
from BrainGenLib.reading import conventions
from BrainGenLib.training import harmonise, prepare, sources
from BrainGenLib.training.cache import Cache

SIZE = (58, 66, 56)
SCAN = np.array([[-3.0, 0, 0, 90], [0, -3.0, 0.2, 85], [0, 0.2, 3.0, -75], [0, 0, 0, 1]])


def brain_values() -> np.ndarray:
    """A crude label map of the template on GRID_2MM: white and grey matter of two sides, ventricles, cerebellum."""
    image, brain = spaces.template()
    world = np.indices(image.shape).transpose(1, 2, 3, 0) * 2.0 + spaces.GRID_2MM.origin
    x, y, z = world[..., 0], world[..., 1], world[..., 2]
    values = np.where(image > 200, 2, 3)
    values[(image < 120) & (abs(x) < 30) & (abs(z - 15) < 20) & (abs(y + 10) < 45)] = 4
    values[(z < -15) & (y < -42)] = 8
    pairs = {2: 41, 3: 42, 4: 43, 8: 47}
    for left, right in pairs.items():
        values[(values == left) & (x > 0)] = right
    values[(abs(x) < 8) & (z < -10) & (abs(y + 30) < 12)] = 16
    return np.where(brain, values, 0).astype(np.uint16)


def to_scan(array: np.ndarray, order: str | int) -> np.ndarray:
    return spaces.resample(array, spaces.GRID_2MM.affine, SIZE, SCAN, order=order)  # type: ignore[arg-type]


def save(path: Path, array: np.ndarray, affine: np.ndarray = SCAN) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """sub-a: T1w, contrast-enhanced T1w, labels, WMH · sub-b: whole-head labels · sub-c, sub-d: lesions ·
    sub-e: broken · sub-f: a T1w alone."""
    root = tmp_path_factory.mktemp("bids")
    derived = root / "derivatives" / "labels"
    image, _ = spaces.template()
    values = brain_values()
    scan = to_scan(image, 1)
    save(root / "sub-a/anat/sub-a_T1w.nii.gz", scan.astype(np.float32))
    save(root / "sub-a/anat/sub-a_ce-gd_T1w.nii.gz", (scan * 2).astype(np.float32))
    save(derived / "sub-a/anat/sub-a_space-T1w_desc-anatomy_dseg.nii.gz", to_scan(values, "label"))
    lesion = np.zeros(image.shape, np.uint8)
    lesion[20:26, 60:66, 48:54] = 1
    save(derived / "sub-a/anat/sub-a_space-T1w_label-wmh_mask.nii.gz", to_scan(lesion, 0))
    head = np.where(values == 0, np.where(_ball(image.shape), 516, 0), values).astype(np.uint16)
    save(derived / "sub-b/anat/sub-b_desc-head_dseg.nii.gz", to_scan(head, "label"))
    affine = spaces.GRID_2MM.affine
    save(derived / "sub-c/anat/sub-c_space-MNI152_label-stroke_mask.nii.gz", lesion, affine)
    save(derived / "sub-d/anat/sub-d_label-stroke_mask.nii.gz", lesion, affine)
    (root / "sub-e/anat").mkdir(parents=True)
    (root / "sub-e/anat/sub-e_T1w.nii.gz").write_bytes(b"nothing")
    save(root / "sub-f/ses-1/anat/sub-f_ses-1_T1w.nii.gz", scan.astype(np.float32))
    (root / "participants.tsv").write_text(
        "participant_id\tage\tsex\tsplit\nsub-a\t71.5\tF\ttest\nsub-b\tn/a\tn/a\ttrain\n"
    )
    return root


def _ball(shape: tuple[int, ...]) -> np.ndarray:
    grid = np.indices(shape) - np.array(shape)[:, None, None, None] / 2
    return (grid**2).sum(0) < 50**2


@pytest.fixture(scope="module")
def made(tree, tmp_path_factory) -> tuple[Cache, list[str]]:
    lines: list[str] = []
    out = tmp_path_factory.mktemp("cache")
    prepare.prepare(tree, out, workers=1, report=lines.append)
    return Cache(out), lines


def case(cache: Cache, name: str):
    return next(c for c in cache.cases if c.id == name)


def test_scan_knows_the_conventions(tree):
    sessions = {s.id: s for s in sources.scan_bids(tree)}
    assert set(sessions) == {"a", "b", "c", "d", "e", "f_ses-1"}
    assert set(sessions["a"].images) == {"T1w", "T1ce"}
    assert [file.space for file in sessions["a"].labels] == ["T1w"]
    assert set(sessions["a"].lesions) == {"wmh"}
    assert sessions["c"].lesions["stroke"].in_template


def test_case_of_a_labelled_scan(made):
    cache, _ = made
    a = case(cache, "a")
    assert (a.space, a.spacing, a.split, a.age, a.sex) == ("template", 2, "test", 71.5, "F")
    assert a.pathologies == ["wmh"]
    assert a.quality["template_dice"] > 0.93
    assert np.allclose(a.images["T1w"], 3.0, atol=0.05)
    labels, image = cache.labels(a), cache.image(a, "T1w")
    assert labels.shape == image.shape == spaces.GRID_2MM.shape
    assert labels.dtype == image.dtype == np.uint8
    assert not image[labels == 0].any()
    assert image.max() == 255


def test_left_is_left_and_the_lesion_is_where_it_was(made):
    cache, _ = made
    labels = cache.labels(case(cache, "a"))
    truth = anatomy.to_classes(brain_values())
    for side in ("left", "right"):
        wanted = [label.index for label in anatomy.labels() if label.side == side]
        assert spaces.dice(np.isin(labels, wanted), np.isin(truth, wanted)) > 0.9
    where = np.argwhere(labels == anatomy.lesions()["wmh"].index).mean(0)
    assert np.linalg.norm(where - [22.5, 62.5, 50.5]) < 2


def test_whole_head_gives_two_cases(made):
    cache, _ = made
    brain, head = case(cache, "b"), case(cache, "b_head")
    assert (brain.space, head.space, head.spacing) == ("template", "head", 1)
    assert cache.labels(brain).max() < conventions.FIRST_EXTRA
    assert conventions.FIRST_EXTRA + conventions.EXTRA_CEREBRAL.index(516) in np.unique(cache.labels(head))
    assert head.age is None


def test_lesion_alone(made):
    cache, _ = made
    lesion = case(cache, "lesion-stroke-c")
    assert (lesion.space, lesion.pathologies) == ("lesion", ["stroke"])
    assert int((cache.labels(lesion) > 0).sum()) == 6**3


def test_scan_without_labels(made):
    cache, _ = made
    scan = case(cache, "f_ses-1")
    assert not scan.has_labels
    assert cache.image(scan, "T1w").any()


def test_failures_are_one_sentence_and_do_not_stop_the_rest(made):
    _, lines = made
    left_out = [line for line in lines if line.startswith("Left out")]
    assert len(left_out) == 2
    assert any("sub-e_T1w.nii.gz" in line for line in left_out)
    assert any("sub-d_label-stroke" in line and "template space" in line for line in left_out)
    assert "2 sessions failed" in lines[-1]


def test_no_tree(tmp_path):
    with pytest.raises(ValueError, match="not a folder"):
        prepare.prepare(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(ValueError, match="holds no scans"):
        prepare.prepare(tmp_path, tmp_path / "out")


def test_participants_needs_its_column(tree, tmp_path):
    (tmp_path / "participants.tsv").write_text("name,age\na,3\n")
    with pytest.raises(ValueError, match="participant_id"):
        sources.scan_bids(tmp_path)


def test_conventions_become_one():
    values = np.zeros((12, 12, 12), np.int32)
    values[2:10, 2:10, 2:10] = 2
    values[5, 5, 5] = 30  # vessel
    values[6, 5, 5] = 1012  # aparc
    values[7, 5, 5] = 77
    values[8, 5, 5] = 136
    values[0, 0, 0] = 530
    classes = conventions.structures(values)
    found = {p: int(classes[p]) for p in [(5, 5, 5), (6, 5, 5), (7, 5, 5), (8, 5, 5), (0, 0, 0)]}
    value = [label.value for label in anatomy.labels()]
    assert [value[found[5, 5, 5]], value[found[6, 5, 5]], value[found[8, 5, 5]]] == [2, 3, 4]
    assert found[7, 5, 5] == anatomy.lesions()["wmh"].index
    assert found[0, 0, 0] == conventions.FIRST_EXTRA + conventions.EXTRA_CEREBRAL.index(530)


def test_unknown_value_is_named():
    with pytest.raises(ValueError, match="4711"):
        conventions.structures(np.array([[[4711]]]))


def test_labels_go_by_the_names_of_a_table(tmp_path):
    values = np.array([[[0, 1, 2, 3]]])
    folder = tmp_path / "sub-a" / "anat"
    folder.mkdir(parents=True)
    path = folder / "sub-a_desc-mine_dseg.nii.gz"
    names = ["Brain-Stem", "Left-Thalamus-Proper", "right hippocampus"]
    (tmp_path / "desc-mine_dseg.tsv").write_text(
        "index\tname\n" + "".join(f"{n}\t{name}\n" for n, name in enumerate(names, 1))
    )
    wanted = [0, 16, 10, 53]
    assert anatomy.to_values(conventions.structures_of(path, values)).ravel().tolist() == wanted
    # FreeSurfer's own, in part under names that the project lacks.
    (folder / "sub-a_desc-mine_dseg.tsv").write_text("index\tname\n10\tLeft-Thalamus\n251\tCC_Posterior\n")
    found = conventions.structures_of(path, np.array([[[10, 251, 41]]]))
    assert anatomy.to_values(found).ravel().tolist() == [10, 41, 41]
    for name in ("Left-Putamen", "Area 17"):
        (folder / "sub-a_desc-mine_dseg.tsv").write_text(f"index\tname\n10\t{name}\n41\tx\n")
        with pytest.raises(ValueError, match=r"its table \(dseg.tsv\) calls 10"):
            conventions.structures_of(path, np.array([[[10, 41]]]))


@pytest.mark.parametrize("values", [(2, 3), (1, 2, 3), (2, 3.5, 41), (2, np.inf, 41)])
def test_labels_that_mean_nothing_certain_are_refused(values):
    with pytest.raises(ValueError, match=r"mean another thing|not whole numbers|Label value"):
        conventions.structures(np.array([[values]], np.float32))


def test_csf_has_one_meaning():
    classes = anatomy.to_classes(brain_values())
    csf = anatomy.to_classes(np.array([24]))[0]
    hollow = classes.copy()
    hollow[38:42, 60:64, 55:58] = 0  # a hole in the tissue
    stray = hollow.copy()
    stray[2:5, 2:5, 2:5] = csf  # far from the brain
    full = harmonise.complete(stray, 2, None)
    assert not (full[2:5, 2:5, 2:5] > 0).any()
    assert (full[38:42, 60:64, 55:58] > 0).all()
    assert (full == csf).sum() > 0
    support = classes > 0
    assert not harmonise.complete(classes, 2, support)[~support].any()


def test_merged_sides_are_split():
    classes = anatomy.to_classes(brain_values())
    mirror = np.array(anatomy.mirrored_classes())
    right = [label.index for label in anatomy.labels() if label.side == "right"]
    merged = np.where(np.isin(classes, right), mirror[classes], classes).astype(np.uint8)
    assert conventions.one_sided(merged)
    assert not conventions.one_sided(classes)
    split = harmonise.split_sides(merged, spaces.GRID_2MM)
    assert (split == classes).mean() > 0.99
    # A teacher that took much of the left half for right.
    confused = classes.copy()
    confused[:25] = mirror[classes[:25]]
    assert harmonise.sides_wrong(confused, spaces.GRID_2MM)
    assert not harmonise.sides_wrong(classes, spaces.GRID_2MM)
    assert (harmonise.split_sides(confused, spaces.GRID_2MM) == classes).mean() > 0.99


# -- files that do not fit -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def native() -> dict[str, np.ndarray]:
    """A T1w scan, labels and a lesion on the grid of a scan, and the last two on the template's."""
    image, _ = spaces.template()
    lesion = np.zeros(image.shape, np.uint8)
    lesion[18:25, 58:66, 47:54] = 1
    own = {"scan": to_scan(image, 1), "labels": to_scan(brain_values(), "label"), "lesion": to_scan(lesion, 0)}
    return {**own, "lesion in template": lesion, "labels in template": brain_values()}


def prepared(root: Path) -> tuple[prepare.Prepared, sources.Session]:
    (session,) = sources.scan_bids(root)
    return prepare.prepare_session(session), session


DERIVED = "derivatives/x/sub-a/anat/sub-a_{}.nii.gz"


def test_contrasts_that_do_not_lie_on_each_other_are_refused(tmp_path, native):
    """Aligned by a small movement, and yet nothing of one is found in the other."""
    save(tmp_path / "sub-a/anat/sub-a_T1w.nii.gz", native["scan"])
    save(tmp_path / DERIVED.format("desc-anatomy_dseg"), native["labels"])
    other = 300 - native["scan"] ** 0.8
    away = SCAN.copy()
    away[:3, 3] += 1
    save(tmp_path / "sub-a/anat/sub-a_FLAIR.nii.gz", other, away)
    ((case, _, volumes),), _ = prepared(tmp_path)
    assert case.quality["shift_FLAIR_mm"] < 3
    assert set(volumes) == {"T1w", "FLAIR"}
    save(
        tmp_path / "sub-a/anat/sub-a_FLAIR.nii.gz",
        np.random.default_rng(0).permutation(other.ravel()).reshape(other.shape),
        away,
    )
    with pytest.raises(ValueError, match=r"FLAIR.nii.gz could not be aligned with the T1w.*Register them"):
        prepared(tmp_path)


def save_two_forms(path: Path, array: np.ndarray, motion: np.ndarray) -> None:
    """Its sform puts it where SCAN does, its qform moved from there."""
    save(path, array)
    image = nibabel.load(path)
    image.set_sform(SCAN, 2)
    image.set_qform(motion @ SCAN, 1)
    nibabel.save(nibabel.Nifti1Image(array, None, image.header), path)


def moved_by(millimetres: float, degrees: float) -> np.ndarray:
    motion = np.eye(4)
    angle = np.deg2rad(degrees)
    motion[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    motion[2, 3] = millimetres
    return motion


@pytest.mark.parametrize("labels", ["both forms", "sform alone"])
def test_forms_a_rigid_motion_apart_are_accepted_where_nothing_depends_on_them(tmp_path, native, labels):
    motion = moved_by(9, 4)
    save_two_forms(tmp_path / "sub-a/anat/sub-a_T1w.nii.gz", native["scan"], motion)
    derived = tmp_path / DERIVED.format("desc-anatomy_dseg")
    if labels == "both forms":
        save_two_forms(derived, native["labels"], motion)
    else:
        save(derived, native["labels"])
    (((_, classes, _),), session) = prepared(tmp_path)
    ((text, names),) = session.remarks.items()
    assert text == "with sform and qform a rigid motion apart, placed by the sform"
    assert all(re.fullmatch(r"sub-a_.*\.nii\.gz \(\d+ mm\)", name) for name in names)
    assert len(names) == (2 if labels == "both forms" else 1)
    save(tmp_path / "sub-a/anat/sub-a_T1w.nii.gz", native["scan"])
    save(derived, native["labels"])
    (((_, alone, _),), session) = prepared(tmp_path)
    assert session.remarks == {}
    np.testing.assert_array_equal(classes, alone)


@pytest.mark.parametrize(
    ("motion", "of_labels"),
    [
        (moved_by(60, 0), moved_by(60, 0)),
        (np.diag([1.0, 1, 1.2, 1]), np.diag([1.0, 1, 1.2, 1])),
        (np.diag([-1.0, 1, 1, 1]), np.diag([-1.0, 1, 1, 1])),
        (moved_by(9, 0), moved_by(-9, 0)),
        (moved_by(9, 0), None),
    ],
    ids=["far", "of another size", "mirrored", "labels moved otherwise", "labels where the qform is"],
)
def test_forms_apart_that_matter_are_refused(tmp_path, native, motion, of_labels):
    save_two_forms(tmp_path / "sub-a/anat/sub-a_T1w.nii.gz", native["scan"], motion)
    derived = tmp_path / DERIVED.format("desc-anatomy_dseg")
    if of_labels is None:
        save(derived, native["labels"], motion @ SCAN)
    else:
        save_two_forms(derived, native["labels"], of_labels)
    with pytest.raises(ValueError, match=r"sub-a_T1w\.nii\.gz says two things of its place"):
        prepared(tmp_path)


def test_a_lesion_in_the_template_is_placed_by_the_alignment(tmp_path, native):
    # Moved far away, so that worlds do not happen to be alike.
    away = SCAN.copy()
    away[:3, 3] += (35, -30, 20)
    save(tmp_path / "sub-a/anat/sub-a_T1w.nii.gz", native["scan"], away)
    save(tmp_path / DERIVED.format("desc-anatomy_dseg"), native["labels"], away)
    template = spaces.GRID_2MM.affine
    save(tmp_path / DERIVED.format("space-MNI152_label-stroke_mask"), native["lesion in template"], template)
    save(tmp_path / DERIVED.format("space-MNI152_desc-brain_mask"), native["labels in template"] % 2, template)
    (((case, classes, _),), session) = prepared(tmp_path)
    assert case.pathologies == ["stroke"]
    where = np.argwhere(classes == anatomy.lesions()["stroke"].index).mean(0)
    assert np.linalg.norm(where - [21, 61.5, 50]) < 1.5
    assert any("placed by their affine alignment" in text for text in session.remarks)


@pytest.mark.parametrize("shift", [35, 150])
def test_labels_that_lie_elsewhere_than_their_scan_are_refused(tmp_path, native, shift):
    # Far from a whole head, and near to a brain.
    head = native["scan"] + np.random.default_rng(0).integers(1, 9, SIZE, np.uint8)
    save(tmp_path / "sub-a/anat/sub-a_T1w.nii.gz", head if shift > 100 else native["scan"])
    away = SCAN.copy()
    away[:3, 3] += (shift, -30, 20)
    save(tmp_path / DERIVED.format("desc-anatomy_dseg"), native["labels"], away)
    with pytest.raises(ValueError, match=r"sub-a_desc-anatomy_dseg.nii.gz does not lie on the scan"):
        prepared(tmp_path)


def test_a_label_map_that_is_not_understood_gives_way_to_one_that_is(tmp_path, native):
    save(tmp_path / DERIVED.format("desc-anatomy_dseg"), (native["labels"] > 0).astype(np.uint8))
    with pytest.raises(ValueError, match=r"sub-a_desc-anatomy_dseg.nii.gz: it has the labels 1"):
        prepared(tmp_path)
    save(tmp_path / DERIVED.format("desc-aseg_dseg"), native["labels"])
    (((case, _, _),), session) = prepared(tmp_path)
    assert case.quality["structures"] > 0
    assert session.remarks == {"not used: its values are not understood": ["sub-a_desc-anatomy_dseg.nii.gz"]}


def test_an_empty_mask_is_named(tmp_path, native):
    save(tmp_path / DERIVED.format("desc-anatomy_dseg"), native["labels"])
    save(tmp_path / DERIVED.format("label-wmh_mask"), np.zeros_like(native["lesion"]))
    _, session = prepared(tmp_path)
    assert list(session.remarks.values()) == [["sub-a_label-wmh_mask.nii.gz"]]
    assert "no lesion in it" in next(iter(session.remarks))


@pytest.mark.parametrize(
    "units",
    [
        lambda scan: (scan - scan[scan > 0].mean()) / scan[scan > 0].std(),
        lambda scan: scan - 1024,
        lambda scan: scan + 500,
        lambda scan: scan * 1e-12,
        lambda scan: np.where(np.arange(scan.size).reshape(scan.shape) % 99_991 == 0, 1e6, scan),
    ],
    ids=["z-scored", "-1024", "+500", "small", "outliers"],
)
def test_scans_are_scaled_above_their_air(native, units, tmp_path):
    scan = native["scan"].astype(np.float32)
    save(tmp_path / "sub-a_T1w.nii.gz", units(scan).astype(np.float32))
    found = prepare._scan(sources.File(str(tmp_path / "sub-a_T1w.nii.gz")))
    save(tmp_path / "sub-b_T1w.nii.gz", scan)
    plain = prepare._scan(sources.File(str(tmp_path / "sub-b_T1w.nii.gz")))
    after, before = (prepare.normalise(s.data, plain.data > 0).astype(int) for s in (found, plain))
    assert np.percentile(np.abs(after - before), 99.9) <= 3


def test_geometry_is_refused_as_by_segment(tmp_path, native):
    for name, header in (("units", "mm"), ("codes", "micron")):
        image = nibabel.Nifti1Image(native["scan"], SCAN)
        image.header.set_xyzt_units(header)
        if name == "units":
            image.set_sform(None, 0)
            image.set_qform(None, 0)
        path = tmp_path / "sub-a/anat/sub-a_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, path)
        with pytest.raises(ValueError, match=r"left and right are unknown|needs millimetres"):
            prepared(tmp_path)


def test_cavities_of_one_map_are_those_of_all(tmp_path, native):
    lesion = native["lesion"]
    for subject, value in (("a", 3), ("b", 1)):
        tumour = (lesion * value).astype(np.uint8)
        tumour[tuple(np.argwhere(lesion)[:20].T)] = 4
        folder = tmp_path / f"derivatives/x/sub-{subject}/anat"
        save(folder / f"sub-{subject}_space-MNI152_label-tumour_dseg.nii.gz", tumour, spaces.GRID_2MM.affine)
    sessions = sources.scan_bids(tmp_path)
    prepare._note_cavities(sessions)
    for session in sessions:
        with pytest.raises(ValueError, match="resection cavity"):
            prepare.prepare_session(session)


def test_normalise():
    image = np.linspace(0, 1000, 1000, dtype=np.float32).reshape(10, 10, 10)
    mask = image > 100
    result = prepare.normalise(image, mask)
    assert result.max() == 255
    assert not result[~mask].any()
    assert abs(int(result[mask][-50]) - 243) < 4
