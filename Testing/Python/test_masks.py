"""What belongs to a mask, whatever values its file has."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput
from BrainGenLib.reading.masks import holds_cavity, read_lesion, read_mask

SHAPE = (24, 24, 24)
BALL = ((np.indices(SHAPE) - 11) ** 2).sum(0) < 5**2


def saved(folder: Path, data: np.ndarray) -> Path:
    path = folder / "sub-01_label-wmh_mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    return path


def conditions(folder: Path, data: np.ndarray, condition: str = "tumour", **options: bool) -> dict[str, int]:
    """Voxels by condition."""
    classes = read_lesion(saved(folder, data), condition, **options).data
    found = {name: int((classes == label.index).sum()) for name, label in anatomy.lesions().items()}
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize(
    "value",
    [np.uint8(1), np.uint8(255), np.int8(-1), np.int16(3), np.float32(255), np.float32(0.3), np.float32(0.9999)],
)
def test_one_value_is_a_mask_whatever_it_is(tmp_path, value):
    assert np.array_equal(read_mask(saved(tmp_path, BALL * value)).data, BALL)


@pytest.mark.parametrize("full", [1, 255])
@pytest.mark.parametrize(
    "soften",
    [
        lambda mask: ndimage.shift(mask, 0.3, order=1),
        lambda mask: ndimage.shift(mask, 0.3, order=3),
        lambda mask: ndimage.gaussian_filter(mask, 1.0),
    ],
    ids=["linear", "cubic", "smoothed"],
)
def test_resampled_masks_are_what_is_above_half(tmp_path, soften, full):
    soft = soften(BALL.astype(np.float32)) * full
    assert np.array_equal(read_mask(saved(tmp_path, soft)).data, soft > full / 2)


def test_probabilities_count_from_a_half(tmp_path):
    probable = np.exp(-((np.indices(SHAPE) - 11) ** 2).sum(0) / 50).astype(np.float32)
    probable[0] = np.nan
    assert np.array_equal(read_mask(saved(tmp_path, probable)).data, probable > 0.5)
    assert not read_mask(saved(tmp_path, probable * np.float32(0.4))).data.any()


def test_an_empty_mask_is_empty(tmp_path):
    assert not read_mask(saved(tmp_path, np.zeros(SHAPE, np.uint8))).data.any()


@pytest.mark.parametrize(
    "data",
    [
        BALL * np.uint8(1) + np.roll(BALL, 9, 0) * np.uint8(2),
        np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.float32) / 1000,
        ndimage.label(np.indices(SHAPE).sum(0) % 5 == 0)[0].astype(np.int16) * np.arange(1, 25, dtype=np.int16),
        BALL * np.float32(3.7) - np.roll(BALL, 9, 0) * np.float32(4.1),
    ],
    ids=["two values", "an image", "numbered lesions", "statistics"],
)
def test_other_values_are_no_mask(tmp_path, data):
    with pytest.raises(BadInput, match=r"sub-01_label-wmh_mask.nii.gz is no mask: .* set what belongs to it to 1"):
        read_mask(saved(tmp_path, data))


def test_a_mask_of_everything_else_is_no_lesion(tmp_path):
    with pytest.raises(BadInput, match="inside out"):
        read_lesion(saved(tmp_path, (~BALL).astype(np.uint8)), "stroke")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((1, 2, 4), {"tumour", "oedema", "enhancing"}),
        ((1, 2, 3), {"tumour", "oedema", "enhancing"}),
        ((2, 4), {"oedema", "enhancing"}),
        ((2,), {"oedema"}),
        ((4,), {"enhancing"}),
        ((3,), {"enhancing"}),
        ((1,), {"tumour"}),
        ((255,), {"tumour"}),
        ((-1,), {"tumour"}),
    ],
)
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_tumour_maps_have_any_subset_of_the_values(tmp_path, values, found, kind):
    data = np.zeros(SHAPE, kind)
    for number, value in enumerate(values):
        data[4 * number : 4 * number + 3, :6] = value
    if kind is np.float32:
        data -= np.float32(1e-4)
    assert set(conditions(tmp_path, data)) == found


def test_the_probability_of_a_tumour_is_that_of_its_core(tmp_path):
    assert set(conditions(tmp_path, ndimage.gaussian_filter(BALL.astype(np.float32), 1.0))) == {"tumour"}


@pytest.mark.parametrize("values", [(1, 2, 5), (1, 7), (10, 20)])
def test_tumour_maps_of_other_conventions_are_refused(tmp_path, values):
    data = np.zeros(SHAPE, np.uint8)
    data[:2], data[4:6] = values[0], values[-1]
    with pytest.raises(BadInput, match=r"tumour maps have 1 \(core\)"):
        conditions(tmp_path, data)


def test_resection_cavities_are_refused(tmp_path):
    data = np.zeros(SHAPE, np.uint8)
    data[:2], data[4:6] = 3, 4
    with pytest.raises(BadInput, match="resection cavity"):
        conditions(tmp_path, data)
    assert holds_cavity(saved(tmp_path, data))
    data[:2] = 1
    assert not holds_cavity(saved(tmp_path, data))
    assert set(conditions(tmp_path, data)) == {"tumour", "enhancing"}
    with pytest.raises(BadInput, match="resection cavity"):
        conditions(tmp_path, data, cavities=True)


def test_a_tumour_map_resampled_between_its_values_is_refused(tmp_path):
    data = np.zeros(SHAPE, np.float32)
    data[4:12, 4:12, 4:12] = 4
    with pytest.raises(BadInput, match="is no mask"):
        conditions(tmp_path, ndimage.shift(data, 0.3, order=1))


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ({2: "Enhancing tumor", 5: "Peritumoral edema"}, {"enhancing", "oedema"}),
        ({2: "Non-enhancing tumor core (NETC)", 5: "ET"}, {"tumour", "enhancing"}),
        ({2: "Surrounding non-enhancing FLAIR hyperintensity", 5: "NCR"}, {"oedema", "tumour"}),
    ],
)
def test_a_table_beside_a_tumour_map_says_what_its_values_are(tmp_path, table, found):
    data = np.zeros(SHAPE, np.uint8)
    data[:2], data[4:6] = table
    rows = [f"{value}\t{name}" for value, name in table.items()]
    (tmp_path / "sub-01_label-wmh_dseg.tsv").write_text("\n".join(["index\tname", *rows]))
    path = tmp_path / "sub-01_label-wmh_dseg.nii.gz"
    saved(tmp_path, data).rename(path)
    classes = np.unique(read_lesion(path, "tumour").data[data > 0])
    assert {anatomy.labels()[index].condition for index in classes} == found


@pytest.mark.parametrize("name", ["Resection cavity", "vessel"])
def test_a_part_without_class_is_refused_by_its_name(tmp_path, name):
    path = tmp_path / "sub-01_label-wmh_dseg.nii.gz"
    saved(tmp_path, np.uint8(4) * BALL).rename(path)
    (tmp_path / "dseg.tsv").write_text(f"index\tname\n4\t{name}\n")
    with pytest.raises(BadInput, match=f"(?i){name}"):
        read_lesion(path, "tumour")
