"""Scans from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from BrainGenLib.errors import BadInput
from BrainGenLib.reading.volume import Volume, read_volume


def read_scan(path: Path) -> Volume:
    """A scan as float32.

    Raises:
        BadInput: the file is no 3D NIfTI, NRRD or MGH volume; its place or units in space are unknown or implausible;
            it holds NaN or infinite values, or nothing at all.
    """
    volume = read_volume(path)
    data = volume.data.astype(np.float32)
    if broken := int(np.count_nonzero(~np.isfinite(data))):
        raise BadInput(
            f"{path.name} holds {broken} values that are NaN or infinite; replace them (by 0) and try again."
        )
    if float(data.min()) == float(data.max()):
        raise BadInput(f"{path.name} is empty: every voxel is {data.flat[0]:g}. Choose another scan.")
    return Volume(data, volume.affine)
