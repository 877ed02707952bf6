"""A folder of files as a stream, a gzipped tar, and back; only what BrainGen writes into a case passes."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from BrainGenLib.errors import BadInput

_BLOCK = 2**20
_RECORD = tarfile.BLOCKSIZE
# A case of ten contrasts in 0.5 mm, or a sweep of 32 frames of a scan in 1 mm, with room to spare.
MAX_BYTES = 8 * 2**30
MAX_FILES = 400
_NAME = re.compile(r"((template|frame-[0-9]{2})/)?[A-Za-z0-9][A-Za-z0-9_-]*\.(nii|json)")


def pack(folder: Path) -> Iterator[bytes]:
    """The files of a folder."""
    # Level 1: the zeros around a brain go, and the worker keeps the processor.
    deflater = zlib.compressobj(1, zlib.DEFLATED, 31)
    for piece in _records(folder):
        if data := deflater.compress(piece):
            yield data
    yield deflater.flush()


def _records(folder: Path) -> Iterator[bytes]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        member = tarfile.TarInfo(path.relative_to(folder).as_posix())
        member.size = path.stat().st_size
        yield member.tobuf(tarfile.USTAR_FORMAT)
        with path.open("rb") as file:
            while data := file.read(_BLOCK):
                yield data
        yield bytes(-member.size % _RECORD)
    yield bytes(2 * _RECORD)


def unpack(pieces: Iterable[bytes], folder: Path) -> None:
    """Write the files of a stream into a new folder.

    Raises:
        BadInput: the stream ends early, is too large, or holds something that is no file of a case.
    """
    stream = _Stream(pieces)
    folder.mkdir()
    # By hand, because the readers of tarfile take long names and sparse files of any size into memory.
    for _ in range(MAX_FILES):
        header = stream.read(_RECORD)
        if not any(header):
            return
        try:
            member = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        except (tarfile.TarError, UnicodeDecodeError, ValueError) as error:
            raise BadInput("The archive is damaged.") from error
        path = folder / member.name
        if member.type != tarfile.REGTYPE or member.size < 0 or not _NAME.fullmatch(member.name) or path.exists():
            raise BadInput(f"The archive holds {member.name[:80]!r}, which is no file of a case.")
        path.parent.mkdir(exist_ok=True)
        left = member.size
        with path.open("wb") as file:
            while left:
                data = stream.read(min(left, _BLOCK))
                file.write(data)
                left -= len(data)
        stream.read(-member.size % _RECORD)
    raise BadInput("The archive holds too many files.")


class _Stream:
    """Reads from gzipped pieces; no more than a block is in memory."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._inflater = zlib.decompressobj(31)
        self._ready = b""
        self._total = 0

    def read(self, size: int) -> bytes:
        """As many bytes as asked for."""
        while len(self._ready) < size:
            self._ready += self._more()
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _more(self) -> bytes:
        compressed = self._inflater.unconsumed_tail or next(self._pieces, b"")
        if not compressed or self._inflater.eof:
            raise BadInput("The archive is incomplete.")
        try:
            data = self._inflater.decompress(compressed, _BLOCK)
        except zlib.error as error:
            raise BadInput("The archive is damaged.") from error
        self._total += len(data)
        if self._total > MAX_BYTES:
            raise BadInput("The archive is larger than any case.")
        return data
