"""Volumes from files, checked once at the edge: their format, dimensions and place in space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from BrainGenLib.errors import BadInput
from BrainGenLib.reading import nifti, nrrd

# A spacing outside is a unit mistaken or a header invented, not an MRI of a head.
SPACING_MM = (0.1, 15.0)
# Fewer slices than this are no volume.
MIN_SLICES = 4
# Cosine between two voxel axes from which on a grid counts as sheared; less is rounding of the header.
MAX_SHEAR = 0.01


@dataclass
class Volume:
    """A checked volume: ``data`` (i, j, k) in the file's axis order, ``affine`` 4×4 voxel to world, RAS+ mm."""

    data: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size in mm along i, j, k."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def read_volume(path: Path) -> Volume:
    """A volume with the values and the type that its file holds.

    Raises:
        BadInput: the file is no 3D NIfTI, NRRD or MGH volume, or its place or units in space are unknown or
            implausible.
    """
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    try:
        data, affine = _reader(path.name.lower())(path)
    except BadInput:
        raise
    # Readers of damaged files raise whatever their parser stumbles over.
    except Exception as error:
        raise BadInput(
            f"{path.name} cannot be read as NIfTI, NRRD or MGH: it is of another kind or damaged ({error})."
        ) from error
    return check_geometry(path.name, data, affine)


def _reader(name: str) -> Callable[[Path], tuple[np.ndarray, np.ndarray | None]]:
    if name.endswith((".nrrd", ".nhdr")):
        return _read_nrrd
    return _read_nifti if name.endswith((".nii", ".nii.gz")) else _read_other


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    read = nifti.read(path)
    _check_header(path.name, read.header)
    return _in_3d(path.name, read.data), read.header.get_best_affine()


def _read_other(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = cast(SpatialImage, nib.load(path))
    if image.get_data_dtype().kind not in "iuf":
        raise BadInput(f"{path.name} holds colours or complex numbers; convert it to one grey value per voxel.")
    if isinstance(image, nib.nifti1.Nifti1Pair):
        _check_header(path.name, image.header)
    return _in_3d(path.name, np.asarray(image.dataobj)), np.asarray(image.affine, float)


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


def _read_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    read = nrrd.read(path)
    if read.data.ndim != 3:
        raise BadInput(f"{path.name} is not one 3D volume of grey values; extract one and try again.")
    return read.data, read.affine


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
