"""NIfTI files are checked and read by one header, and read as nibabel reads them."""

import gzip
import math

import nibabel as nib
import numpy as np
import pytest

from BrainGenLib.errors import BadInput
from BrainGenLib.reading import nifti

VALUES = np.arange(480, dtype=np.int16).reshape(6, 10, 8)


def image(kind=nib.Nifti1Image, dtype=np.int16, scaling=(None, None), order="<"):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype)
    header.set_slope_inter(*scaling)
    made = kind(VALUES if scaling == (None, None) else VALUES * 0.5 + 3, np.diag([2, 1.5, 1, 1]), header)
    made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"hello" * 1000))
    return made


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"kind": nib.Nifti2Image},
        {"order": ">"},
        {"scaling": (0.5, 3.0)},
        {"dtype": np.float32},
        {"dtype": np.float64, "kind": nib.Nifti2Image, "order": ">"},
        {"dtype": np.uint16, "scaling": (0.5, 0.0)},
    ],
    ids=str,
)
def test_a_file_is_read_as_nibabel_reads_it(tmp_path, name, arguments):
    nib.save(image(**arguments), tmp_path / name)
    other, read = nib.load(tmp_path / name), nifti.read(tmp_path / name)
    values = np.asarray(other.dataobj)
    assert np.array_equal(read.data, values)
    assert read.data.dtype == values.dtype.newbyteorder("=")
    assert np.array_equal(read.header.get_best_affine(), other.affine)
    assert not read.header.extensions
    nifti.check(tmp_path / name, 2**20)


@pytest.mark.parametrize("padding", [1, 511, 10_240])
def test_zero_bytes_behind_a_scan_fill_up_a_block(tmp_path, padding):
    data = image().to_bytes()
    for name, content in (
        ("a.nii", data + bytes(padding)),
        ("a.nii.gz", gzip.compress(data) + bytes(padding)),
        ("b.nii.gz", gzip.compress(data + bytes(padding))),
        ("c.nii.gz", gzip.compress(data[:500]) + gzip.compress(data[500:]) + bytes(padding)),
    ):
        (tmp_path / name).write_bytes(content)
        assert np.array_equal(nifti.read(tmp_path / name).data, VALUES)
        nifti.check(tmp_path / name, 2**20)


def test_the_check_of_a_skull_stripped_scan_with_padding_ends(tmp_path):
    # Replays pauldmccarthy/indexed_gzip#69: the last megabyte of the file inflates to more than one.
    scan = np.zeros((80, 160, 120), np.int16)
    scan[30:50, 60:100, 40:80] = np.random.default_rng(0).integers(0, 900, (20, 40, 40))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nib.Nifti1Image(scan, np.eye(4)).to_bytes(), 1) + bytes(512))
    nifti.check(tmp_path / "a.nii.gz", 2**30)
    assert np.array_equal(nifti.read(tmp_path / "a.nii.gz").data, scan)


def test_the_bound_counts_a_voxel_as_float32_at_least(tmp_path):
    nib.save(image(dtype=np.uint8), tmp_path / "a.nii")
    nifti.read(tmp_path / "a.nii", math.prod(VALUES.shape) * 4)
    with pytest.raises(BadInput, match="larger than the"):
        nifti.read(tmp_path / "a.nii", math.prod(VALUES.shape) * 4 - 1)


def test_the_check_refuses_what_the_reader_cannot_scale(tmp_path):
    made = image()
    made.header["scl_slope"], made.header["scl_inter"], made.header["vox_offset"] = 2, np.inf, 352
    (tmp_path / "a.nii").write_bytes(made.header.binaryblock + bytes(4) + VALUES.tobytes("F"))
    for read in (nifti.read, nifti.check):
        with pytest.raises(BadInput, match=r"a\.nii is damaged"):
            read(tmp_path / "a.nii", 2**20)


@pytest.mark.parametrize("data", [b"", b"no image", bytes(2000)])
def test_another_file_is_refused_in_a_sentence(tmp_path, data):
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(BadInput, match=r"a.nii is (damaged|not a NIfTI)"):
        nifti.read(tmp_path / "a.nii")
