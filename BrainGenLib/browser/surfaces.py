"""Surfaces for the 3D view, one segment at a time, so that the page answers in between.

Slicer's own conversion takes over a second for a cortex of 1 mm, and a view without a graphics card as long to draw
it. Large segments are therefore made coarser first, which a streamed picture hardly shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_CLOSED_SURFACE = "Closed surface"
# Voxels of a segment from which on its surface has voxels of 2 and 3 mm.
_LARGE_VOXELS = (20_000, 200_000)
_PASS_BAND = 0.02
_ITERATIONS = 20


def adding_surfaces(node: Any) -> Iterator[None]:
    """Add a closed surface to every segment that the 3D view is to show, pausing after each.

    Args:
        node: vtkMRMLSegmentationNode whose source is label maps.
    """
    import slicer
    import vtk

    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    # First an empty one for all, and views hear of it at the end: they show none before the segment whose name comes
    # first has one, and then let Slicer make those that lack, all at once.
    with slicer.util.NodeModify(node):
        for name in segmentation.GetSegmentIDs():
            if segmentation.GetSegment(name).GetRepresentation(_CLOSED_SURFACE) is None:
                segmentation.GetSegment(name).AddRepresentation(_CLOSED_SURFACE, vtk.vtkPolyData())
    for name in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(name)
        # The user may have erased it meanwhile.
        if segment is None or not display.GetSegmentVisibility3D(name):
            continue
        made = segment.GetRepresentation(_CLOSED_SURFACE)
        if made is None or not made.GetNumberOfPoints():
            segment.AddRepresentation(_CLOSED_SURFACE, _surface(segment))
            yield


def _surface(segment: Any) -> Any:
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    image = segment.GetRepresentation("Binary labelmap")
    labels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions(), order="F")
    mask = labels == segment.GetLabelValue()
    step = 1 + int(np.searchsorted(_LARGE_VOXELS, np.count_nonzero(mask)))
    field, corner = _field(mask, step)

    grid = vtk.vtkImageData()
    grid.SetDimensions(field.shape)
    grid.GetPointData().SetScalars(numpy_to_vtk(field.ravel(order="F"), deep=True))
    contour = vtk.vtkFlyingEdges3D()
    contour.SetInputData(grid)
    contour.SetValue(0, 0.5)
    contour.ComputeNormalsOff()
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(contour.GetOutputPort())
    smooth.SetNumberOfIterations(_ITERATIONS)
    smooth.SetPassBand(_PASS_BAND)
    smooth.NormalizeCoordinatesOn()
    to_world = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_world)
    halved = np.diag([step, step, step, 1.0])
    halved[:3, 3] = corner + (step - 1) / 2
    transform = vtk.vtkTransform()
    transform.SetMatrix(slicer.util.vtkMatrixFromArray(slicer.util.arrayFromVTKMatrix(to_world) @ halved))
    place = vtk.vtkTransformPolyDataFilter()
    place.SetInputConnection(smooth.GetOutputPort())
    place.SetTransform(transform)
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(place.GetOutputPort())
    normals.SplittingOff()
    normals.Update()
    return normals.GetOutput()


def _field(mask: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """How full each block of ``step``³ voxels is, with empty blocks around, and the voxel where that begins."""
    occupied = [np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    low = np.array([line[0] if line.size else 0 for line in occupied])
    high = np.array([line[-1] + 1 if line.size else 1 for line in occupied])
    inside = mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    padded = np.pad(inside, [(step, step + -size % step) for size in inside.shape])
    blocks = padded.reshape([part for size in padded.shape for part in (size // step, step)])
    return blocks.mean((1, 3, 5), dtype=np.float32), low - step
