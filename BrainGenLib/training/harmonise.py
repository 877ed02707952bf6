"""Label maps as :mod:`BrainGenLib.reading.conventions` has them, with sides put right and one meaning of CSF.

FreeSurfer maps with both sides merged into the left values are divided.

CSF (24) means the same in every case of the cache: what is neither tissue nor ventricle inside the *brain hull*, the
morphological closing of the tissue by 10 mm plus a rim of 2 mm, as far as the scan shows anything there.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.reading.conventions import CSF, fill_nearest
from BrainGenLib.spaces import Grid

CLOSING_MM = 10.0
# Beyond this distance from the template's midplane no structure of the other side lies.
CROSSING_MM = 8.0
RIM_MM = 2.0


def sides_wrong(classes: np.ndarray, grid: Grid) -> bool:
    """Whether more than a twentieth of the sided voxels of a template-space map are in the other side's half."""
    sides = np.array([{"left": -1, "right": 1}.get(label.side, 0) for label in anatomy.labels()])[classes]
    x = (np.arange(grid.shape[0]) * grid.spacing + grid.origin[0])[:, None, None]
    wrong = (sides * np.where(np.abs(x) > CROSSING_MM, np.sign(x), 0)) < 0
    return bool(wrong.sum() > 0.05 * np.count_nonzero(sides))


def split_sides(classes: np.ndarray, grid: Grid) -> np.ndarray:
    """Give each half of a template-space class map its side, at the plane of best mirror symmetry."""
    from scipy.optimize import minimize

    mirror = np.array(anatomy.mirrored_classes(), np.uint8)
    from_right = np.array([label.side == "right" for label in anatomy.labels()])
    classes = np.where(from_right[classes], mirror[classes], classes)
    white = ndimage.gaussian_filter(
        np.isin(classes, anatomy.classes_of(tissue="wm")).astype(np.float32), 2 / grid.spacing
    )
    step = max(1, round(4 / grid.spacing))
    points = np.argwhere(white > 0.3)[:: step**3].astype(float)
    world = points * grid.spacing + grid.origin
    here = ndimage.map_coordinates(white, points.T, order=1)

    def asymmetry(plane: np.ndarray) -> float:
        mirrored = points.copy()
        across = 2 * (plane[0] + plane[1] * world[:, 1] + plane[2] * world[:, 2]) - world[:, 0]
        mirrored[:, 0] = (across - grid.origin[0]) / grid.spacing
        return float(np.abs(ndimage.map_coordinates(white, mirrored.T, order=1) - here).mean())

    simplex = np.array([[0, 0, 0], [3, 0, 0], [0, 0.05, 0], [0, 0, 0.05]], float)
    plane = minimize(asymmetry, np.zeros(3), method="Nelder-Mead", options={"initial_simplex": simplex}).x
    x, y, z = (np.arange(n) * grid.spacing + o for n, o in zip(grid.shape, grid.origin, strict=True))
    right = x[:, None, None] > plane[0] + plane[1] * y[None, :, None] + plane[2] * z[None, None, :]
    return np.where(right, mirror[classes], classes).astype(np.uint8)


def brain_hull(tissue: np.ndarray, spacing: float) -> np.ndarray:
    """Closing of the tissue by 10 mm plus a rim of 2 mm (bool, same grid)."""
    coarse = tissue
    if spacing == 1:
        coarse = tissue.reshape([n for size in tissue.shape for n in (size // 2, 2)]).mean((1, 3, 5)) >= 0.5
    size = 2.0 if spacing == 1 else spacing
    pad = int(np.ceil(CLOSING_MM / size)) + 2
    padded = np.pad(coarse, pad)
    grown = ndimage.distance_transform_edt(~padded, sampling=size) <= CLOSING_MM
    hull = ndimage.distance_transform_edt(grown, sampling=size) > CLOSING_MM - RIM_MM
    hull = hull[pad:-pad, pad:-pad, pad:-pad]
    if spacing == 1:
        # Each coarse voxel is a block of 8: repeat, then smooth the stairs away.
        hull = hull.repeat(2, 0).repeat(2, 1).repeat(2, 2).astype(np.float32)
        hull = ndimage.gaussian_filter(hull, 1.0) > 0.5
    return hull | tissue


def complete(classes: np.ndarray, spacing: float, support: np.ndarray | None) -> np.ndarray:
    """Close holes, drop stray pieces and set CSF to its one meaning, on a regular template grid.

    Args:
        classes: brain classes (no extra-cerebral ones).
        support: where the scan shows anything (a brain-masked scan is empty beyond its mask); None for no limit.
    """
    csf = int(anatomy.to_classes(np.array([CSF]))[0])
    result = classes.copy()
    tissue = (result > 0) & (result != csf)
    parts, count = ndimage.label(tissue)
    if count > 1:
        largest = int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
        lesions = result >= min(anatomy.classes_of(kind="lesion"))
        result[tissue & (parts != largest) & ~lesions] = 0
        tissue = (result > 0) & (result != csf)
    fill_nearest(result, ndimage.binary_fill_holes(tissue) & (result == 0))
    tissue = (result > 0) & (result != csf)
    hull = brain_hull(tissue, spacing)
    # Labelled CSF is evidence of its own; elsewhere the scan has to show something.
    if support is not None:
        hull &= support | tissue
    result[hull & ~tissue] = csf
    result[~hull] = 0
    return result
