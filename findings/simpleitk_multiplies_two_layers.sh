#!/usr/bin/env bash
# SimpleITK 2.5.7 multiplies the two layers of a .seg.nrrd when a scalar type is asked for.
#
# Expected: an error, as a scalar image cannot hold two components, or the first of them.
# Seen:     segments that overlap are saved by Slicer as layers, two components a voxel. ReadImage(path, sitkUInt8) gives an
#           image of one component that is 0 everywhere, and sitkInt32 only the voxels that are in both layers: two
#           components are taken for grey value and opacity. Without a type both layers come, 224 voxels in all.
# Matters:  a lesion painted over white matter is such a file. Pipelines that ask for an integer type to be safe get an
#           empty mask, or the overlap alone, without a word.
# Source:   https://pypi.org/project/SimpleITK/2.5.7/, file written by slicer-core 5.11.0.6; run on 2026-11-30
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet slicer-core==5.11.0.6 SimpleITK==2.5.7 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import SimpleITK
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

REPRESENTATION = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
vtk.vtkObject.GlobalWarningDisplayOff()


def oriented_image(array: np.ndarray) -> slicer.vtkOrientedImageData:
    """An (i, j, k) array as a label map of 1 mm."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(array.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(array.ravel(order="F"), deep=True))
    return image


def save(path: str, segments: list[tuple[str, int, slicer.vtkOrientedImageData]]) -> slicer.vtkSegmentation:
    """Save segments (name, label value, label map) as Slicer does, and return them as they are afterwards."""
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(REPRESENTATION)
    for name, value, image in segments:
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.SetLabelValue(value)
        segment.AddRepresentation(REPRESENTATION, image)
        segmentation.AddSegment(segment, name)
    scene, node, storage = slicer.vtkMRMLScene(), slicer.vtkMRMLSegmentationNode(), slicer.vtkMRMLSegmentationStorageNode()
    node.SetAndObserveSegmentation(segmentation)
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(path)
    assert storage.WriteData(node)
    return segmentation


white_matter, lesion = np.zeros((8, 9, 10), dtype="uint8"), np.zeros((8, 9, 10), dtype="uint8")
white_matter[1:7, 1:7, 1:7] = 1
lesion[3:5, 3:5, 3:5] = 1
segments = [("white matter", 1, oriented_image(white_matter)), ("lesion", 1, oriented_image(lesion))]
save("brain.seg.nrrd", segments)

layers = SimpleITK.ReadImage("brain.seg.nrrd")
counts = (SimpleITK.GetArrayFromImage(layers) > 0).sum(axis=(0, 1, 2)).tolist()
print("no type asked for:", layers.GetNumberOfComponentsPerPixel(), "components with", counts, "voxels")
assert counts == [216, 8]
for name, expected in (("sitkUInt8", 0), ("sitkUInt16", 0), ("sitkInt32", 8), ("sitkFloat32", 8)):
    image = SimpleITK.ReadImage("brain.seg.nrrd", getattr(SimpleITK, name))
    voxels = int((SimpleITK.GetArrayFromImage(image) > 0).sum())
    print(f"{name}:", image.GetNumberOfComponentsPerPixel(), "component with", voxels, "voxels")
    assert image.GetNumberOfComponentsPerPixel() == 1
    assert voxels == expected
PY
