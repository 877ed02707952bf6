"""A segment taken out of a segmentation, so that the rest still is an anatomy: what surrounded it grows over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_MARGIN = 4
_BINARY = "Binary labelmap"


@dataclass
class Erased:
    """What :func:`restore_segment` needs. ``mask``: where the segment was in the image that it shared, if it did."""

    id: str
    segment: Any
    visible_3d: bool
    opacity_3d: float
    mask: np.ndarray | None


def erase_segment(node: Any, segment_id: str) -> Erased:
    """Remove a segment; its voxels go to the nearest of the segments that share its image.

    A hole would be rendered as air in the middle of a brain.

    Args:
        node: vtkMRMLSegmentationNode.
        segment_id: of the segment.

    Raises:
        KeyError: there is no such segment.
    """
    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    segment = segmentation.GetSegment(segment_id)
    if segment is None:
        raise KeyError(segment_id)
    image = segment.GetRepresentation(_BINARY)
    shared = any(other.GetRepresentation(_BINARY) is image for other in _segments(node) if other is not segment)
    mask = _labels(image) == segment.GetLabelValue() if shared else None
    visible, opacity = display.GetSegmentVisibility3D(segment_id), display.GetSegmentOpacity3D(segment_id)
    # Its voxels become background.
    segmentation.RemoveSegment(segment_id)
    if mask is not None and mask.any():
        _grow_over(_labels(image), mask)
        _changed(node, image)
    return Erased(segment_id, segment, bool(visible), opacity, mask)


def restore_segment(node: Any, erased: Erased) -> None:
    """Put a segment back where it was, over what has grown there."""
    segment = erased.segment
    if erased.mask is not None:
        same = [other for other in _segments(node) if _shape(other) == erased.mask.shape]
        if same and all(other.GetLabelValue() != segment.GetLabelValue() for other in same):
            image = same[0].GetRepresentation(_BINARY)
            _labels(image)[erased.mask] = segment.GetLabelValue()
            segment.RemoveAllRepresentations()
            segment.AddRepresentation(_BINARY, image)
            _changed(node, image)
    node.GetSegmentation().AddSegment(segment, erased.id)
    node.GetDisplayNode().SetSegmentVisibility3D(erased.id, erased.visible_3d)
    node.GetDisplayNode().SetSegmentOpacity3D(erased.id, erased.opacity_3d)


def _grow_over(labels: np.ndarray, hole: np.ndarray) -> None:
    from scipy import ndimage

    low, high = np.array([[line.min() - _MARGIN, line.max() + _MARGIN + 1] for line in np.nonzero(hole)]).T
    box = tuple(slice(max(start, 0), stop) for start, stop in zip(low, high, strict=True))
    around, inside = labels[box], hole[box]
    empty = inside | (around == 0)
    if not empty.all():
        nearest = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
        around[inside] = around[tuple(nearest)][inside]


def _changed(node: Any, image: Any) -> None:
    """Tell views about voxels that were written in place; surfaces of them are out of date."""
    image.GetPointData().GetScalars().Modified()
    image.Modified()
    for segment in _segments(node):
        if segment.GetRepresentation(_BINARY) is image:
            segment.Modified()


def _segments(node: Any) -> list[Any]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments())]


def _shape(segment: Any) -> tuple[int, ...]:
    image = segment.GetRepresentation(_BINARY)
    return image.GetDimensions() if image is not None else ()


def _labels(image: Any) -> np.ndarray:
    """(i, j, k) label values of an image, not a copy."""
    from vtk.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions(), order="F")
