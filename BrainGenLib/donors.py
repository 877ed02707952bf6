"""Donors: label maps of people, and their scans if there are any, registered to the template at 1 mm.

They are the whole of a patch diffusion model (:mod:`BrainGenLib.diffusion.patches`); it generates mosaics of them, so
a bundle with donors holds people's scans.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from BrainGenLib import anatomy
from BrainGenLib.spaces import GRID_1MM

LEVEL = 5
"""Steps of an image's 255 that are told apart: finer ones are noise, and cost a third more bytes."""
PAD = 8
"""Voxels of background beyond both ends of the last axis, so that patches need no check of the grid's end."""
MULTIPLE = 16
"""Sides of donors are multiples of it."""
RANGE = (-0.25, 1.5)
"""Of soft tissue values (fluid 0, grey ½, white matter 1) that an image's 255 steps span; 0 also means no brain."""


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
        painted: whether there are scans.

    Attributes:
        arguments: that it was made with.
        classes: (N, X, Y, Z + 2 PAD) uint8, class indices.
        image: (N, X, Y, Z + 2 PAD) uint8, soft tissue maps of T1w scans, 0 to 255 for RANGE; None without scans.
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
        painted: bool,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "count": count, "shape": shape, "corner": corner, "names": names, "ages": ages, "sexes": sexes,
            "painted": painted,
        }  # fmt: skip
        self.shape = tuple(shape)
        self.box = tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))
        self.names, self.ages, self.sexes = names, ages, sexes
        padded = (count, shape[0], shape[1], shape[2] + 2 * PAD)
        self.register_buffer("classes", torch.zeros(padded, dtype=torch.uint8))
        self.register_buffer("image", torch.zeros(padded, dtype=torch.uint8) if painted else None)
        self.register_buffer("landmarks", torch.zeros(3))

    def __len__(self) -> int:
        return len(self.classes)

    @functools.cached_property
    def brain(self) -> np.ndarray:
        """(X, Y, Z) bool: where any donor, mirrored or not, has brain."""
        found = np.zeros(self.shape, bool)
        for each in self.classes.numpy():
            found |= each[..., PAD:-PAD] > 0
        return np.asarray(found | found[::-1])

    def maps(self, spacing: int, pad: int) -> np.ndarray:
        """(N, C, X, Y, Z + 2 pad) uint8 on a grid of 2 or 4 mm: shares of the channels, then the image; 255 is 1."""
        pooled = self._halved if spacing == 2 else F.avg_pool3d(self._halved.float(), spacing // 2).round().byte()
        return np.pad(pooled.numpy(), [(0, 0)] * 4 + [(pad, pad)])

    @functools.cached_property
    def _halved(self) -> torch.Tensor:
        """(N, C, X, Y, Z) uint8 on a grid of 2 mm."""
        x, y, z = (n // 2 for n in self.shape)
        kinds = len(groups())
        out = torch.zeros((len(self), kinds + (self.image is not None), x, y, z), dtype=torch.uint8)
        table = torch.from_numpy(channels())
        for donor, classes in enumerate(self.classes):
            codes = table[classes[..., PAD:-PAD].int()]
            # Eight voxels, one after the other: no copy of the whole grid per channel.
            for corner in itertools.product((0, 1), repeat=3):
                part = codes[tuple(slice(start, None, 2) for start in corner)]
                for channel in range(kinds):
                    # Their shares sum to 255 where all eight agree.
                    out[donor, channel] += (part == channel) * (31 + (corner != (0, 0, 0)))
            if self.image is not None:
                value = self.image[donor, ..., PAD:-PAD].float()
                out[donor, -1] = F.avg_pool3d(value[None], 2)[0].round().byte()
        return out


def encoded(tissue: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """A soft tissue map as uint8 in RANGE, in steps of LEVEL; 0 outside the brain."""
    value = (tissue - RANGE[0]) / (RANGE[1] - RANGE[0])
    return np.where(brain, np.rint(value.clip(0, 1) * 255 / LEVEL) * LEVEL, 0).astype(np.uint8)


def whole(part: np.ndarray, box: tuple[slice, ...], fill: float = 0) -> np.ndarray:
    """A volume of the donors' part on GRID_1MM."""
    out = np.full(GRID_1MM.shape, fill, part.dtype)
    out[box] = part
    return out
