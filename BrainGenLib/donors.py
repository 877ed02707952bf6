"""Donors: label maps of people, and their scans if there are any, registered to the template at 1 mm.

They are the whole of a patch diffusion model (:mod:`BrainGenLib.diffusion.patches`); it generates mosaics of them, so
a bundle with donors holds people's scans.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
import torch
from torch.nn import functional as F

from BrainGenLib import anatomy
from BrainGenLib.errors import OutOfMemory
from BrainGenLib.spaces import GRID_1MM

LEVEL = 5
"""Steps of an image's 255 that are told apart: finer ones are noise, and cost a third more bytes."""
PAD = 8
"""Voxels of background beyond both ends of the last axis, so that patches need no check of the grid's end."""
MULTIPLE = 16
"""Sides of donors are multiples of it."""
RANGE = (-0.25, 1.5)
"""Of the values that an image's 255 steps span; 0 also means no brain. T1w: fluid is 0, grey matter ½, white matter
1. Other contrasts: the darkest of the three is 0, the brightest 1."""
PER_VOXEL = 4
"""Bytes per donor and voxel while a case is sampled: classes, image, shares at 2 mm, and their margins."""


@functools.cache
def groups() -> tuple[tuple[int, ...], ...]:
    """Classes that share a channel, both sides: CSF, cortex, white matter, deep grey matter with the brainstem,
    cerebellar cortex, cerebellar white matter, ventricles."""

    def of(*names: str) -> tuple[int, ...]:
        return tuple(index for name in names for index in anatomy.classes_of(name=name, kind="structure"))

    deep = tuple(anatomy.classes_of(tissue="deep_gm", kind="structure"))
    return (
        of("extraventricular CSF"),
        of("cerebral cortex"),
        of("cerebral white matter"),
        (*deep, *of("hippocampus", "amygdala", "brainstem")),
        of("cerebellar cortex"),
        of("cerebellar white matter"),
        of("lateral ventricle", "inferior lateral ventricle", "third ventricle", "fourth ventricle"),
    )


@functools.cache
def channels() -> np.ndarray:
    """(64,) uint8: the channel of every class; their number for those that have none."""
    table = np.full(64, len(groups()), np.uint8)
    for row, members in enumerate(groups()):
        table[list(members)] = row
    return table


class Donors(torch.nn.Module):
    """Registered people.

    Args:
        count: people, N.
        shape: (X, Y, Z) of their part of GRID_1MM, multiples of 16.
        corner: of this part in GRID_1MM; it is symmetric about the midplane.
        names, ages, sexes: of the people; None where age or sex is unknown.
        contrast: of the scans; None if there are none.

    Attributes:
        arguments: that it was made with.
        classes: (N, X, Y, Z + 2 PAD) uint8, class indices.
        image: (N, X, Y, Z + 2 PAD) uint8, 0 to 255 for RANGE; None without scans.
        landmarks: (3,) intensities of fluid, grey and white matter in the scans, means of their medians; 1 is the
            99.5th percentile of a brain.
    """

    classes: torch.Tensor
    image: torch.Tensor | None
    landmarks: torch.Tensor

    def __init__(
        self,
        count: int,
        shape: list[int],
        corner: list[int],
        names: list[str],
        ages: list[float | None],
        sexes: list[str | None],
        contrast: str | None,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "count": count, "shape": shape, "corner": corner, "names": names, "ages": ages, "sexes": sexes,
            "contrast": contrast,
        }  # fmt: skip
        self.shape = tuple(shape)
        self.box = tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))
        self.names, self.ages, self.sexes, self.contrast = names, ages, sexes, contrast
        padded = (count, shape[0], shape[1], shape[2] + 2 * PAD)
        self.register_buffer("classes", torch.zeros(padded, dtype=torch.uint8))
        self.register_buffer("image", torch.zeros(padded, dtype=torch.uint8) if contrast else None)
        self.register_buffer("landmarks", torch.zeros(3))

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def knots(self) -> tuple[np.ndarray, np.ndarray]:
        """Values of an image, and their intensities in a scan; in between, and beyond, both go together linearly."""
        fluid, grey, white = self.landmarks.tolist()
        if self.contrast == "T1w":
            return np.array([0, 0.5, 1]), np.array([fluid, grey, white])
        return np.array([0.0, 1.0]), np.array([min(fluid, grey, white), max(fluid, grey, white)])

    @property
    def levels(self) -> np.ndarray:
        """(3,) values of fluid, grey and white matter in an image."""
        values, intensities = self.knots
        return np.interp(self.landmarks.numpy(), intensities, values)

    @functools.cached_property
    def brain(self) -> np.ndarray:
        """(X, Y, Z) bool: where any donor, mirrored or not, has brain."""
        found = np.zeros(self.shape, bool)
        for each in self.classes.numpy():
            found |= each[..., PAD:-PAD] > 0
        return np.asarray(found | found[::-1])

    def maps(self, spacing: int, pad: int) -> np.ndarray:
        """(N, C, X, Y, Z + 2 pad) uint8 on a grid of 2 or 4 mm: shares of the channels, then the image; 255 is 1."""
        x, y, z = (n // spacing for n in self.shape)
        kinds = len(groups()) + (self.image is not None)
        out = np.zeros((len(self), kinds, x, y, z + 2 * pad), np.uint8)
        for row in range(len(self)):
            part = self._halved(row)
            if spacing == 4:
                part = F.avg_pool3d(part.float(), 2).round().byte()
            out[row, ..., pad : pad + z] = part.numpy()
        return out

    def _halved(self, row: int) -> torch.Tensor:
        """(C, X, Y, Z) uint8: a donor on a grid of 2 mm."""
        classes = self.classes[row, ..., PAD:-PAD].numpy()
        tables = _eighths()
        corners = itertools.product((0, 1), repeat=3)
        # One byte of each sum is a channel.
        sums = sum(
            tables[int(any(corner))][classes[tuple(slice(start, None, 2) for start in corner)]] for corner in corners
        )
        parts = [torch.from_numpy(np.asarray(sums)[..., None].view(np.uint8)).movedim(-1, 0)[: len(groups())]]
        if self.image is not None:
            value = self.image[row, ..., PAD:-PAD].float()
            parts.append(F.avg_pool3d(value[None], 2).round().byte())
        return torch.cat(parts)


@functools.cache
def _eighths() -> np.ndarray:
    """(2, 64) uint64: what the first and each other of eight voxels adds, by class, to the shares of the channels,
    one byte each; they sum to 255 where all eight agree."""
    kinds = len(groups())
    bytes_ = np.zeros((2, 64, 8), np.uint8)
    for row, share in enumerate((31, 32)):
        bytes_[row, np.arange(64), :kinds] = share * (channels()[:, None] == np.arange(kinds))
    return bytes_.view(np.uint64)[..., 0]


def encoded(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Values of an image as uint8 in RANGE, in steps of LEVEL; 0 outside the brain."""
    value = (image - RANGE[0]) / (RANGE[1] - RANGE[0])
    return np.where(brain, np.rint(value.clip(0, 1) * 255 / LEVEL) * LEVEL, 0).astype(np.uint8)


def check_memory(count: int, shape: Sequence[int]) -> None:
    """Let donors pass that there is memory for.

    Args:
        count, shape: of :class:`Donors`.

    Raises:
        OutOfMemory: there is not.
    """
    needed = PER_VOXEL * count * math.prod(shape)
    if needed > (free := psutil.virtual_memory().available):
        raise OutOfMemory(
            f"{count} donors take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; close "
            "other programs, or make a bundle of fewer donors (`braingen train donors … --steps`)."
        )


def whole(part: np.ndarray, box: tuple[slice, ...], fill: float = 0) -> np.ndarray:
    """A volume of the donors' part on GRID_1MM."""
    out = np.full(GRID_1MM.shape, fill, part.dtype)
    out[box] = part
    return out
