"""A label map into a segmentation node with names, colours and terminology, and back."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput
from BrainGenLib.scene import terminology
from BrainGenLib.scene.volumes import right_handed, to_world, world_affine

# The cerebrum, the fluid around it, the oedema around a tumour.
_OPACITY_3D = {
    "cerebral cortex": 0.12,
    "cerebral white matter": 0.0,
    "extraventricular CSF": 0.0,
    "oedema": 0.3,
    "enhancing tumour": 0.6,
}


def add_segmentation(scene: Any, labels: np.ndarray, affine: np.ndarray, name: str, reference: Any) -> Any:
    """A segmentation node of a label map, one segment for every value that occurs.

    Args:
        scene: vtkMRMLScene.
        labels: (R, A, S) on-disk values of the label table.
        affine: 4×4 voxel-to-RAS matrix, mm, of the labels.
        name: of the node.
        reference: volume node whose geometry editing follows, or None for the label map's own.

    Raises:
        BadInput: a value is not in the label table.
    """
    node = segmentation_of(labels, affine)
    node.SetName(name)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    if reference is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    node.GetDisplayNode().SetVisibility2DFill(False)
    look_inside(node)
    return node


def look_inside(node: Any) -> None:
    """Let 3D views look into a brain: what hides other segments becomes glass, or is left out."""
    import slicer

    display = node.GetDisplayNode()
    with slicer.util.NodeModify(display):
        for segment_id, segment in _segments(node):
            opacity = _OPACITY_3D.get(segment.GetName().removeprefix("left ").removeprefix("right "), 1.0)
            display.SetSegmentOpacity3D(segment_id, opacity)
            display.SetSegmentVisibility3D(segment_id, opacity > 0)


def segmentation_of(labels: np.ndarray, affine: np.ndarray) -> Any:
    """A segmentation node that is in no scene; arguments and errors as of :func:`add_segmentation`."""
    import slicer

    # Slice by slice: counting turns what it counts into 64 bit integers, which for a whole volume takes a while.
    bins = int(labels.max()) + 1
    counts = sum(np.bincount(labels[:, :, k].ravel(order="K"), minlength=bins) for k in range(labels.shape[2]))
    present = np.flatnonzero(counts)
    anatomy.to_classes(present)
    image = _oriented_image(labels, affine)
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    # Filled before a scene watches it, and all segments share one image, each its own value: Slicer's importer cuts
    # one out for each, in half a second.
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(binary)
    for label in (one for one in anatomy.labels()[1:] if one.value in present):
        segment = slicer.vtkSegment()
        segment.SetName(label.name)
        segment.SetColor([channel / 255 for channel in label.color])
        segment.SetLabelValue(label.value)
        segment.AddRepresentation(binary, image)
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminology.entry(label))
        segmentation.AddSegment(segment, label.name)
    segmentation.SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(),
        slicer.vtkSegmentationConverter.SerializeImageGeometry(image),
    )
    node = slicer.vtkMRMLSegmentationNode()
    node.SetAndObserveSegmentation(segmentation)
    return node


def label_map_of(node: Any, reference: Any | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The label map of a segmentation node, as it was made or edited.

    Which label a segment is, its terminology says, or else its name. Where segments overlap, lesions win.

    Args:
        node: vtkMRMLSegmentationNode.
        reference: volume node whose grid the result has; None for the grid that editing follows.

    Returns:
        (i, j, k) uint16 on-disk values, and the 4×4 voxel-to-world matrix in mm.

    Raises:
        BadInput: a segment is no structure or lesion of the label table, there is no segment, or a transform is not
            linear.
    """
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    segmentation = node.GetSegmentation()
    known = {segment_id: _label(segment) for segment_id, segment in _segments(node)}
    indices = {segment_id: label.index for segment_id, label in known.items() if label is not None}
    if not indices:
        raise BadInput(
            f"{node.GetName()!r} has no segment with voxels; paint one in Segment Editor, or choose another "
            "segmentation."
        )
    upright = to_world(node)
    grid = _own_grid(node) if reference is None else _grid_of(reference, upright)
    shape = grid.GetDimensions()
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    for layer in range(segmentation.GetNumberOfLayers()):
        image = slicer.vtkOrientedImageData()
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
            segmentation.GetLayerDataObject(layer), grid, image
        )
        lookup = np.zeros(2**16, np.uint8)
        for segment_id in segmentation.GetSegmentIDsForLayer(layer):
            lookup[segmentation.GetSegment(segment_id).GetLabelValue()] = indices.get(segment_id, 0)
        layers.append((vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape, order="F"), lookup))
    # In the order of the images and of NIfTI, else it takes twice as long here and again where it is written. Slice
    # by slice: looking up turns what is looked up into 64 bit integers, and memory that is new is slow.
    labels = np.empty(shape, np.uint16, order="F")
    nothing = np.zeros(shape[:2], np.uint8)
    for k in range(shape[2]):
        # Lesions are the last classes of the table.
        classes = reduce(np.maximum, (lookup[found[:, :, k]] for found, lookup in layers), nothing)
        labels[:, :, k] = anatomy.to_values(classes)
    matrix = vtk.vtkMatrix4x4()
    grid.GetImageToWorldMatrix(matrix)
    return labels, upright @ slicer.util.arrayFromVTKMatrix(matrix)


def unknown_segments(node: Any) -> dict[str, str]:
    """Names by ID of the segments with voxels that are no structure or lesion of the label table, as of a mask."""
    return {
        segment_id: segment.GetName()
        for segment_id, segment in _segments(node)
        if _known(segment) is None and not _empty(segment)
    }


def say_what(node: Any, segment_id: str, label: anatomy.Label) -> None:
    """Let a segment be a structure or lesion of the label table, by its terminology; its name stays."""
    segment = node.GetSegmentation().GetSegment(segment_id)
    segment.SetTag(segment.GetTerminologyEntryTagName(), terminology.entry(label))


def _known(segment: Any) -> anatomy.Label | None:
    by_name = {label.name.lower(): label for label in anatomy.labels()[1:]}
    return terminology.label_of(segment.GetTerminology()) or by_name.get(segment.GetName().strip().lower())


def source_of(node: Any) -> Any | None:
    """The volume that a segmentation node is of, where that is known."""
    return node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())


def found_in(scene: Any, scan: Any) -> Any | None:
    """The last segmentation node by the segmenter of a scan, if there is one."""
    count = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    nodes = [scene.GetNthNodeByClass(index, "vtkMRMLSegmentationNode") for index in range(count)]
    found = [node for node in nodes if source_of(node) is scan and node.GetAttribute("BrainGen.verb") == "segment"]
    return found[-1] if found else None


def lesions_ml(node: Any) -> dict[str, float]:
    """Volume of every pathology in a segmentation node, mL; segments that BrainGen does not know are left out."""
    from vtk.util.numpy_support import vtk_to_numpy

    names = {label.value: name for name, label in anatomy.lesions().items()}
    found = dict.fromkeys(anatomy.lesions(), 0.0)
    for _, segment in _segments(node):
        image = segment.GetRepresentation("Binary labelmap")
        label = _known(segment)
        name = names.get(label.value) if label is not None else None
        if name is not None and image is not None and image.GetPointData().GetScalars() is not None:
            voxels = np.count_nonzero(vtk_to_numpy(image.GetPointData().GetScalars()) == segment.GetLabelValue())
            found[name] += float(voxels * np.prod(image.GetSpacing()) / 1000)
    return found


def _label(segment: Any) -> anatomy.Label | None:
    """What a segment is; None where it holds nothing, as the one that Segment Editor adds by itself."""
    label = _known(segment)
    if label is None and not _empty(segment):
        raise BadInput(
            f"The segment {segment.GetName()!r} is no structure or lesion that BrainGen knows; in Segment Editor, "
            f"choose its terminology from the list {terminology.CONTEXT}, or name it as one of these: {_names()}."
        )
    return label


def _names() -> str:
    """The names of the label table, lesions first."""
    lesions = [label.name for label in anatomy.labels() if label.kind == "lesion"]
    structures = [label.name for label in anatomy.labels() if label.kind == "structure" and label.side != "right"]
    return ", ".join([*lesions, *(name.replace("left ", "left/right ") for name in structures)])


def _empty(segment: Any) -> bool:
    from vtk.util.numpy_support import vtk_to_numpy

    names: list[str] = []
    segment.GetContainedRepresentationNames(names)
    image = segment.GetRepresentation("Binary labelmap")
    if image is None:
        return not names
    scalars = image.GetPointData().GetScalars()
    return scalars is None or not (vtk_to_numpy(scalars) == segment.GetLabelValue()).any()


def _grid_of(volume: Any, upright: np.ndarray) -> Any:
    """The grid of a volume as an image without voxels, in coordinates that ``upright`` maps to the world."""
    import slicer

    grid = slicer.vtkOrientedImageData()
    grid.SetDimensions(volume.GetImageData().GetDimensions())
    matrix = np.linalg.solve(upright, world_affine(volume))
    grid.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return grid


def _own_grid(node: Any) -> Any:
    """The grid that editing a segmentation follows."""
    import slicer

    converter = slicer.vtkSegmentationConverter
    geometry = node.GetSegmentation().GetConversionParameter(converter.GetReferenceImageGeometryParameterName())
    grid = slicer.vtkOrientedImageData()
    if not geometry or not converter.DeserializeImageGeometry(geometry, grid, False):
        raise BadInput(f"{node.GetName()!r} has no source geometry; set one in Segment Editor.")
    return grid


def _oriented_image(labels: np.ndarray, affine: np.ndarray) -> Any:
    import slicer
    from vtk.util.numpy_support import numpy_to_vtk

    labels, affine = right_handed(labels, affine)
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(labels.shape)
    scalars = numpy_to_vtk(labels.astype(np.uint16, copy=False).ravel(order="F"), deep=True)
    image.GetPointData().SetScalars(scalars)
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(affine))
    return image


def _segments(node: Any) -> list[tuple[str, Any]]:
    segmentation = node.GetSegmentation()
    return [
        (segmentation.GetNthSegmentID(index), segmentation.GetNthSegment(index))
        for index in range(segmentation.GetNumberOfSegments())
    ]
