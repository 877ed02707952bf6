"""NRRD files, read by a strict parser of our own.

Readers differ in how they split a header, so a file that one has checked may be another file to the next, with voxels
from elsewhere. Here one parser checks and reads: printable text, known fields, each once, voxels in the same file.
Format: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from BrainGenLib.errors import BadInput
from BrainGenLib.reading import content

# 1024³ voxels as float32.
MAX_BYTES = 2**32
HEADER_BYTES = 2**20
MAX_LINES = 20_000

_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: dtype for dtype, names in _TYPES.items() for name in names.split(", ")}
# From the named world to RAS+.
_SPACES = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
_MILLIMETRES = {"", "mm", "millimeter", "millimeters", "millimetre", "millimetres"}
_IN_SPACE = {"domain", "space", "???", "none"}
_LAYER = {"list", "vector", "time", "scalar", "stub", "???", "none"}
_FIELDS = {
    *("type", "dimension", "sizes", "encoding", "endian", "space", "space dimension", "space directions"),
    *("space origin", "space units", "kinds", "byte skip", "byteskip", "line skip", "lineskip"),
    # These change neither the values of voxels nor their place.
    *(
        "content",
        "number",
        "labels",
        "units",
        "measurement frame",
        "centers",
        "centerings",
        "thicknesses",
        "spacings",
    ),
    *("axis mins", "axismins", "axis maxs", "axismaxs", "min", "max", "old min", "oldmin", "old max", "oldmax"),
    *("sample units", "sampleunits"),
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_VECTOR = rf"\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)"
_DIRECTION = re.compile(rf"\s*(?:{_VECTOR}|(none))(?=\s|\(|$)", re.ASCII)
_ORIGIN = re.compile(_VECTOR, re.ASCII)


@dataclass
class Nrrd:
    """What a file holds.

    Attributes:
        data: (i, j, k) in the file's axis order, or (layer, i, j, k), of the file's type.
        affine: 4×4, voxel to world, RAS+ mm; None if the header does not say how the volume lies in a patient.
        pairs: of key and value, e.g. ``Segment0_Name``.
    """

    data: np.ndarray
    affine: np.ndarray | None
    pairs: dict[str, str]


@dataclass
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype
    compressed: bool
    axes: list[int]
    affine: np.ndarray | None
    pairs: dict[str, str]


def read(path: Path, max_bytes: int = MAX_BYTES) -> Nrrd:
    """Read a file that needs at most ``max_bytes`` in memory as float32 or wider.

    Raises:
        BadInput: it is damaged, too large, says nothing that can be relied on, or holds something other than one grey
            value per voxel of a 3D volume or of layers of it.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        header = _header(path.name, file, max_bytes)
        pieces = content.blocks(path.name, file, compressed=header.compressed)
        data = content.array(path.name, pieces, header.shape, header.dtype)
    # Layers first; axes of one voxel that do not lie in space are none.
    layers = [axis for axis in range(data.ndim) if axis not in header.axes and data.shape[axis] > 1]
    data = data.transpose([axis for axis in range(data.ndim) if axis not in header.axes] + header.axes)
    data = data.reshape([*(header.shape[axis] for axis in layers), *data.shape[-3:]])
    return Nrrd(data.astype(data.dtype.newbyteorder("="), copy=False), header.affine, header.pairs)


def check(path: Path, max_bytes: int) -> None:
    """Let a file pass that :func:`read` can read; its voxels are counted, not kept.

    Raises:
        BadInput, OSError: as :func:`read`.
    """
    with path.open("rb") as file:
        header = _header(path.name, file, max_bytes)
        pieces = content.blocks(path.name, file, compressed=header.compressed)
        for _ in content.exactly(path.name, pieces, math.prod(header.shape) * header.dtype.itemsize):
            pass


def _header(name: str, file: IO[bytes], max_bytes: int) -> _Header:
    if not re.fullmatch(rb"NRRD000[1-5]\r?\n", file.readline(16)):
        raise BadInput(f"{name} is not an NRRD file.")
    fields, pairs = _fields(name, file)
    encoding = fields.get("encoding", "nothing").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise BadInput(f"{name} is encoded as {encoding[:20]!r}; write it as raw or gzip.")
    dtype = _dtype(name, fields)
    shape = _shape(name, fields)
    content.check_size(name, shape, dtype.itemsize, max_bytes)
    if any(fields.get(skip, "0") != "0" for skip in ("byte skip", "byteskip", "line skip", "lineskip")):
        raise BadInput(f"{name} says that its voxels do not follow its header; write it again as one NRRD file.")
    directions = _directions(name, fields, len(shape))
    axes = _axes(name, fields, shape, directions)
    return _Header(shape, dtype, encoding != "raw", axes, _affine(name, fields, directions), pairs)


def _fields(name: str, file: IO[bytes]) -> tuple[dict[str, str], dict[str, str]]:
    """Fields by their names in small letters, and pairs."""
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    left = HEADER_BYTES
    for _ in range(MAX_LINES):
        line = file.readline(left)
        left -= len(line)
        if not line.endswith(b"\n"):
            raise BadInput(f"{name} has a header without end." if left <= 0 else f"{name} ends within its header.")
        if line.startswith(b"#"):
            continue
        text = _text(line)
        if not text:
            return fields, pairs
        # The first separator counts, of whichever kind.
        separator = re.search(":=|: ", text)
        key, value = (text[: separator.start()], text[separator.end() :]) if separator else (text, "")
        if separator and separator[0] == ":=" and key and _printable(key) not in pairs:
            pairs[_printable(key)] = _unescaped(_printable(value))
        elif text != _printable(text):
            raise BadInput(f"{name} has a header with characters that cannot be printed; save it again.")
        elif separator and separator[0] == ": " and key.lower() in _FIELDS - fields.keys():
            fields[key.lower()] = value.strip()
        else:
            raise BadInput(
                f"{name} has a header line that is not accepted ({text[:40]!r}): known fields, each once, with the "
                "voxels in the same file. Save it again as one NRRD file."
            )
    raise BadInput(f"{name} has a header without end.")


def _text(line: bytes) -> str:
    line = line.removesuffix(b"\n").removesuffix(b"\r").replace(b"\t", b" ")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        # Names in DICOM, which programs copy into pairs.
        return line.decode("latin-1")


def _printable(text: str) -> str:
    """DICOM fills up with spaces that do not break, and ends lines of text with two characters."""
    return "".join(one if one.isprintable() else " " for one in text)


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "\\": "\\"}.get(match[1], match[0]), value)


def _dtype(name: str, fields: dict[str, str]) -> np.dtype:
    kind = _DTYPES.get(fields.get("type", "").lower())
    if kind is None:
        raise BadInput(f"{name} does not hold one grey value per voxel; convert it.")
    dtype = np.dtype(kind)
    if dtype.itemsize == 1:
        return dtype
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big"):
        raise BadInput(f"{name} does not say in which order the bytes of its values are (endian); save it again.")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _shape(name: str, fields: dict[str, str]) -> tuple[int, ...]:
    sizes = fields.get("sizes", "").split()
    # Longer numbers are larger than any volume.
    if not sizes or not all(re.fullmatch(r"[0-9]{1,18}", size) for size in sizes):
        raise BadInput(f"{name} does not say how many voxels it has along each of its axes.")
    if fields.get("dimension") != str(len(sizes)):
        raise BadInput(f"{name} does not say how many axes it has, or says another number than it has sizes.")
    if not 3 <= len(sizes) <= 6:
        raise BadInput(f"{name} is {len(sizes)}D ({'×'.join(sizes)}); extract one 3D volume and try again.")
    return tuple(int(size) for size in sizes)


def _directions(name: str, fields: dict[str, str], dimension: int) -> list[np.ndarray | None] | None:
    """Vector of each axis, None of one that does not lie in space; None if the header has none at all."""
    text = fields.get("space directions")
    if text is None:
        return None
    found, place = [], 0
    while match := _DIRECTION.match(text, place):
        found.append(None if match[4] else _vector(match))
        place = match.end()
    if text[place:].strip() or len(found) != dimension:
        raise BadInput(
            f"{name} has space directions other than three numbers for each axis of one 3D volume; correct its "
            "header, or save it again."
        )
    return found


def _axes(
    name: str, fields: dict[str, str], shape: tuple[int, ...], directions: list[np.ndarray | None] | None
) -> list[int]:
    """The three axes that lie in space, in the order of the file."""
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()] or ["???"] * len(shape)
    if len(kinds) != len(shape):
        raise BadInput(f"{name} has {len(kinds)} kinds of axes for {len(shape)} axes.")
    if directions is not None:
        axes = [axis for axis, direction in enumerate(directions) if direction is not None]
    elif len(shape) == 3:
        axes = [0, 1, 2]
    else:
        axes = [axis for axis, kind in enumerate(kinds) if kind in ("domain", "space")]
    others = [axis for axis in range(len(shape)) if axis not in axes]
    if len(axes) != 3 or sum(shape[axis] > 1 for axis in others) > 1:
        raise BadInput(f"{name} is {len(shape)}D ({'×'.join(map(str, shape))}); extract one 3D volume and try again.")
    if not all(kinds[axis] in _IN_SPACE for axis in axes) or not all(kinds[axis] in _LAYER for axis in others):
        raise BadInput(f"{name} holds colours, vectors or tensors; convert it to one grey value per voxel.")
    return axes


def _affine(name: str, fields: dict[str, str], directions: list[np.ndarray | None] | None) -> np.ndarray | None:
    units = re.sub(r'["\s]+', " ", fields.get("space units", "")).strip().lower()
    if not set(units.split()) <= _MILLIMETRES:
        raise BadInput(f"{name} gives its lengths in {units[:40]}; BrainGen needs millimetres: correct its header.")
    world = _SPACES.get(fields.get("space", "").lower())
    origin = fields.get("space origin")
    if directions is None or world is None or origin is None:
        return None
    if not (match := _ORIGIN.fullmatch(origin)):
        raise BadInput(f"{name} has a space origin that is not three numbers; correct its header.")
    affine = np.eye(4)
    affine[:3, :3] = np.transpose([direction for direction in directions if direction is not None])
    affine[:3, 3] = _vector(match)
    if not np.isfinite(affine).all():
        raise BadInput(f"{name} has space directions or an origin beyond all numbers; correct its header.")
    return np.diag([*world, 1.0]) @ affine


def _vector(match: re.Match[str]) -> np.ndarray:
    return np.array([float(number) for number in match.groups()[:3]])
