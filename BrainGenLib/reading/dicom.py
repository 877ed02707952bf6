"""DICOM series as volumes: slices that make one regular stack, or a sentence that says why they do not.

Readers of series take the files as they come: a slice that is missing stretches the others, and echoes or
orientations of one series are mixed into one volume.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from BrainGenLib.errors import BadInput
from BrainGenLib.reading.volume import MIN_SLICES

_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
_DESCRIPTION, _ECHO, _TIME_POINT, _KIND = "0008|103e", "0018|0081", "0020|0100", "0008|0008"
_TOLERANCE_MM = 0.05
"""Of a slice's place, beside 1 % of the distance of slices."""


@dataclass
class Stack:
    """Files of one volume in the order of their place, and what their series is called."""

    name: str
    files: list[str]


@dataclass
class _Slice:
    file: str
    position: np.ndarray
    normal: np.ndarray


def stacks(folder: Path, max_bytes: int) -> list[Stack]:
    """Every stack of at least :data:`BrainGenLib.reading.volume.MIN_SLICES` slices among the files of a folder.

    A series of several echoes, time points or orientations makes one stack of each.

    Args:
        folder: whose files may be of any kind.
        max_bytes: that a volume may take as float32.

    Raises:
        BadInput: a series does not say where its slices lie, lacks one, has several at one place, or is too large.
    """
    import SimpleITK as sitk

    found = []
    for number, series in enumerate(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)) or (), start=1):
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)
        if len(files) >= MIN_SLICES:
            found += list(_stacks(f"series-{number}", files, max_bytes))
    return found


def _stacks(name: str, files: tuple[str, ...], max_bytes: int) -> Iterator[Stack]:
    groups: dict[tuple, list[_Slice]] = defaultdict(list)
    for file in files:
        header = _header(name, file)
        name = re.sub(r"\W+", "-", header.get(_DESCRIPTION, "")).strip("-") or name
        position, orientation = _numbers(name, header, _POSITION, 3), _numbers(name, header, _ORIENTATION, 6)
        kind = (*orientation.round(3), *(header.get(tag, "").strip() for tag in (_ECHO, _TIME_POINT, _KIND)))
        slice_ = _Slice(file, position, np.cross(orientation[:3], orientation[3:]))
        groups[(*kind, header["size"], header["spacing"])].append(slice_)
        if prod(int(n) for n in header["size"].split("x")) * len(files) * 4 > max_bytes:
            raise BadInput(f"The DICOM series {name} is larger than a volume may be; send one of a head.")
    kept = [group for group in groups.values() if len(group) >= MIN_SLICES]
    for number, group in enumerate(kept, start=1):
        yield Stack(name if len(kept) == 1 else f"{name}-{number}", _in_order(name, group))


def _header(name: str, file: str) -> dict[str, str]:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise BadInput(f"A file of the DICOM series {name} cannot be read; export the series again.") from error
    header = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    header["size"] = "x".join(map(str, reader.GetSize()))
    header["spacing"] = " ".join(f"{value:.4f}" for value in reader.GetSpacing()[:2])
    return header


def _numbers(name: str, header: dict[str, str], tag: str, count: int) -> np.ndarray:
    try:
        numbers = np.array([float(part) for part in header.get(tag, "").split("\\")])
    except ValueError:
        numbers = np.zeros(0)
    if numbers.size != count or not np.isfinite(numbers).all():
        raise BadInput(
            f"The DICOM series {name} does not say where its slices lie (position and orientation of the patient); "
            "convert it with a tool that knows the scanner."
        )
    return numbers


def _in_order(name: str, group: list[_Slice]) -> list[str]:
    """The files of a stack by their place along its normal.

    Raises:
        BadInput: they are not evenly spaced along it.
    """
    group = sorted(group, key=lambda each: float(each.position @ each.normal))
    steps = np.diff([each.position for each in group], axis=0)
    usual = np.median(steps, axis=0)
    distance = float(np.linalg.norm(usual))
    along = steps @ group[0].normal
    if along.min() < _TOLERANCE_MM:
        raise BadInput(
            f"The DICOM series {name} has several slices at one place: it holds more than one volume. Export one of "
            "its echoes, time points or phases."
        )
    if np.linalg.norm(steps - usual, axis=1).max() > max(_TOLERANCE_MM, 0.01 * distance):
        raise BadInput(
            f"The DICOM series {name} is not evenly spaced: its slices lie {along.min():.2f} to {along.max():.2f} mm "
            "apart, so that some are missing, or it was acquired so. Export all of its slices, or resample it."
        )
    if distance - abs(float(usual @ group[0].normal)) > _TOLERANCE_MM:
        raise BadInput(f"The DICOM series {name} is sheared (gantry tilt); resample it to a regular grid.")
    return [each.file for each in group]
