"""NIfTI files with header and voxels in one: one header, nibabel's, is what is checked and what is read by.

Extensions (comments, DICOM, XML) are passed over; nothing parses them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from BrainGenLib.errors import BadInput
from BrainGenLib.reading import content

# 1024³ voxels as float32.
MAX_BYTES = 2**32
# Of what stands before the voxels: a series' DICOM headers as JSON have megabytes.
HEADER_BYTES = 2**24

# Data types with one grey value per voxel of up to 8 bytes.
_TYPES = (2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280)
# The intents of CIFTI, which holds surfaces and XML.
_CIFTI = range(3000, 3100)


@dataclass
class Nifti:
    """What a file holds.

    Attributes:
        data: in the file's axis order, scaled as the header says; of the file's type where it says nothing.
        header: of nibabel, for its affines, their codes and units.
    """

    data: np.ndarray
    header: nib.Nifti1Header


def read(path: Path, max_bytes: int = MAX_BYTES) -> Nifti:
    """Read a file, gzipped if its name ends with ``.gz``, that needs at most ``max_bytes`` as float32 or wider.

    Raises:
        BadInput: it is damaged, too large, another kind of file, or does not hold one grey value per voxel.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        pieces = content.blocks(path.name, file, compressed=path.name.lower().endswith(".gz"))
        header, pieces = _header(path.name, pieces, max_bytes)
        dtype = header.get_data_dtype()
        data = content.array(path.name, pieces, header.get_data_shape(), dtype)
    data = data.astype(dtype.newbyteorder("="), copy=False)
    slope, inter = header.get_slope_inter()
    if slope is not None:
        data = apply_read_scaling(data, np.float64(slope), np.float64(inter))
    return Nifti(data, header)


def header_of(path: Path) -> nib.Nifti1Header:
    """The header of a file, gzipped if its name ends with ``.gz``.

    Raises:
        BadInput, OSError: as :func:`read`.
    """
    with path.open("rb") as file:
        pieces = content.blocks(path.name, file, compressed=path.name.lower().endswith(".gz"))
        return _header(path.name, pieces, MAX_BYTES)[0]


def mapped(path: Path) -> np.ndarray:
    """The voxels of a file that is not compressed, as :func:`read` has them; mapped, if they need no scaling.

    Raises:
        BadInput: as :func:`read`.
        OSError: it cannot be opened.
        ValueError: it ends before its last voxel.
    """
    with path.open("rb") as file:
        header, _ = _header(path.name, content.blocks(path.name, file, compressed=False), MAX_BYTES)
    return np.asarray(ArrayProxy(path, header))


def check(path: Path, max_bytes: int) -> None:
    """Let a file pass that :func:`read` can read; its voxels are counted, not kept.

    Raises:
        BadInput, OSError: as :func:`read`.
    """
    with path.open("rb") as file:
        pieces = content.blocks(path.name, file, compressed=path.name.lower().endswith(".gz"))
        header, pieces = _header(path.name, pieces, max_bytes)
        declared = math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
        for _ in content.exactly(path.name, pieces, declared):
            pass


def _header(name: str, pieces: Iterator[bytes], max_bytes: int) -> tuple[nib.Nifti1Header, Iterator[bytes]]:
    """The header, and the bytes from the first voxel on."""
    head = _at_least(nib.Nifti2Header.sizeof_hdr, b"", pieces)
    try:
        header = _parsed(name, head)
    except BadInput:
        raise
    except (HeaderDataError, struct.error, ValueError, OverflowError) as error:
        raise BadInput(f"{name} is damaged: its header cannot be understood ({error}).") from error
    content.check_size(name, header.get_data_shape(), header.get_data_dtype().itemsize, max_bytes)
    offset = header.get_data_offset()
    return header, chain([_at_least(offset, head, pieces)[offset:]], pieces)


def _parsed(name: str, head: bytes) -> nib.Nifti1Header:
    for order in "<>":
        length = struct.unpack_from(f"{order}i", head)[0]
        if length == 348 and head[344:348] == b"n+1\0":
            header = nib.Nifti1Header(head[:length], order, check=False)
            break
        if length == 540 and head[4:12] == b"n+2\0\r\n\x1a\n":
            header = nib.Nifti2Header(head[:length], order, check=False)
            if header["intent_code"] in _CIFTI:
                raise BadInput(f"{name} is a CIFTI file; choose one 3D volume.")
            break
    else:
        raise BadInput(f"{name} is not a NIfTI file with header and voxels in one.")
    if not 1 <= header["dim"][0] <= 7:
        raise BadInput(f"{name} says that it has {header['dim'][0]} dimensions, which cannot be.")
    if header["datatype"] not in _TYPES:
        raise BadInput(f"{name} does not hold one grey value per voxel; convert it.")
    # The four bytes that say whether extensions follow belong to the header.
    if not length + 4 <= header["vox_offset"] <= HEADER_BYTES:
        raise BadInput(f"{name} says that its voxels begin at byte {header['vox_offset']:g}, which cannot be.")
    # Repairs small faults, as nibabel does when it loads a file.
    header.check_fix()
    # Raises where a slope has no intercept.
    header.get_slope_inter()
    return header


def _at_least(size: int, head: bytes, pieces: Iterator[bytes]) -> bytes:
    """``head`` with as many pieces more as it takes; fewer bytes where the file ends."""
    while len(head) < size and (piece := next(pieces, b"")):
        head += piece
    return head
