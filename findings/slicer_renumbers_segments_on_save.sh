#!/usr/bin/env bash
# Slicer (slicer-core 5.11.0.6) renumbers the values of segments when a segmentation is saved.
#
# Expected: a segment with label value 53 (right hippocampus in FreeSurfer's table) has value 53 in the .seg.nrrd.
# Seen:     so it is while all segments share one label map, as after an import. Segments with label maps of their own,
#           as after painting or copying them, are merged on saving: 17, 53, 901, 905 become 17, 18, 19, 20, in the file
#           and in the open scene. Names, terminology and SegmentN_LabelValue in the header fit the new values.
# Matters:  18 is the left amygdala in FreeSurfer's table: who reads such a file by its voxel values alone trains on, or
#           measures, another structure, without an error. Read .seg.nrrd by names or terminology.
# Source:   https://pypi.org/project/slicer-core/5.11.0.6/ (KitwareMedical), run on 2026-11-30
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


VALUES = (17, 53, 901, 905)
whole = np.zeros((9, 8, 10), dtype="int16")
for position, value in enumerate(VALUES):
    whole[1 + 2 * position, 2:4, 3:5] = value
shared = oriented_image(whole)
own = {value: oriented_image(np.where(whole == value, whole, 0)) for value in VALUES}
for kind, images, expected in (
    ("one shared label map", dict.fromkeys(VALUES, shared), [17, 53, 901, 905]),
    ("label maps of their own", own, [17, 18, 19, 20]),
):
    after = save("brain.seg.nrrd", [(f"structure {value}", value, images[value]) for value in VALUES])
    image = SimpleITK.ReadImage("brain.seg.nrrd")
    in_file = np.unique(SimpleITK.GetArrayFromImage(image)).tolist()
    in_header = {image.GetMetaData(f"Segment{n}_Name"): image.GetMetaData(f"Segment{n}_LabelValue") for n in range(4)}
    print(f"{kind}: values {in_file}, header {in_header}")
    assert in_file == [0, *expected]
    assert in_header == {f"structure {value}": str(new) for value, new in zip(VALUES, expected, strict=True)}
    assert [after.GetNthSegment(n).GetLabelValue() for n in range(4)] == expected
PY
