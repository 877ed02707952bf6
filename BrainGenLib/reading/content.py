"""Bytes of a file, inflated where they are gzipped: block by block, never more than the header declares."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np

from BrainGenLib.errors import BadInput

# Some programs fill up the last block of a file; tapes have blocks of 10 kB.
PADDING = 10_240
# bgzip makes one member of 64 kB of data each: enough for 4 GB.
MAX_MEMBERS = 2**16

_READ = 2**16
_INFLATED = 2**20


def blocks(name: str, file: IO[bytes], *, compressed: bool) -> Iterator[bytes]:
    """The rest of a file, none of the blocks empty.

    Raises:
        BadInput: compressed data are damaged or end early, bytes that are no gzip follow them, or there are too many
            members. ``name`` is that of the file, for the sentence.
    """
    if compressed:
        try:
            yield from _inflated(name, file)
        except zlib.error as error:
            raise BadInput(f"{name} is damaged: its compressed data cannot be read; compress it again.") from error
    else:
        while block := file.read(_INFLATED):
            yield block


def _inflated(name: str, file: IO[bytes]) -> Iterator[bytes]:
    ready = file.read(_READ)
    for _ in range(MAX_MEMBERS):
        inflater = zlib.decompressobj(31)
        while not inflater.eof:
            data = inflater.decompress(ready, _INFLATED)
            ready = inflater.unconsumed_tail
            if data:
                yield data
            # Without data and without end, zlib has taken all that there was. More has to come, or this never ends.
            elif not inflater.eof and (ready or not (ready := file.read(_READ))):
                raise BadInput(f"{name} is incomplete: its compressed data end early; send or copy it again.")
        # Zero bytes behind a gzip stream fill up a block. Another member goes on where this one ended.
        ready = inflater.unused_data.lstrip(b"\0")
        while not ready and (more := file.read(_READ)):
            ready = more.lstrip(b"\0")
        if not ready:
            return
        if len(ready) < 2:
            ready += file.read(_READ)
        if not ready.startswith(b"\x1f\x8b"):
            raise BadInput(f"{name} is followed by bytes that are no gzip; compress it again.")
    raise BadInput(f"{name} is compressed in more than {MAX_MEMBERS} parts; compress it again as one.")


def exactly(name: str, pieces: Iterator[bytes], declared: int) -> Iterator[bytes]:
    """As many bytes as a header declares.

    Raises:
        BadInput: fewer come, or more than a block could be filled up with; and as :func:`blocks`.
    """
    left = declared
    for piece in pieces:
        if left > 0:
            yield piece[:left]
        left -= len(piece)
        if left < -PADDING:
            raise BadInput(f"{name} holds more than its header says.")
    if left > 0:
        raise BadInput(f"{name} is incomplete: it ends before its last voxel; send or copy it again.")


def array(name: str, pieces: Iterator[bytes], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array from bytes whose first axis varies fastest, of ``shape`` and ``dtype``.

    Raises:
        BadInput: as :func:`exactly`.
    """
    # Memory is taken as it is filled, so that a header alone costs nothing.
    values = np.empty(shape, dtype, order="F")
    target, done = values.reshape(-1, order="F").view(np.uint8), 0
    for piece in exactly(name, pieces, values.nbytes):
        target[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
    return values


def check_size(name: str, shape: tuple[int, ...], itemsize: int, max_bytes: int) -> None:
    """Let only those sizes pass that can be, and that fit into ``max_bytes`` as float32 or wider.

    Raises:
        BadInput: an axis has no voxel, or there are too many.
    """
    if min(shape) < 1:
        raise BadInput(f"{name} says that it has {'×'.join(map(str, shape))[:80]} voxels, which cannot be.")
    voxels = 1
    for size in shape:
        voxels *= size
        if voxels * max(itemsize, 4) > max_bytes:
            raise BadInput(f"{name} is larger than the {max_bytes / 2**20:.0f} MB that a volume may take in memory.")
