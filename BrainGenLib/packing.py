"""Weights in fewer bytes, without loss.

The byte that holds a float16's sign and exponent has few values in a network's weights, and grids of atlases are
constant outside the brain. So the bytes are sorted by their place in the number and deflated: 15 % less for
convolutions, more than half for grids. LZMA saves 2 % more, but not every build of Python has it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from BrainGenLib.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

_MARK = "zlib"
_DIFFERENCES = "delta"
"""Mark of bytes that are packed as differences along the last axis: images of brains take a tenth less."""

# The first suits weights (hardly anything repeats in them), the second grids.
_STRATEGIES = (zlib.Z_FILTERED, zlib.Z_DEFAULT_STRATEGY)


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors to store instead of these.

    One that gets smaller becomes bytes (uint8) under a key that tells what they were, e.g.
    ``zlib:float16:16,40,56,40:atlas``; the others stay as they are.
    """
    import torch

    stored = {}
    for key, value in tensors.items():
        numbers = value.contiguous().reshape(-1, 1).view(torch.uint8)
        planes = [plane.numpy().tobytes() for plane in numbers.unbind(1)]
        packed = min((_deflated(planes, strategy) for strategy in _STRATEGIES), key=len)
        mark = _MARK
        if value.dtype == torch.uint8 and value.ndim:
            steps = torch.cat([value[..., :1], value[..., 1:] - value[..., :-1]], -1)
            differences = _deflated([steps.numpy().tobytes()], zlib.Z_FILTERED)
            if len(differences) < len(packed):
                packed, mark = differences, _DIFFERENCES
        shape = ",".join(map(str, value.shape))
        name = f"{mark}:{str(value.dtype).removeprefix('torch.')}:{shape}:{key}"
        if len(packed) + len(name) < value.nbytes + len(key):
            stored[name] = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
        else:
            stored[key] = value
    return stored


def load(path: Path, most: int) -> dict[str, Tensor]:
    """Tensors of a safetensors file as :func:`pack` was given them, bit by bit; one that is not packed as it is.

    Args:
        path: of the file.
        most: numbers that all tensors together may have.

    Raises:
        BadInput: the file cannot be read, holds more numbers, or the bytes of a packed tensor are damaged or not what
            their key says.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} cannot be read as weights ({error}); install the bundle again.") from error
    tensors = {}
    for name, value in stored.items():
        if not name.startswith((f"{_MARK}:", f"{_DIFFERENCES}:")):
            tensors[name] = value
            continue
        try:
            mark, kind, numbers, key = name.split(":", 3)
            dtype = getattr(torch, kind)
            shape = [int(number) for number in numbers.split(",") if number]
            most -= math.prod(shape)
            if min(shape, default=0) < 0 or most < 0:
                raise ValueError("it is larger than its network")
            inflated = _inflated(value.numpy().tobytes(), math.prod(shape) * dtype.itemsize)
            planes = torch.frombuffer(inflated, dtype=torch.uint8)
            tensors[key] = planes.reshape(dtype.itemsize, -1).T.contiguous().view(dtype).reshape(shape)
            if mark == _DIFFERENCES:
                # Sums of bytes, which wrap as the differences did.
                tensors[key].cumsum_(-1, dtype=torch.uint8)
        except (zlib.error, ValueError, AttributeError, RuntimeError) as error:
            raise BadInput(f"{path}: {name} cannot be unpacked ({error}); install the bundle again.") from error
    return tensors


def _inflated(packed: bytes, size: int) -> bytearray:
    stream = zlib.decompressobj()
    # One byte more than declared shows that there are more; 0 would mean any number.
    data = stream.decompress(packed, size + 1)
    if len(data) != size or not stream.eof:
        raise ValueError("it is not as large as its name says")
    return bytearray(data)


def _deflated(planes: list[bytes], strategy: int) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    # Each plane has its own frequencies, and so gets its own blocks.
    return b"".join(stream.compress(plane) + stream.flush(zlib.Z_BLOCK) for plane in planes) + stream.flush()
