"""Where the brain lies in a scan of a whole head, of any contrast.

In most contrasts the fat of the scalp is brighter than all of the brain, so that mutual information alone would find
the border of the template's brain there. An alignment begins from the outline of the head, below which the brain lies
nearly equally deep, and goes on without what lies outside of the skull.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from scipy import ndimage, signal

from BrainGenLib import spaces
from BrainGenLib.reading.scans import above_air

SIZES = (0.95, 0.87, 1.05, 0.8, 0.73)
"""Lengths of the brain, as shares of the template's, that an alignment begins with."""
TILTS = (-20.0, -10.0, 0.0, 10.0, 20.0)
"""Degrees about the axis from left to right."""
FORWARD_MM, UP_MM = range(-30, 31, 10), range(-30, 91, 10)
"""Middle of the brain against that of the head."""
SPACING_MM = 2.0
DEEPEST_MM = 24
"""No skull lies deeper than this under the skin."""
AGREEING = 3
"""Alignments that have to agree before no further sizes are tried."""
SAME_MM = 6.0
UPPER_MM = 70
"""Height of the part of a head that has no face."""
SCALP = 0.6
"""A brain begins nowhere less deep than this share of the skull's depth (of 18 heads 0.6 to 1.5)."""
NEAR_SCALP = 0.7
"""Less than a twentieth of the surface of a brain lies less deep than this share of the skull's depth."""
DARKER = 0.1
"""How much darker than scalp and brain the skull is at least, as a share of the brightest tissue."""


class Head:
    """A scan on a grid of 2 mm, and how deep each voxel lies in what it shows.

    Attributes:
        image: intensities above air, (R, A, S).
        affine: voxel to world, RAS+ mm.
        shown: where the scan shows more than noise.
        skull: depth (mm) of the layer that is darkest for what lies on both sides of it; 0 where there is none.
    """

    def __init__(self, volume: np.ndarray, affine: np.ndarray) -> None:
        shape, self.affine = spaces.bounding_grid(volume.shape, affine, SPACING_MM)
        view = spaces.resample(np.ones(volume.shape, np.uint8), affine, shape, self.affine, order=0) > 0
        self.image = spaces.resample(above_air(volume), affine, shape, self.affine)
        self.shown = spaces.foreground(self.image)
        if not self.shown.any():
            raise ValueError("The image is empty.")
        # Slice by slice, as a head is open where the field of view ends.
        head = np.stack([ndimage.binary_fill_holes(self.shown[..., k]) for k in range(shape[2])], -1)
        pieces, _ = ndimage.label(head)
        self._head = pieces == np.bincount(pieces[pieces > 0]).argmax()
        # A head goes on where the field of view ends.
        inside = self._head | ~view
        depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
        self._depth = np.where(view, depth * SPACING_MM, np.nan).astype(np.float32)
        self._upper = max(0, int(np.argwhere(self._head)[:, 2].max()) - int(UPPER_MM / SPACING_MM))
        self.skull = self._skull()

    def depths(self, template_to_scan: np.ndarray) -> np.ndarray:
        """How deep in the head the upper half of the template brain's surface lies, mm; outside of it it is negative.

        Points out of the field of view are left out.
        """
        voxels = np.linalg.inv(self.affine) @ template_to_scan
        points = voxels[:3, :3] @ _surface().T + voxels[:3, 3:]
        found = ndimage.map_coordinates(self._depth, points, order=0, cval=np.nan)
        return found[np.isfinite(found)]

    def starts(self) -> list[np.ndarray]:
        """Template world to the scan's, one of each size: where the brain lies most equally deep."""
        middle = _points(_brain()).mean(0)
        centre = self.affine[:3, :3] @ np.argwhere(self._head).mean(0) + self.affine[:3, 3]
        best = []
        for size in SIZES:
            tried = []
            for tilt, forward, up in product(TILTS, FORWARD_MM, UP_MM):
                start = np.eye(4)
                start[:3, :3] = spaces.pitch(tilt) * size
                start[:3, 3] = centre + np.array([0, forward, up]) - start[:3, :3] @ middle
                depths = self.depths(start)
                if len(depths) > len(_surface()) / 2:
                    tried.append((float(depths.std()), start))
            best += [min(tried, key=lambda one: one[0])[1]] if tried else []
        return best

    def without_scalp(self) -> np.ndarray:
        """The image, 0 where it is less deep than the skull."""
        return np.where(self._depth > self.skull, self.image, 0)

    def scalp_in_template(self, template_to_scan: np.ndarray) -> np.ndarray:
        """Where the scan shows scalp, on GRID_1MM: what is less deep than the brain begins anywhere."""
        depth = np.where(np.isfinite(self._depth), self._depth, DEEPEST_MM)
        depth = spaces.to_grid(depth, self.affine, spaces.GRID_1MM, template_to_scan=template_to_scan)
        return depth < SCALP * self.skull

    def near_scalp(self, brain: np.ndarray, affine: np.ndarray) -> float:
        """Share of the surface of a brain, in the part of the head that has no face, that lies next to the scalp.

        Args:
            brain: mask on any grid, ``affine`` its voxel to world in RAS+ mm.
        """
        inside = spaces.resample(brain, affine, self.image.shape, self.affine, order=0)[..., self._upper :] > 0
        surface = inside & ~ndimage.binary_erosion(inside, border_value=1)
        depths = self._depth[..., self._upper :][surface]
        depths = depths[np.isfinite(depths)]
        return float(np.mean(depths < NEAR_SCALP * self.skull)) if len(depths) else 0.0

    def _skull(self) -> float:
        depth, values = self._depth[..., self._upper :], self.image[..., self._upper :]
        layers = np.arange(0, DEEPEST_MM + 10, SPACING_MM)
        rings = [values[(depth > at) & (depth <= at + SPACING_MM)] for at in layers]
        profile = np.array([np.percentile(ring, 25) if ring.size else 0 for ring in rings])
        dark, found = signal.find_peaks(-profile, prominence=DARKER * profile.max())
        darker = {
            float(at): by for at, by in zip(layers[dark], found["prominences"], strict=True) if at <= DEEPEST_MM
        }
        return max(darker, key=darker.__getitem__, default=0.0)


def align(volume: np.ndarray, affine: np.ndarray) -> spaces.Registration:
    """Alignment with the template of a scan of which neither the size of its brain nor its place is known.

    Raises:
        ValueError: the scan is empty or cannot be aligned.
    """
    head = Head(volume, affine)
    bare = head.without_scalp()
    found: list[spaces.Registration] = []
    for start in head.starts():
        one = spaces.to_template(bare, head.affine, head.shown, start, (6, 12))
        found.append(one)
        if sum(_same(one, other) for other in found) == AGREEING:
            break
    if not found:
        raise ValueError("The two images do not overlap; check their orientation in the header.")
    return max(found, key=lambda one: one.information)


def _same(a: spaces.Registration, b: spaces.Registration) -> bool:
    points = np.c_[_surface(), np.ones(len(_surface()))].T
    return float(np.linalg.norm(((a.template_to_scan - b.template_to_scan) @ points)[:3], axis=0).mean()) < SAME_MM


@cache
def _surface() -> np.ndarray:
    """Points (n, 3) on the upper half of the template brain's surface, mm."""
    points = _points(_brain() & ~ndimage.binary_erosion(_brain()))
    return points[points[:, 2] > np.median(points[:, 2])][::11]


def _brain() -> np.ndarray:
    return spaces.template()[1]


def _points(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask) @ spaces.GRID_2MM.affine[:3, :3].T + spaces.GRID_2MM.affine[:3, 3]
