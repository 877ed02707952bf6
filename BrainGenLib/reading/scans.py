"""Scans from files, and their intensities above those of air."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from BrainGenLib.errors import BadInput
from BrainGenLib.reading.volume import Volume, read_volume

DARKEST, BRIGHTEST = 0.1, 99.5
"""Percentiles that stand for the extremes of a scan, which single voxels may be far beyond."""
DARK = 0.005
"""How much brighter than air the darkest tissue within a mask is, as a share of the range of its intensities."""
CONSTANT = 0.2
"""Share of a volume's border that has one and the same value where a mask or a padding left it."""
FACE = 0.95
"""The same of one face, where a slab was added."""
PLATEAU = 0.05
"""Values this near to the darkest, as a share of the range, may be air."""
AIR = 0.2
"""Share of a scan that lies there where it shows air of its own, beside what it is padded with."""


def read_scan(path: Path, *, by_sform: bool = False) -> Volume:
    """A scan as float32.

    Args:
        by_sform: of :func:`~BrainGenLib.reading.volume.read_volume`.

    Raises:
        BadInput: as :func:`~BrainGenLib.reading.volume.read_volume`, or it holds NaN or infinite values, or the same
            value everywhere.
    """
    volume = read_volume(path, by_sform=by_sform)
    data = volume.data.astype(np.float32)
    if broken := int(np.count_nonzero(~np.isfinite(data))):
        raise BadInput(
            f"{path.name} is NaN or infinite in {broken} of its {data.size} voxels; replace them by 0 and try again."
        )
    if float(data.min()) == float(data.max()):
        raise BadInput(f"{path.name} is empty: every voxel is {data.flat[0]:g}. Choose another scan.")
    return Volume(data, volume.affine)


def air(data: np.ndarray) -> float:
    """The intensity of air in a scan (any shape of three axes), in the scan's units.

    It need not be 0: scans are z-scored, shifted, or padded with values of another scale. A constant background is
    air where it is darker than nearly all of the scan and not further below than the scan's own range, and where the
    scan shows no other air. Where it is not, as the 0 around a z-scored brain or a padding of -32768, and where there
    is none, air is the darkest percentile of everything else.
    """
    return _air(data, _constants(data))


def _air(data: np.ndarray, constants: list[float]) -> float:
    rest = data[~np.isin(data, constants)] if constants else data
    # Every seventh voxel: percentiles of millions of values take seconds.
    sample = rest.reshape(-1)[:: 7 if rest.size > 100_000 else 1]
    if not sample.size:
        return float(data.min())
    dark, bright = (float(value) for value in np.percentile(sample, (DARKEST, BRIGHTEST)))
    if not constants:
        return dark
    size = bright - dark
    level = next((value for value in constants if dark - size <= value <= dark), None)
    if level is None or (level < dark - PLATEAU * size and np.mean(sample <= dark + PLATEAU * size) > AIR):
        return dark - DARK * size
    return level


def without_air(data: np.ndarray) -> np.ndarray:
    """A scan whose air is 0, float32: what is darker is air too.

    A constant background becomes 0 whatever its value is. Where all values are whole numbers some of them are equal
    to it by chance, and only what is connected with the volume's border is background.
    """
    constants = _constants(data)
    level = _air(data, constants)
    scan = np.maximum(data.astype(np.float32) - np.float32(level), 0)
    if brighter := [value for value in constants if value > level]:
        outside = np.isin(data, brighter)
        if np.array_equal(data, np.round(data)):
            pieces, count = ndimage.label(outside)
            at_border = np.zeros(count + 1, bool)
            at_border[np.concatenate([face.ravel() for face in _faces(pieces)])] = True
            at_border[0] = False
            outside = at_border[pieces]
        scan[outside] = 0
    return scan


def above_air(data: np.ndarray) -> np.ndarray:
    """As :func:`without_air`, with the brightest percentile cut: far outliers would scale everything else."""
    scan = without_air(data)
    bright = scan[scan > 0]
    if bright.size:
        np.minimum(scan, np.percentile(bright[:: 7 if bright.size > 100_000 else 1], BRIGHTEST), out=scan)
    return scan


def _constants(data: np.ndarray) -> list[float]:
    """The values that much of a volume's border has, or nearly all of one of its faces; the former first."""
    found = []
    faces = [face.ravel() for face in _faces(data)]
    for part, share in ((np.concatenate(faces), CONSTANT), *((face, FACE) for face in faces)):
        values, counts = np.unique(part, return_counts=True)
        most = int(counts.argmax())
        if counts[most] > share * counts.sum():
            found.append(float(values[most]))
    return list(dict.fromkeys(found))


def _faces(data: np.ndarray) -> list[np.ndarray]:
    return [np.take(data, end, axis) for axis in range(3) for end in (0, -1)]
