"""Whether a file from outside may be opened at all: kind, header and size, read by hand and within bounds.

What its values and its place in space are worth is for :mod:`BrainGenLib.reading`; here it counts that no reader can
be made to take more memory than the header admits, to follow a path, or to parse what is no image.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from BrainGenLib.errors import BadInput

ENDINGS = (".nii", ".nii.gz", ".nrrd")
# Of a volume in memory, as float32 or wider: 512³ voxels, or a head in 0.4 mm.
MAX_BYTES = 512 * 2**20
# Of an NRRD header, and of what stands before the voxels of a NIfTI.
HEADER_BYTES = 2**20
# Some programs fill up the last block of a file.
PADDING = 4096

_BLOCK = 2**20
# NIfTI data types with one grey value per voxel, and their bytes.
_NIFTI_TYPES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}
# The intents of CIFTI, which holds XML.
_CIFTI = range(3000, 3100)
_NRRD_TYPES = {
    1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
    2: "short, short int, signed short, signed short int, int16, int16_t, ushort, unsigned short, "
    "unsigned short int, uint16, uint16_t",
    4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
    8: "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t, ulonglong, "
    "unsigned long long, unsigned long long int, uint64, uint64_t, double",
}
_NRRD_BYTES = {name: size for size, names in _NRRD_TYPES.items() for name in names.split(", ")}
# Those that cannot change where or how voxels are read.
_NRRD_FIELDS = {
    *("type", "dimension", "sizes", "encoding", "endian", "content", "number", "labels", "units", "space"),
    *("space dimension", "space directions", "space origin", "space units", "measurement frame", "kinds"),
    *("centers", "centerings", "thicknesses", "spacings", "axis mins", "axis maxs", "min", "max", "sample units"),
}


def check(path: Path) -> None:
    """Let a file pass that a reader may open.

    Raises:
        BadInput: it is of another kind than its name says, damaged, too large, or built to mislead.
    """
    # A damaged header may say anything that struct, int and zlib stumble over.
    try:
        with path.open("rb") as file:
            if path.name.endswith(".nrrd"):
                _check_nrrd(path.name, file)
            else:
                _check_nifti(path.name, file, compressed=path.name.endswith(".gz"))
    except (zlib.error, struct.error, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path.name} is damaged or not what its name says.") from error


def _check_nifti(name: str, file: IO[bytes], *, compressed: bool) -> None:
    blocks = _inflated(name, file) if compressed else _blocks(file)
    head = b""
    for block in blocks:
        head += block
        if len(head) >= 540:
            break
    length, offset, itemsize, shape = _nifti_header(name, head)
    if not length <= offset <= HEADER_BYTES:
        raise BadInput(f"{name} says that its voxels begin at byte {offset:g}, which cannot be.")
    _check_content(name, _size(name, shape, itemsize) + math.ceil(offset), len(head), blocks)


def _nifti_header(name: str, head: bytes) -> tuple[int, float, int, list[int]]:
    """Length of the header, offset of the voxels, bytes of one, and how many there are along each axis."""
    for order in "<>":
        length = struct.unpack_from(f"{order}i", head)[0]
        if length == 348 and head[344:348] == b"n+1\0":
            dims = struct.unpack_from(f"{order}8h", head, 40)
            kind = struct.unpack_from(f"{order}h", head, 70)[0]
            offset = struct.unpack_from(f"{order}f", head, 108)[0]
            break
        if length == 540 and head[4:12] == b"n+2\0\r\n\x1a\n":
            dims = struct.unpack_from(f"{order}8q", head, 16)
            kind = struct.unpack_from(f"{order}h", head, 12)[0]
            offset = struct.unpack_from(f"{order}q", head, 168)[0]
            if struct.unpack_from(f"{order}i", head, 504)[0] in _CIFTI:
                raise BadInput(f"{name} is a CIFTI file; send one 3D volume.")
            break
    else:
        raise BadInput(f"{name} is not a NIfTI file with header and voxels in one.")
    if not 1 <= dims[0] <= 7:
        raise BadInput(f"{name} says that it has {dims[0]} dimensions, which cannot be.")
    if kind not in _NIFTI_TYPES:
        raise BadInput(f"{name} does not hold one grey value per voxel; convert it.")
    # The four bytes that say whether extensions follow belong to the header.
    return length + 4, offset, _NIFTI_TYPES[kind], list(dims[1 : 1 + dims[0]])


def _check_nrrd(name: str, file: IO[bytes]) -> None:
    if file.readline(16).rstrip(b"\r\n") not in {b"NRRD000%d" % version for version in range(1, 6)}:
        raise BadInput(f"{name} is not an NRRD file.")
    fields = _nrrd_fields(name, file)
    if fields.get("type") not in _NRRD_BYTES:
        raise BadInput(f"{name} does not hold one grey value per voxel; convert it.")
    sizes = fields.get("sizes", "").split()
    # Readers differ in what else they take for a number.
    shape = [int(size) for size in sizes if size.isascii() and size.isdigit()]
    if not shape or len(shape) < len(sizes) or fields.get("dimension") != str(len(shape)):
        raise BadInput(f"{name} does not say how many voxels it has along each of its axes.")
    declared = _size(name, shape, _NRRD_BYTES[fields["type"]])
    match fields.get("encoding"):
        case "raw":
            blocks = _blocks(file)
        case "gzip" | "gz":
            blocks = _inflated(name, file)
        case other:
            raise BadInput(f"{name} is encoded as {(other or 'nothing')[:20]!r}; write it as raw or gzip.")
    _check_content(name, declared, 0, blocks)


def _nrrd_fields(name: str, file: IO[bytes]) -> dict[str, str]:
    fields: dict[str, str] = {}
    start = file.tell()
    while line := file.readline(HEADER_BYTES):
        if file.tell() - start >= HEADER_BYTES:
            raise BadInput(f"{name} has a header without end.")
        text = line.decode("utf-8").rstrip("\r\n")
        if not text:
            return fields
        colon = text.find(":")
        # Comments, and pairs of key and value (``key:=value``), mean nothing to a reader.
        if text.startswith("#") or text[colon : colon + 2] == ":=":
            continue
        field, separator, value = text.partition(": ")
        field = field.lower()
        if not separator or field in fields or field not in _NRRD_FIELDS:
            raise BadInput(
                f"{name} has a header line that is not accepted ({text[:40]!r}); voxels must stand in the same file."
            )
        fields[field] = value.strip().lower()
    raise BadInput(f"{name} ends within its header.")


def _size(name: str, shape: list[int], itemsize: int) -> int:
    """Bytes of the voxels in the file."""
    if min(shape) < 1:
        raise BadInput(f"{name} says that it has {'×'.join(map(str, shape))[:80]} voxels, which cannot be.")
    voxels = math.prod(shape)
    if voxels * max(itemsize, 4) > MAX_BYTES:
        raise BadInput(f"{name} is larger than the {MAX_BYTES / 2**20:.0f} MB that a volume may take in memory.")
    return voxels * itemsize


def _check_content(name: str, declared: int, length: int, blocks: Iterator[bytes]) -> None:
    """Compare what the header declares with ``length`` and what is still to come."""
    for block in blocks:
        length += len(block)
        if length > declared + PADDING:
            break
    if length < declared:
        raise BadInput(f"{name} is incomplete: it ends before its last voxel; send it again.")
    if length > declared + PADDING:
        raise BadInput(f"{name} holds more than its header says.")


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _inflated(name: str, file: IO[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(31)
    for compressed in _blocks(file):
        while compressed:
            yield inflater.decompress(compressed, _BLOCK)
            compressed = inflater.unconsumed_tail
        if inflater.unused_data:
            # A million empty parts would take hours and bring nothing.
            raise BadInput(f"{name} is compressed in several parts; compress it again as one.")
    yield inflater.flush()
    if not inflater.eof:
        raise BadInput(f"{name} is incomplete: its compressed data end early; send it again.")
