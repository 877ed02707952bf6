"""Label maps tidied: small islands go to their surroundings, and white matter loses its handles."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from BrainGenLib import anatomy

ISLAND = 200
"""Voxels (1 mm): connected parts of a class that are smaller are islands."""
SPECK = 40
"""The same of CSF, which lies scattered."""
NEIGHBOURS = np.ones((3, 3, 3))
"""Voxels that share a corner are connected."""


def without_islands(classes: np.ndarray) -> np.ndarray:
    """The class map (R, A, S) with islands given to the nearest other voxel; the largest part of a class stays."""
    fluid = anatomy.classes_of(name="extraventricular CSF")
    island = np.zeros(classes.shape, bool)
    for value, box in enumerate(ndimage.find_objects(classes), 1):
        if box is None:
            continue
        parts, _ = ndimage.label(classes[box] == value, NEIGHBOURS)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        least = SPECK if value in fluid else ISLAND
        small = sizes < min(least, sizes.max())
        small[0] = False
        island[box] |= small[parts]
    if not island.any():
        return classes
    lost = np.argwhere(np.pad(island, 1))
    # The nearest voxel touches an island, by a corner at least.
    beside = np.unique((lost[:, None] + np.argwhere(NEIGHBOURS) - 1).reshape(-1, 3), axis=0)
    beside = beside[~np.pad(island, 1, constant_values=True)[tuple(beside.T)]] - 1
    out = classes.copy()
    out[island] = classes[tuple(beside[cKDTree(beside).query(lost - 1)[1]].T)]
    return out


def without_handles(classes: np.ndarray) -> np.ndarray:
    """The class map (R, A, S) with white matter that closes a handle given to the cortex of its side.

    White matter and the structures within grow again from their deepest voxel, always by the deepest voxel that
    touches and changes no topology (homotopic growth; simple points: Bertrand and Malandain 1994), so that a handle
    is cut where it is thinnest. Without numba the map stays as it is: the loop would take minutes.
    """
    try:
        from BrainGenLib.methods import topology_kernels as kernels
    except ImportError:
        return classes
    white, cortex = (
        [anatomy.classes_of(name=f"{side} cerebral {tissue}")[0] for side in ("left", "right")]
        for tissue in ("white matter", "cortex")
    )
    within = [
        *anatomy.classes_of(tissue="deep_gm", kind="structure"),
        *(index for name in ("lateral ventricle", "inferior lateral ventricle", "third ventricle")
          for index in anatomy.classes_of(name=name)),
    ]  # fmt: skip
    core = np.isin(classes, [*white, *within])
    if not core.any():
        return classes
    (box,) = ndimage.find_objects(core.astype(np.uint8))
    parts, _ = ndimage.label(core[box], NEIGHBOURS)
    largest = np.pad(parts == np.bincount(parts.ravel())[1:].argmax() + 1, 2)
    filled = ndimage.binary_fill_holes(largest)
    depth = ndimage.distance_transform_edt(filled).astype(np.float32)
    # Among voxels of one depth, those in thick places first.
    depth += 0.1 * ndimage.gaussian_filter(filled.astype(np.float32), 1.5)
    grown = np.zeros_like(filled)
    i, j, k = (int(place) for place in np.unravel_index(int(depth.argmax()), depth.shape))
    kernels.grow(grown, filled, depth, i, j, k, kernels.CORNERS, kernels.FACES, kernels.BESIDE)
    refused = (filled & ~grown)[2:-2, 2:-2, 2:-2]
    out = classes.copy()
    part = out[box]
    for w, c in zip(white, cortex, strict=True):
        part[refused & (part == w)] = c
    return out
