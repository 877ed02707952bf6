"""Nodes of a scene as the files of a job: NIfTI, uncompressed, where the scene shows them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from BrainGenLib.errors import BadInput
from BrainGenLib.scene.case_to_scene import TURNED
from BrainGenLib.scene.segmentation import label_map_of
from BrainGenLib.scene.volumes import turned, world_affine


def path_for(node: Any, folder: Path, role: str) -> Path:
    """Where to write a node as an input of a job: under the user's name for it, which the job's messages then use."""
    (folder / role).mkdir()
    name = re.sub(r"[^\w .+-]", "_", node.GetName() or role)
    return folder / role / f"{name[:80]}.nii"


def write_volume(node: Any, path: Path) -> None:
    """A scalar volume node as a ``.nii`` file, in the axis order that the case had which it came with.

    Raises:
        BadInput: the volume is empty, or lies under a transform that is not linear.
    """
    import slicer

    if node.GetImageData() is None or not node.GetImageData().GetNumberOfPoints():
        raise BadInput(f"{node.GetName()!r} holds no image; choose another volume.")
    volume, affine = slicer.util.arrayFromVolume(node).T, world_affine(node)
    if node.GetAttribute(TURNED):
        volume, affine = turned(volume, affine)
    _write(volume, affine, path)


def write_segmentation(node: Any, path: Path) -> None:
    """A segmentation node as a label map in a ``.nii`` file, on the grid that its editing follows.

    Raises:
        BadInput: as :func:`BrainGenLib.scene.segmentation.label_map_of`.
    """
    _write(*label_map_of(node), path)


def _write(volume: np.ndarray, affine: np.ndarray, path: Path) -> None:
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
