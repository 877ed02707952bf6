"""Volumes from files, checked once at the edge: their format, dimensions and place in space."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np

from BrainGenLib.errors import BadInput
from BrainGenLib.reading import content, formats, nifti, nrrd

# A spacing outside is a unit mistaken or a header invented, not an MRI of a head.
SPACING_MM = (0.1, 15.0)
# Fewer slices than this are no volume.
MIN_SLICES = 4
# Cosine between two voxel axes from which on a grid counts as sheared; less is rounding of the header.
MAX_SHEAR = 0.01
# Distance between the places that sform and qform give a corner, in voxels: a qform cannot hold shear.
FORMS_APART = 1.5


@dataclass
class Volume:
    """A checked volume: ``data`` (i, j, k) in the file's axis order, ``affine`` 4×4 voxel to world, RAS+ mm."""

    data: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size in mm along i, j, k."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def read_volume(path: Path, *, by_sform: bool = False) -> Volume:
    """A volume with the values and the type that its file holds.

    Args:
        by_sform: whether one whose qform puts it elsewhere than its sform is read, where the sform puts it.

    Raises:
        BadInput: the file is no 3D NIfTI, NRRD or MGH volume, or its place or units in space are unknown or
            implausible.
    """
    if not path.exists():
        raise BadInput(f"There is no file {path}.")
    ending = formats.ending(path)
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    try:
        data, affine = _read_nifti(path, by_sform) if ending in _NIFTI else _READERS[ending](path)
    except BadInput:
        raise
    # Readers of damaged files raise whatever their parser stumbles over.
    except Exception as error:
        raise BadInput(
            f"{path.name} cannot be read: it is damaged, or another file than its name says ({error})."
        ) from error
    return check_geometry(path.name, data, affine)


def _read_nifti(path: Path, by_sform: bool) -> tuple[np.ndarray, np.ndarray]:
    read = nifti.read(path)
    _check_header(path.name, read.header)
    volume = check_geometry(path.name, _in_3d(path.name, read.data), read.header.get_best_affine())
    if not by_sform:
        _check_forms(path.name, read.header)
    return volume.data, volume.affine


def _read_mgh(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    image = cast(nib.MGHImage, nib.load(path))
    content.check_size(path.name, image.shape, 4, nifti.MAX_BYTES)
    # nibabel gives a place to a volume that has none.
    with (gzip.open if path.name.lower().endswith(".mgz") else open)(path, "rb") as file:
        known = struct.unpack(">h", file.read(30)[28:])[0] > 0
    return _in_3d(path.name, np.asarray(image.dataobj)), np.asarray(image.affine, float) if known else None


def _in_3d(name: str, data: np.ndarray) -> np.ndarray:
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise BadInput(
            f"{name} is {data.ndim}D ({'×'.join(map(str, data.shape))}); extract one 3D volume and try again."
        )
    return data


def _check_header(name: str, header: nib.nifti1.Nifti1Header) -> None:
    units = header.get_xyzt_units()[0]
    if units not in ("mm", "unknown"):
        raise BadInput(
            f"{name} gives its lengths in {units}s; BrainGen needs millimetres: correct the units in its header."
        )
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        raise BadInput(
            f"{name} does not say how it lies in space (sform and qform are not set), so left and right are unknown; "
            "convert it from DICOM again, or set its affine."
        )


def _check_forms(name: str, header: nib.nifti1.Nifti1Header) -> None:
    """Refuse a header whose two accounts of the volume's place differ, because tools show it in either."""
    if apart := millimetres_apart(header):
        raise BadInput(
            f"{name} says two things of its place, up to {apart:.0f} mm apart: FSL, nibabel and FreeSurfer go by its "
            "sform, 3D Slicer and ITK by its qform if the sform's code is not 1. Write the right one into both."
        )


def millimetres_apart(header: nib.nifti1.Nifti1Header) -> float:
    """How far apart sform and qform put a corner of the volume at most; 0 if that is rounding, or one is not set."""
    if header["sform_code"] <= 0 or header["qform_code"] <= 0:
        return 0.0
    sform, qform = header.get_sform(), header.get_qform()
    apart = distance(header.get_data_shape()[:3], sform, qform)
    return apart if apart > FORMS_APART * np.linalg.norm(sform[:3, :3], axis=0).max() else 0.0


def distance(shape: Sequence[int], one: np.ndarray, other: np.ndarray) -> float:
    """The largest distance between the places that two affines give a corner of a volume, mm."""
    corners = np.array([[*corner, 1.0] for corner in np.ndindex(2, 2, 2)]) * [*(n - 1 for n in shape), 1]
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


def _read_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    read = nrrd.read(path)
    if read.data.ndim != 3:
        sizes = "×".join(map(str, read.data.shape))
        raise BadInput(f"{path.name} is {read.data.ndim}D ({sizes}); extract one 3D volume and try again.")
    return read.data, read.affine


_NIFTI = (".nii", ".nii.gz")
_READERS = {
    ".nrrd": _read_nrrd,
    ".mgh": _read_mgh,
    ".mgz": _read_mgh,
}


def check_geometry(name: str, data: np.ndarray, affine: np.ndarray | None) -> Volume:
    """A volume of the file ``name``, if its place in space is known and plausible (None: the file does not say).

    Raises:
        BadInput: it is not.
    """
    if affine is None:
        raise BadInput(
            f"{name} does not say how it lies in space, so left and right are unknown; save it again from a program "
            "that knows, or convert it from DICOM again."
        )
    if min(data.shape) < MIN_SLICES:
        raise BadInput(
            f"{name} has {'×'.join(map(str, data.shape))} voxels: BrainGen needs a volume of several slices."
        )
    if not np.all(np.isfinite(affine)) or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise BadInput(f"{name} has an affine that maps no volume to space; convert it from DICOM again.")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < SPACING_MM[0] or spacing.max() > SPACING_MM[1]:
        raise BadInput(
            f"{name} has voxels of {' × '.join(f'{size:.4g}' for size in spacing)} mm, which is implausible: they "
            "are probably not in millimetres; correct the spacing in its header."
        )
    axes = affine[:3, :3] / spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() > MAX_SHEAR:
        raise BadInput(
            f"{name} has a sheared grid (its axes are not at right angles); resample it to a regular grid."
        )
    return Volume(data, affine)
