"""Mass effect: tissue moves out of the way of a lesion, and fluid gives way.

The inner part of a lesion grows until it fills the lesion as it was placed. Tissue flows as in a porous medium, along
the gradient of pressure and without a change of volume. Fluid gives way in proportion to pressure, and nothing passes
the skull. In every step of the flow the pressure p solves

    -div(m grad p) + f p / REACH² = g

with the mobility m (1, less at the skull), the share of fluid f and the growth g. Outside of the lesion the tissue
keeps its volume; the lesion keeps the volume and the place that were asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import LinearOperator, cg, splu

from BrainGenLib import anatomy
from BrainGenLib.label_resampling import displaced
from BrainGenLib.methods.ventricle_warp import STILL, moved
from BrainGenLib.spaces import GRID_1MM, GRID_2MM

REACH = 7.0
"""How far pressure reaches into the fluid of ventricles, mm."""
AROUND = 0.25
"""How readily fluid around the brain gives way, as a share of that in ventricles."""
SOLID = 1e-3
"""How readily tissue gives way, likewise: what is left to it where no fluid is."""
RIM = 6.0
"""Within this distance of the skull tissue moves less freely, mm."""
CORE = 1 / 3
"""Smallest share of a lesion that it grows from: seven tenths of its radius."""
SMOOTH = 2.0
"""Of a lesion's surface while its area is measured, voxels of 2 mm."""

LONGEST_STEP = 1.5
"""Furthest that tissue moves in a step of the flow, voxels of 2 mm."""
LARGEST_LOSS = 0.5
"""Largest share of its volume that a voxel loses in a step: less than 1, so that nothing folds."""
STEPS = 40
BLOCK = 5
"""Side of the blocks of voxels whose mean pressure is solved for directly."""
TOLERANCE, ITERATIONS = 3e-3, 300
"""Of conjugate gradients."""

SEPTUM = 6.0
"""Largest distance of the lateral ventricles from each other at the septum, mm."""


@dataclass(frozen=True)
class MassEffect:
    """What a lesion does to the brain around it.

    Attributes:
        displacement: float32 (3, R, A, S) on GRID_2MM, RAS mm: the changed brain at p is the given one at
            p + displacement.
        requested, obtained: displacement at the border of the lesion, mm; the obtained one is a mean.
        midline_shift: how far the septum moves to the right, mm, negative to the left; None if there is none between
            lateral ventricles.
    """

    displacement: np.ndarray
    requested: float
    obtained: float
    midline_shift: float | None

    def labels(self, classes: np.ndarray) -> np.ndarray:
        """A class map on GRID_1MM or GRID_2MM, changed; what is outside of the brain stays."""
        after = displaced(classes, self._on(classes.shape))
        return np.where((classes == 0) | (after == 0), classes, after)

    def image(self, volume: np.ndarray) -> np.ndarray:
        """A volume on GRID_1MM or GRID_2MM, changed; linear between its voxels."""
        return moved(volume, self._on(volume.shape), order=1)

    def _on(self, shape: tuple[int, ...]) -> np.ndarray:
        """The displacement on the grid of a shape, in voxels of it."""
        voxels = self._fine if shape == GRID_1MM.shape else self.displacement / np.float32(GRID_2MM.spacing)
        return np.where(np.abs(voxels).max(0) > STILL, voxels, np.float32(0))

    @cached_property
    def _fine(self) -> np.ndarray:
        fine = self.displacement
        for axis in (1, 2, 3):
            pair = [0.75 * fine + 0.25 * np.roll(fine, shift, axis) for shift in (1, -1)]
            fine = np.stack(pair, axis + 1).reshape([n * (1 + (k == axis)) for k, n in enumerate(fine.shape)])
        return fine

    def measurements(self) -> dict[str, float | None]:
        """All but the displacement, mm."""
        return {
            "requested": self.requested,
            "obtained": round(self.obtained, 2),
            "midline_shift": None if self.midline_shift is None else round(self.midline_shift, 2),
        }


def of_lesion(structures: np.ndarray, lesion: np.ndarray, millimetres: float) -> MassEffect:
    """The mass effect of a lesion.

    Args:
        structures: uint8 class map of the brain without lesions, on GRID_1MM or GRID_2MM.
        lesion: bool, same grid.
        millimetres: displacement at the lesion's border. Small lesions cannot displace as much (:data:`CORE`).
    """
    fluid = anatomy.classes_of(tissue="csf")
    ventricles = [index for index in fluid if anatomy.labels()[index].name.endswith("ventricle")]
    yielding = AROUND * _shares(np.isin(structures, fluid)) + (1 - AROUND) * _shares(np.isin(structures, ventricles))
    flow = _Flow(_shares(structures > 0) > 0.5, yielding)
    share = _shares(lesion)
    flow.grow(*_core(share, millimetres))
    displacement = flow.displacement()
    border = ndimage.binary_dilation(share > 0.5) & (share <= 0.5) & flow.inside
    length = np.sqrt((displacement**2).sum(0))[border]
    obtained = float(length.mean()) if len(length) else 0.0
    return MassEffect(displacement, millimetres, obtained, _shift(septum(structures), displacement))


def septum(classes: np.ndarray) -> np.ndarray:
    """Points (n, 3), RAS mm, midway between the lateral ventricles where these lie close to each other.

    Args:
        classes: class map on GRID_1MM or GRID_2MM.
    """
    grid = GRID_1MM if classes.shape == GRID_1MM.shape else GRID_2MM
    side = {anatomy.labels()[i].side: classes == i for i in anatomy.classes_of(name="lateral ventricle")}
    inner_left = len(classes) - 1 - side["left"][::-1].argmax(0)
    inner_right = side["right"].argmax(0)
    gap = (inner_right - inner_left - 1) * grid.spacing
    a, s = np.nonzero(side["left"].any(0) & side["right"].any(0) & (gap >= 0) & (gap <= SEPTUM))
    voxels = np.stack([(inner_left + inner_right)[a, s] / 2, a, s], 1)
    return np.asarray(grid.origin) + voxels * grid.spacing


def _shares(mask: np.ndarray) -> np.ndarray:
    """How much of each voxel of GRID_2MM is in a mask of that grid or of GRID_1MM, float32."""
    if mask.shape == GRID_2MM.shape:
        return mask.astype(np.float32)
    r, a, s = GRID_2MM.shape
    return np.ascontiguousarray(mask.reshape(r, 2, a, 2, s, 2).mean((1, 3, 5), dtype=np.float32))


def _core(lesion: np.ndarray, millimetres: float) -> tuple[np.ndarray, float]:
    """The part of a lesion that it grows from (shares of voxels), and by how many voxels it grows."""
    volume = float(lesion.sum())
    if volume == 0:
        return lesion, 0.0
    radius = GRID_2MM.spacing * (volume * 3 / (4 * np.pi)) ** (1 / 3)
    # A ball of the volume loses this if its surface moves inwards; another shape has more surface.
    shell = volume * (1 - max(1 - millimetres / radius, 0) ** 3)
    smooth = ndimage.gaussian_filter(lesion, SMOOTH)
    surface = GRID_2MM.spacing**2 * float(np.sqrt(sum(part**2 for part in np.gradient(smooth))).sum())
    left = max(volume - shell * max(surface / (4 * np.pi * radius**2), 1), CORE * volume)
    depth = np.where(lesion > 0, ndimage.distance_transform_edt(lesion > 0.5) + lesion, 0)
    order = np.argsort(-depth, axis=None, kind="stable")
    deepest = order[np.cumsum(lesion.ravel()[order], dtype=float) <= left]
    core = np.zeros(lesion.shape, np.float32)
    core.ravel()[deepest] = lesion.ravel()[deepest]
    return core, volume - float(core.sum())


def _shift(points: np.ndarray, displacement: np.ndarray) -> float | None:
    """Mean motion of points to the right, mm."""
    if not len(points):
        return None
    after = points
    # The displacement is of where points come to lie.
    for _ in range(5):
        voxels = ((after - GRID_2MM.origin) / GRID_2MM.spacing).T
        after = points - np.stack([ndimage.map_coordinates(part, voxels, order=1) for part in displacement], 1)
    return float((after - points)[:, 0].mean())


class _Flow:
    """The brain on GRID_2MM while it moves.

    Args:
        brain: bool.
        yielding: how readily each voxel gives way: 1 in the fluid of ventricles.
    """

    def __init__(self, brain: np.ndarray, yielding: np.ndarray) -> None:
        closed = ndimage.binary_closing(np.pad(brain, 3), iterations=3)[3:-3, 3:-3, 3:-3]
        self.inside = ndimage.binary_fill_holes(closed)
        self._where = np.nonzero(self.inside)
        self._count = len(self._where[0])
        self._points = np.stack(self._where).astype(np.float32)
        self._from = np.zeros_like(self._points)
        # Gaps between gyri that no label fills are fluid too.
        self._yielding = np.where(brain, yielding, AROUND * self.inside).astype(np.float32)
        depth = ndimage.distance_transform_edt(np.pad(self.inside, 1))[1:-1, 1:-1, 1:-1] * GRID_2MM.spacing
        self._faces = self._conductances(np.clip(depth[self._where] / RIM, 0, 1))
        low, high, ease = (np.concatenate(parts) for parts in zip(*self._faces, strict=True))
        pairs = np.concatenate([low, high]), np.concatenate([high, low])
        between = sparse.csr_matrix((np.tile(ease, 2), pairs), shape=(self._count, self._count))
        self._leaving = sparse.diags(np.asarray(between.sum(1)).ravel(), format="csr") - between
        self._leaving_fast = self._leaving.astype(np.float32)
        self._blocks = self._in_blocks()
        self._blockwise: Callable[[np.ndarray], np.ndarray] | None = None
        self._pressure = np.zeros(self._count, np.float32)

    def _conductances(self, mobility: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each axis the pairs of neighbours, and how easily tissue passes between them."""
        number = np.full(self.inside.shape, -1)
        number[self._where] = np.arange(self._count)
        faces = []
        for axis, length in enumerate(number.shape):
            low, high = (np.take(number, range(k, length - 1 + k), axis).ravel() for k in (0, 1))
            both = (low >= 0) & (high >= 0)
            low, high = low[both], high[both]
            faces.append((low, high, 2 * mobility[low] * mobility[high] / (mobility[low] + mobility[high])))
        return faces

    def _in_blocks(self) -> sparse.csr_matrix:
        """Which point is in which block of voxels."""
        block = np.ravel_multi_index([part // BLOCK for part in self._where], self.inside.shape)
        number = np.unique(block, return_inverse=True)[1]
        return sparse.csr_matrix((np.ones(self._count, np.float32), (np.arange(self._count), number)))

    def grow(self, core: np.ndarray, voxels: float) -> None:
        """Let ``core`` (shares of voxels) grow by so many voxels."""
        left = voxels
        for _ in range(STEPS):
            if left <= 1e-3 * voxels:
                return
            growth = self._now(core)
            growth *= left / max(float(growth.sum()), 1e-6)
            sink = (self._now(self._yielding) + np.float32(SOLID)) * np.float32((GRID_2MM.spacing / REACH) ** 2)
            self._solve(growth, sink)
            velocity = self._velocity()
            step = min(
                1.0,
                LONGEST_STEP / max(float(np.abs(velocity).max()), 1e-6),
                LARGEST_LOSS / max(float((sink * self._pressure).max()), 1e-6),
            )
            self._advance(np.float32(step) * velocity)
            left *= 1 - step

    def _solve(self, growth: np.ndarray, sink: np.ndarray) -> None:
        """The pressure at which what grows has room."""
        if self._blockwise is None:
            mean = self._blocks.T @ (self._leaving + sparse.diags(sink)) @ self._blocks
            self._blockwise = splu(mean.tocsc()).solve
        blockwise, diagonal = self._blockwise, self._leaving_fast.diagonal() + sink

        def given_way(pressure: np.ndarray) -> np.ndarray:
            return self._leaving_fast @ pressure + sink * pressure

        def about(growth: np.ndarray) -> np.ndarray:
            """Nearly the pressure for a growth: what its block needs as a whole, and what it needs by itself."""
            return growth / diagonal + self._blocks @ blockwise(self._blocks.T @ growth).astype(np.float32)

        shape = (self._count, self._count)
        self._pressure, _ = cg(
            LinearOperator(shape, given_way, dtype=np.float32),
            growth,
            x0=self._pressure,
            rtol=TOLERANCE,
            maxiter=ITERATIONS,
            M=LinearOperator(shape, about, dtype=np.float32),
        )

    def _velocity(self) -> np.ndarray:
        """Of each point, float32 (3, n), voxels."""
        velocity = np.empty_like(self._points)
        for along, (low, high, ease) in zip(velocity, self._faces, strict=True):
            flux = ease * (self._pressure[low] - self._pressure[high]) / 2
            along[:] = np.bincount(low, flux, self._count) + np.bincount(high, flux, self._count)
        return velocity

    def _advance(self, velocity: np.ndarray) -> None:
        """What is here now comes from where that came from which was here one step upstream."""
        upstream = self._points - velocity
        for came in self._from:
            came[:] = ndimage.map_coordinates(self._spread(came), upstream, order=1)
        self._from -= velocity

    def _now(self, volume: np.ndarray) -> np.ndarray:
        """What of a volume of the given brain lies at each point now."""
        return ndimage.map_coordinates(volume, self._points + self._from, order=1)

    def _spread(self, values: np.ndarray) -> np.ndarray:
        whole = np.zeros(self.inside.shape, np.float32)
        whole[self._where] = values
        return whole

    def displacement(self) -> np.ndarray:
        """float32 (3, R, A, S), mm."""
        return np.stack([self._spread(came) for came in self._from]) * np.float32(GRID_2MM.spacing)
