"""Bad input is refused with a sentence that says what is wrong."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from BrainGenLib.cli.console import _with_own_names
from BrainGenLib.cli.synthesis import named
from BrainGenLib.errors import BadInput
from BrainGenLib.reading.scans import above_air, air, read_scan
from BrainGenLib.reading.segmentations import read_segmentation

SHAPE = (10, 12, 8)
AFFINE = np.array([[-1.2, 0, 0, 20], [0, 0, 3.0, -30], [0, 1.1, 0, 5], [0, 0, 0, 1]])
NOISE = np.random.default_rng(0).random(SHAPE, np.float32)


def nifti(path, data=NOISE, affine=AFFINE, units="mm", code=1):
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units(units)
    image.set_sform(affine, code)
    # It cannot hold shear, which the sform can.
    image.set_qform(affine if code else None, code, strip_shears=True)
    nib.save(image, path)
    return path


def test_a_good_scan_keeps_its_values_order_and_place(tmp_path):
    volume = read_scan(nifti(tmp_path / "a.nii.gz"))
    assert np.array_equal(volume.data, NOISE)
    assert np.allclose(volume.affine, AFFINE)
    assert np.allclose(volume.spacing, (1.2, 1.1, 3.0))


def test_nrrd_and_nifti_of_one_image_are_the_same(tmp_path):
    image = sitk.GetImageFromArray(NOISE.T)
    image.SetSpacing((1.2, 1.1, 3.0))
    image.SetOrigin((1, 2, 3))
    image.SetDirection((0, 0, 1, -1, 0, 0, 0, 1, 0))
    for ending in ("nii", "nrrd"):
        sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
    first, second = read_scan(tmp_path / "a.nii"), read_scan(tmp_path / "a.nrrd")
    assert np.array_equal(first.data, second.data)
    assert np.allclose(first.affine, second.affine, atol=1e-5)


def test_a_fourth_axis_of_one_is_no_fourth_axis(tmp_path):
    assert read_scan(nifti(tmp_path / "a.nii", NOISE[..., None])).data.shape == SHAPE


@pytest.fixture(scope="module")
def brain():
    """A skull-stripped brain whose tissue reaches from near black to 100, and where it is."""
    inside = np.linalg.norm(np.indices((40, 40, 40)) - 19.5, axis=0) < 15
    tissue = np.random.default_rng(0).uniform(0.1, 100, inside.shape).astype(np.float32)
    return np.where(inside, tissue, 0), inside


@pytest.mark.parametrize(
    ("factor", "offset", "outside"),
    [
        (1, 0, 0),
        (0.05, -2, -2),  # z-scored as a whole
        (0.05, -2, 0),  # z-scored within its mask: air in the middle of the values
        (1, -1024, -1024),  # like Hounsfield units
        (1, -1024, 0),  # the same, masked
        (1, 500, 500),
        (1, 2000, 0),
        (1, 0, -32768),  # padded
        (1, 0, 4095),
        (1e-7, 0, 0),
        (1e7, 0, 0),
    ],
)
def test_above_air_a_scan_is_the_same_however_it_is_written(brain, factor, offset, outside):
    data, inside = brain
    written = np.where(inside, data * factor + offset, outside).astype(np.float32)
    found = above_air(written) / factor
    assert (found[~inside] == 0).all()
    assert np.abs(found - data)[inside].max() < 0.5
    assert air(written) == pytest.approx(offset, abs=0.5 * factor)


@pytest.mark.parametrize("value", [-32768, -500, -50, -1, 4095])
def test_a_slab_of_another_value_is_no_air(brain, value):
    """A brain, and a head with noise in its air, to which a program has added slices."""
    data, inside = brain
    noise = np.abs(np.random.default_rng(1).normal(0, 0.5, data.shape)).astype(np.float32)
    for scan in (data, np.where(inside, data, noise)):
        written = scan.copy()
        written[:, :, :4] = value
        found = above_air(written)
        assert not found[:, :, :4].any()
        assert np.abs(found - scan)[:, :, 4:].max() < 2


@pytest.mark.parametrize("value", [1e6, -1e6])
def test_single_voxels_do_not_scale_a_scan(brain, value):
    data, _ = brain
    odd = data.copy()
    odd[20, 20, 20] = odd[1, 1, 1] = value
    found = above_air(odd)
    found[20, 20, 20], found[1, 1, 1] = data[20, 20, 20], 0
    assert np.abs(found - data).max() < 0.5
    assert above_air(odd).max() < 150


def test_noise_in_the_air_of_a_head_is_near_its_air(brain):
    data, inside = brain
    noise = np.abs(np.random.default_rng(1).normal(0, 2, data.shape)).astype(np.float32)
    assert air(np.where(inside, data, noise) + 300) == pytest.approx(300, abs=1)
    assert np.abs(above_air(data) - data).max() < 1


def test_values_inside_a_mask_are_no_air(brain):
    """Integers of a z-scored brain that equal its background."""
    data, inside = brain
    written = np.where(inside, np.round(data - 50), 0).astype(np.int16)
    assert (above_air(written)[20, 20] > 0).mean() > 0.5
    assert not above_air(written)[~inside].any()
    assert np.count_nonzero(above_air(written)[inside] == 0) < 0.02 * inside.sum()


def broken(value):
    data = NOISE.copy()
    data[3, 3, 3] = value
    return data


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"data": np.zeros(SHAPE, np.int16)}, "empty"),
        ({"data": np.full(SHAPE, 7, np.int16)}, "every voxel is 7"),
        ({"data": broken(np.nan)}, "NaN or infinite in 1 of its"),
        ({"data": broken(np.inf)}, "NaN or infinite"),
        ({"data": np.stack([NOISE] * 3, -1)}, r"4D \(10×12×8×3\)"),
        ({"data": NOISE[:, :, :1]}, "several slices"),
        ({"data": NOISE.astype(np.complex64)}, "one grey value per voxel"),
        ({"units": "meter"}, "meters; BrainGen needs millimetres"),
        ({"units": "micron"}, "microns; BrainGen needs millimetres"),
        ({"affine": AFFINE @ np.diag([1e-3, 1e-3, 1e-3, 1])}, "implausible"),
        ({"affine": AFFINE @ np.diag([1e3, 1e3, 1e3, 1])}, "implausible"),
        ({"affine": AFFINE @ np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])}, "sheared"),
        ({"code": 0}, "sform and qform are not set"),
    ],
)
def test_a_bad_scan_is_refused(tmp_path, arguments, says):
    path = nifti(tmp_path / "a.nii", **arguments)
    with pytest.raises(BadInput, match=says) as caught:
        read_scan(path)
    assert str(caught.value).startswith("a.nii ")


def test_a_singular_affine_is_refused(tmp_path):
    path = nifti(tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    content[312:328] = content[296:312]  # srow_z = srow_y
    path.write_bytes(content)
    with pytest.raises(BadInput, match="maps no volume to space"):
        read_scan(path)


def two_forms(path, turn_degrees, shift):
    """A file whose qform is turned and shifted against its sform."""
    image = nib.Nifti1Image(NOISE, AFFINE)
    angle = np.deg2rad(turn_degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = shift
    image.set_sform(AFFINE, 2)
    image.set_qform(turn @ AFFINE, 1)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(("degrees", "shift"), [(15, 0), (0, 12), (180, 0)])
def test_a_place_that_tools_read_in_two_ways_is_refused(tmp_path, degrees, shift):
    with pytest.raises(BadInput, match=r"a\.nii says two things of its place, up to \d+ mm apart.*sform.*qform"):
        read_scan(two_forms(tmp_path / "a.nii", degrees, shift))


def test_rounding_between_sform_and_qform_is_no_fault(tmp_path):
    assert np.allclose(read_scan(two_forms(tmp_path / "a.nii", 0.5, 0.2)).affine, AFFINE)


def test_an_mgh_volume_without_a_place_is_refused(tmp_path):
    image = nib.MGHImage(NOISE, np.eye(4))
    nib.save(image, tmp_path / "known.mgz")
    assert read_scan(tmp_path / "known.mgz").data.shape == SHAPE
    content = bytearray(gzip.decompress((tmp_path / "known.mgz").read_bytes()))
    content[28:30] = b"\0\0"  # goodRASFlag
    (tmp_path / "unknown.mgz").write_bytes(gzip.compress(content))
    with pytest.raises(BadInput, match="left and right are unknown"):
        read_scan(tmp_path / "unknown.mgz")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.img", "half of a NIfTI or Analyze pair; convert both to one .nii.gz"),
        ("a.HDR", "half of a NIfTI or Analyze pair"),
        ("a.nhdr", "half of a NRRD volume in two files; save it as one .nrrd"),
        ("a.mha", "a MetaImage; save it as"),
        ("a.mnc", "a MINC volume"),
        ("a+orig.BRIK", "an AFNI volume"),
        ("a.dcm", "a DICOM file"),
        ("a.zip", "an archive"),
        ("a.mrb", "a scene of 3D Slicer"),
        ("a", "its name ends in none of"),
    ],
)
def test_a_format_that_is_not_read_is_called_by_its_name(tmp_path, name, says):
    (tmp_path / name).write_bytes(b"content")
    with pytest.raises(BadInput, match=says) as caught:
        read_scan(tmp_path / name)
    assert str(caught.value).startswith(f"{name} ")


def test_endings_may_be_capitals(tmp_path):
    nifti(tmp_path / "a.nii.gz").rename(tmp_path / "SCAN.NII.GZ")
    assert np.array_equal(read_scan(tmp_path / "SCAN.NII.GZ").data, NOISE)
    assert named(scan=tmp_path / "SCAN.NII.GZ") == {"scan.nii.gz": tmp_path / "SCAN.NII.GZ"}


def test_sentences_of_a_worker_name_the_file_as_it_is_called_outside():
    inputs = {"scan.nii.gz": Path("four_d.nii.gz"), "segmentation.nii": Path("a/scan.nii.gz")}
    told = _with_own_names("scan.nii.gz is 4D, segmentation.nii is not; my-scan.nii.gz is another.", inputs)
    assert told == "four_d.nii.gz is 4D, scan.nii.gz is not; my-scan.nii.gz is another."


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mgz"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    (tmp_path / name).write_text("This is not an image.")
    with pytest.raises(BadInput, match=r"cannot be read|is not a|damaged"):
        read_scan(tmp_path / name)


def test_a_truncated_file_is_refused(tmp_path):
    path = nifti(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(BadInput, match="incomplete"):
        read_scan(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path, says in ((tmp_path / "nothing.nii", "There is no file"), (tmp_path, "Convert DICOM first")):
        with pytest.raises(BadInput, match=says):
            read_scan(path)


def test_a_segmentation_becomes_classes(tmp_path):
    data = np.zeros(SHAPE, np.float64)
    data[2:5], data[5:8] = 41, 905
    volume = read_segmentation(nifti(tmp_path / "a.nii", data))
    assert volume.data.dtype == np.uint8
    assert set(np.unique(volume.data)) == {0, 2, 38}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros(SHAPE, np.uint8), "no voxel is labelled"),
        (
            np.where(NOISE > 0.5, 1234, 41).astype(np.int16),
            r"1234 are not in the label table.*info --labels",
        ),
        (np.where(NOISE > 0.5, -2, 41).astype(np.int16), "-2"),
        (NOISE, "not whole numbers"),
        (broken(np.nan), "not whole numbers"),
    ],
)
def test_a_bad_segmentation_is_refused(tmp_path, data, says):
    with pytest.raises(BadInput, match=says):
        read_segmentation(nifti(tmp_path / "a.nii", data))
