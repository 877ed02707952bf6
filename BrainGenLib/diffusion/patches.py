"""A denoiser that needs no training: the posterior mean of a patch, given the patches of registered donors.

Under x = α·D + σ·ε, with D one of the donors (as it is or mirrored, moved by a small offset), the posterior mean of
the voxel v is the mean of the donors' values there, weighted by softmax(-‖patch of x - α · patch of D‖² / 2σ²). With
patches of the whole image this copies donors; patches that shrink with the noise make images that no donor has (Kamb
and Ganguli, ICML 2025, arXiv 2412.20292, eq. 7). The patch's size is the only thing to choose.

Every block of the grid has candidates of its own, all donors or those that a coarser grid found near. Blocks that
hold no donor's brain are left out: there the clean image is 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from BrainGenLib.diffusion.schedules import CLEAN, Step

FACES = np.array([(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)], np.int32)
"""Offsets within a voxel along one axis."""
CUBE = np.array([(i, j, k) for i in (0, 1, -1) for j in (0, 1, -1) for k in (0, 1, -1)], np.int32)
"""Offsets within a voxel along every axis."""
CELL_MM = 8
"""Edge of the cells in which it is reported how near each donor is, and in which donors are allowed."""
FAR = 1e9
"""Added to the distance of a donor where it is not allowed: more than distances are, so it is of use only where no
other is allowed."""


@dataclass(frozen=True)
class Patches:
    """How patches are compared on a grid.

    Attributes:
        spacing: of the grid, mm.
        radii: (noise, radius in voxels): the patch's radius at σ/α of at least the noise, noisiest first; the last
            one holds below, too.
        block: voxels of a block along each axis, at most.
        offsets: (M, 3) by which a donor may be moved, voxels, at most 1 each.
        keep: donors that a block compares, mirrored ones counted for themselves; None compares all.
        temperature: σ/α at which it is reported how near donors are.
        spread: voxels to each side over which shares are summed before classes are voted for.
    """

    spacing: int
    radii: tuple[tuple[float, int], ...]
    block: tuple[int, int, int]
    offsets: np.ndarray = field(default_factory=lambda: FACES)
    keep: int | None = None
    temperature: float = 0.3
    spread: int = 0

    def radius(self, noise: float) -> int:
        """Of the patch at σ/α, voxels."""
        return next((radius for least, radius in self.radii if noise >= least), self.radii[-1][1])


@dataclass
class Found:
    """What the last call of a denoiser found beside the posterior mean.

    Attributes:
        candidate: (X, Y, Z) int32: twice the index of the nearest donor, one more if mirrored.
        offset: (X, Y, Z) int32: index of its offset.
        near: (2 N, X', Y', Z') float32: share of every donor in cells of CELL_MM; None where donors are classes.
        labels: (X, Y, Z) uint8: the class with most votes; None where donors are maps.
    """

    candidate: np.ndarray
    offset: np.ndarray
    near: np.ndarray | None = None
    labels: np.ndarray | None = None


def steps(noises: Sequence[float]) -> list[Step]:
    """The variance-preserving steps whose σ/α are ``noises``, then :data:`CLEAN`."""
    return [
        *(Step(noise, 1 / math.hypot(1, noise), noise / math.hypot(1, noise)) for noise in noises),
        CLEAN,
    ]


@functools.cache
def compiled() -> Any:
    """The module of compiled loops, None where numba is not installed."""
    try:
        from BrainGenLib.diffusion import patch_kernels
    except ImportError:
        return None
    return patch_kernels


class PatchDenoiser:
    """The posterior mean as a :data:`~BrainGenLib.diffusion.schedules.Denoiser`.

    Channels are scaled by the square roots of ``weights``, so that noise is the same in all of them: x and z are
    (1, C, X, Y, Z) in units of ``√weight``. Donors are *maps* (several channels), or *classes* that stand for one
    channel each, with or without an image as the last channel; the latter take an eighth of the memory.

    Args:
        patches: how they are compared.
        weights: (C,), of the channels.
        maps: (N, C, X, Y, Z + 2 pad) uint8, 255 is 1; or None.
        classes: (N, X, Y, Z + 2 pad) uint8; with it ``channel``, (classes,): the channel of each class, their number
            for none, and ``mirror``, (classes,): the class on the other side.
        image: (N, X, Y, Z + 2 pad) uint8, 255 is 1; or None.
        pad: voxels that donors extend beyond the grid along the last axis, enough for patch and offset.
        brain: (X, Y, Z) bool: where blocks are needed.
        allowed: (2 N, X', Y', Z') bool in cells of CELL_MM: where each donor of maps may be used; None: everywhere.

    Attributes:
        candidates: (blocks, K) int32: twice the index of each donor that a block compares, one more if mirrored; at
            first all of them.
        found: of the last call.
    """

    def __init__(
        self,
        patches: Patches,
        weights: np.ndarray,
        brain: np.ndarray,
        pad: int,
        *,
        maps: np.ndarray | None = None,
        classes: np.ndarray | None = None,
        image: np.ndarray | None = None,
        channel: np.ndarray | None = None,
        mirror: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        device: str = "cpu",
    ) -> None:
        self.patches = patches
        self.weights = np.asarray(weights, np.float32)
        self.shape = brain.shape
        self.pad = pad
        self.maps, self.classes, self.image = maps, classes, image
        self.channel, self.mirror = channel, mirror
        self.device = device
        donors = maps if maps is not None else classes
        assert donors is not None
        self.count = len(donors)
        self.size = np.array(
            [
                _fitting(n, most, CELL_MM // patches.spacing)
                for n, most in zip(self.shape, patches.block, strict=True)
            ],
            np.int32,
        )
        self.corners = _corners(brain, self.size)
        self.candidates = np.tile(np.arange(2 * self.count, dtype=np.int32), (len(self.corners), 1))
        self.allowed = allowed
        self.found: Found | None = None

    @property
    def centres(self) -> np.ndarray:
        """(blocks, 3): the middle of every block, mm from the grid's corner."""
        return (self.corners + self.size / 2) * self.patches.spacing

    def __call__(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        noise = step.sigma / step.alpha
        roots = np.sqrt(self.weights)
        kernels = compiled() if self.device == "cpu" else None
        run = self._in_operators if kernels is None else functools.partial(self._in_loops, kernels)
        mean, nearest, near, labels = run(
            x[0],
            np.float32(255) / (np.float32(step.alpha) * roots),
            self.patches.radius(noise),
            np.float32(0.5 / (255 * noise) ** 2),
            np.float32(0.5 / (255 * self.patches.temperature) ** 2),
        )
        mean *= (roots / np.float32(255))[:, None, None, None]
        if near is not None:
            near /= self._cell**3
        candidate, offset = np.divmod(nearest, len(self.patches.offsets))
        self.found = Found(candidate, offset, near, labels)
        return torch.from_numpy(mean)[None].to(x)

    @property
    def _cell(self) -> int:
        return CELL_MM // self.patches.spacing

    def _in_loops(
        self,
        kernels: Any,
        x: torch.Tensor,
        units: np.ndarray,
        radius: int,
        scale: np.float32,
        temperature: np.float32,
    ) -> Any:
        given = x.numpy()
        mean = np.zeros_like(given)
        nearest = np.zeros(self.shape, np.int32)
        how = (self.corners, self.candidates, self.patches.offsets, self.size, radius, scale)
        near = labels = None
        if self.maps is not None:
            allowed = np.zeros((0, 0, 0, 0), bool) if self.allowed is None else self.allowed
            near = np.zeros((2 * self.count, *(n // self._cell for n in self.shape)), np.float32)
            maps = (given, units, self.maps, self.pad, self.weights, *how, temperature, self._cell, allowed)
            _in_threads(kernels.denoise_maps, len(self.corners), (*maps, mean, nearest, near))
        else:
            labels = np.zeros(self.shape, np.uint8)
            image = np.zeros((0, 0, 0, 0), np.uint8) if self.image is None else self.image
            classes = (given, units, self.classes, image, self.pad, self.channel, self.mirror, self.weights, *how)
            written = (self.patches.spread, mean, labels, nearest)
            _in_threads(kernels.denoise_classes, len(self.corners), (*classes, *written))
        return mean, nearest, near, labels

    def _in_operators(
        self, x: torch.Tensor, units: np.ndarray, radius: int, scale: np.float32, temperature: np.float32
    ) -> Any:
        from BrainGenLib.diffusion import patch_operators

        made = patch_operators.denoise(
            x.to(self.device) * self._on_device(units)[:, None, None, None],
            self._donors,
            self._image,
            self.pad,
            self._on_device(self.channel),
            self._on_device(self.mirror),
            self._on_device(self.weights),
            self._on_device(self.corners),
            self._on_device(self.candidates),
            self._on_device(self.patches.offsets),
            (int(self.size[0]), int(self.size[1]), int(self.size[2])),
            radius,
            float(scale),
            self.patches.spread,
            float(temperature),
            self._cell,
            self._on_device(self.allowed),
        )
        return tuple(None if part is None else part.cpu().numpy() for part in made)

    # These are large: sent to the device once, not at every step.
    @functools.cached_property
    def _donors(self) -> Any:
        return self._on_device(self.maps if self.maps is not None else self.classes)

    @functools.cached_property
    def _image(self) -> Any:
        return self._on_device(self.image)

    def _on_device(self, array: np.ndarray | None) -> Any:
        return None if array is None else torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _fitting(n: int, most: int, cell: int) -> int:
    """The longest block that tiles ``n`` voxels: whole cells, at most ``most`` voxels.

    Raises:
        ValueError: there is none.
    """
    for length in range(min(n, most), 0, -1):
        if n % length == 0 and length % cell == 0:
            return length
    raise ValueError(f"{n} voxels cannot be divided into blocks of at most {most} of whole cells of {cell}.")


def _corners(brain: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(blocks, 3) int32: corners of the blocks of a grid that hold brain."""
    counts = np.array(brain.shape) // size
    tiles = brain.reshape(counts[0], size[0], counts[1], size[1], counts[2], size[2])
    return (np.argwhere(tiles.any((1, 3, 5))) * size).astype(np.int32)


def _in_threads(kernel: Any, blocks: int, arguments: tuple[Any, ...]) -> None:
    """Share the blocks between as many threads as PyTorch uses."""
    workers = torch.get_num_threads()
    portion = max(1, blocks // (8 * workers))
    parts = [(first, min(first + portion, blocks)) for first in range(0, blocks, portion)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda part: kernel(*part, *arguments), parts))
