"""Does a cortex fold as people's do? Measures of a class map of 1 mm that need no network."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from BrainGenLib import anatomy
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods.topology import NEIGHBOURS

MEASURES = {
    "gyrification": "area of the white surface, over that of its convex hull",
    "thickness, median (mm)": "from white matter to the outside, at voxels of cortex halfway between them",
    "thickness, sd (mm)": "its standard deviation within a brain",
    "sulcal depth, 95 % (mm)": "how far the deepest open sulci lie below the outer hull",
    "open sulci (mL)": "between the cerebrum and its hull, a closing by a ball of 14 mm",
    "Euler number": "parts - handles + cavities of white matter with all that it encloses",
    "parts of white matter": "connected ones",
    "ragged white border (%)": "voxels that the majority of 27 changes, over those at the border",
    "ragged outer border (%)": "the same of the cerebrum",
    "cortex (mL)": "both sides",
    "white matter (mL)": "of the cerebrum, lesions included",
}
"""Measure to what it says; lengths and volumes are those of the grid."""
SMOOTH = 0.7
"""Voxels (one standard deviation) by which a mask is blurred before its surface is traced."""
HULL_MM = 14
"""Radius of the ball that closes sulci."""


def cortex_measures(classes: np.ndarray) -> dict[str, float]:
    """The :data:`MEASURES` of a class map (R, A, S) of 1 mm.

    Raises:
        ValueError: the map has no cerebral cortex or no white matter.
    """
    cortex = np.isin(classes, anatomy.classes_of(name="cerebral cortex"))
    # Lesions are part of white matter.
    white = np.isin(classes, anatomy.classes_of(name="cerebral white matter")) | (classes >= STRUCTURES)
    if not cortex.any() or not white.any():
        raise ValueError("The label map has no cerebral cortex or no cerebral white matter: nothing to measure.")
    within = np.isin(classes, [*anatomy.classes_of(tissue="deep_gm"), *_named(
        "lateral ventricle", "inferior lateral ventricle", "third ventricle", "hippocampus", "amygdala"
    )])  # fmt: skip
    hindbrain = np.isin(
        classes, _named("cerebellar cortex", "cerebellar white matter", "fourth ventricle", "brainstem")
    )
    (box,) = ndimage.find_objects((cortex | white | within).astype(np.uint8))
    cortex, white, within, hindbrain = (np.pad(mask[box], 3) for mask in (cortex, white, within, hindbrain))
    core = ndimage.binary_fill_holes(_largest(white | within))
    cerebrum = core | cortex | within | white
    depth = depth_below_hull(cerebrum)
    sulci = (depth > 0) & ~cerebrum & ~hindbrain
    thickness = _thickness(cortex, core, cerebrum)
    points, area = surface(core)
    return {
        "gyrification": area / ConvexHull(points).area,
        "thickness, median (mm)": float(np.median(thickness)),
        "thickness, sd (mm)": float(thickness.std()),
        "sulcal depth, 95 % (mm)": float(np.percentile(depth[sulci], 95)) if sulci.any() else 0.0,
        "open sulci (mL)": sulci.sum() / 1000,
        "Euler number": float(euler_number(core)),
        "parts of white matter": float(ndimage.label(white, NEIGHBOURS)[1]),
        "ragged white border (%)": raggedness(core),
        "ragged outer border (%)": raggedness(cerebrum),
        "cortex (mL)": cortex.sum() / 1000,
        "white matter (mL)": white.sum() / 1000,
    }


def _named(*names: str) -> list[int]:
    return [index for name in names for index in anatomy.classes_of(name=name)]


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, _ = ndimage.label(mask, NEIGHBOURS)
    return np.asarray(parts == np.bincount(parts.ravel())[1:].argmax() + 1)


def _thickness(cortex: np.ndarray, core: np.ndarray, cerebrum: np.ndarray) -> np.ndarray:
    """Thickness at the voxels of cortex that are as far from white matter as from the outside, mm."""
    inner, outer = ndimage.distance_transform_edt(~core), ndimage.distance_transform_edt(cerebrum)
    # Distances are between centres of voxels: each holds half a voxel that is not cortex.
    return np.asarray((inner + outer - 1)[cortex & (np.abs(inner - outer) <= 1)])


def raggedness(mask: np.ndarray) -> float:
    """Voxels that a majority of 27 changes, % of the mask's voxels that have a face at its border."""
    smooth = ndimage.uniform_filter(mask.astype(np.float32), 3) > 0.5
    border = mask & ~ndimage.binary_erosion(mask)
    return float(100 * np.count_nonzero(smooth != mask) / np.count_nonzero(border))


def surface(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Points (P, 3) of the surface of a mask, voxels, and its area, voxels²."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

    field = ndimage.gaussian_filter(np.pad(mask, 3).astype(np.float32), SMOOTH)
    grid = vtkImageData()
    grid.SetDimensions(field.shape)
    grid.GetPointData().SetScalars(numpy_to_vtk(field.ravel(order="F"), deep=True))
    contour = vtkFlyingEdges3D()
    contour.SetInputData(grid)
    contour.SetValue(0, 0.5)
    contour.ComputeNormalsOff()
    contour.Update()
    points = vtk_to_numpy(contour.GetOutput().GetPoints().GetData()) - 3.0
    triangles = points[vtk_to_numpy(contour.GetOutput().GetPolys().GetConnectivityArray()).reshape(-1, 3)]
    sides = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return points, float(np.linalg.norm(sides, axis=1).sum() / 2)


def depth_below_hull(mask: np.ndarray) -> np.ndarray:
    """Distance of every voxel within the hull of a mask from the outside, mm; 0 outside. The hull is made at 2 mm."""
    margin = HULL_MM // 2 + 2
    even = np.pad(mask, [(0, n % 2) for n in mask.shape])
    coarse = even.reshape([part for n in even.shape for part in (n // 2, 2)]).mean((1, 3, 5)) >= 0.5
    coarse = np.pad(coarse, margin)
    dilated = ndimage.distance_transform_edt(~coarse) <= HULL_MM / 2
    hull = coarse | (ndimage.distance_transform_edt(dilated) > HULL_MM / 2)
    depth = 2 * ndimage.distance_transform_edt(hull)[margin:-margin, margin:-margin, margin:-margin]
    fine = depth.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return np.asarray(fine[tuple(slice(n) for n in mask.shape)])


def euler_number(mask: np.ndarray) -> int:
    """Parts - handles + cavities of a mask whose voxels are connected if they share a corner.

    Vertices - edges + faces - cubes of the closed voxels.
    """
    padded = np.pad(mask, 1)
    total = 0
    for shared in itertools.product((False, True), repeat=3):
        cells = padded
        for axis, along in enumerate(shared):
            if along:
                low, high = (np.delete(cells, place, axis) for place in (-1, 0))
                cells = low | high
        # Cells that extend along an axis in which neighbours are not joined: a vertex along none, a cube along three.
        total += (-1) ** (3 - sum(shared)) * int(np.count_nonzero(cells))
    return total
