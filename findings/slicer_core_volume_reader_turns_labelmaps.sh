#!/usr/bin/env bash
# slicer-core 5.11.0.6: Slicer's volume reader places DICOM LABELMAP segmentations upside down.
#
# Expected: a voxel stands where the DICOM object says, or the object is refused.
# Seen:     a LABELMAP segmentation (Supplement 243) written by highdicom 0.28.2 opens without an error, with its right
#           values, but its stack grows from the first frame in the wrong direction: voxels at z = 1 and 4 mm stand at
#           9 and 6 mm. A BINARY segmentation of the same voxels is placed rightly, with value 255 for each segment.
#           SimpleITK 2.5.7 reads BINARY the same way and does not open LABELMAP.
# Matters:  "opens in Slicer" is no check of an exported LABELMAP: lesions appear in the head, in wrong slices. DICOM SEG
#           belongs to a reader of segmentations (dcmqi, highdicom), and places have to be compared.
# Source:   https://pypi.org/project/slicer-core/5.11.0.6/ (KitwareMedical), highdicom, SimpleITK; run on 2026-11-30
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6 slicer-core==5.11.0.6 SimpleITK==2.5.7
cd "$work"
venv/bin/python - <<'PY'
import highdicom
import numpy as np
import SimpleITK
import slicer
import vtk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from vtk.util.numpy_support import vtk_to_numpy


def series_of_zeros() -> list[Dataset]:
    """Six axial slices of 8 × 10 voxels of 1 mm, at z = 0 … 5 mm (LPS)."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    slices = []
    for k in range(6):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = MRImageStorage
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.Modality, slice_.PatientName, slice_.PatientID = "MR", "PHANTOM^ONE", "1"
        slice_.PatientBirthDate = slice_.PatientSex = slice_.StudyID = slice_.AccessionNumber = ""
        slice_.StudyDate, slice_.StudyTime = "20260101", "000000"
        slice_.SeriesNumber, slice_.InstanceNumber = 1, k + 1
        slice_.PixelSpacing, slice_.SliceThickness = [1, 1], 1
        slice_.ImageOrientationPatient, slice_.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, k]
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel = 8, 10, 1
        slice_.PhotometricInterpretation = "MONOCHROME2"
        slice_.BitsAllocated = slice_.BitsStored = 16
        slice_.HighBit, slice_.PixelRepresentation = 15, 0
        slice_.PixelData = np.zeros((8, 10), dtype="uint16").tobytes()
        slices.append(slice_)
    return slices


def write_segmentation(path: str, kind: str, omit_empty_frames: bool) -> None:
    """Two voxels of one segment: at (3, 2, 1) and (6, 5, 4) mm."""
    mask = np.zeros((6, 8, 10), dtype="uint8")
    mask[1, 2, 3] = mask[4, 5, 6] = 1
    description = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="MANUAL",
    )
    highdicom.seg.Segmentation(
        source_images=series_of_zeros(),
        pixel_array=mask,
        segmentation_type=kind,
        segment_descriptions=[description],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=omit_empty_frames,
    ).save_as(path)


def places_in_slicer(path: str) -> tuple[set[int], list[tuple[float, ...]]]:
    """Values other than 0, and where they are in mm (LPS)."""
    storage, node = slicer.vtkMRMLVolumeArchetypeStorageNode(), slicer.vtkMRMLScalarVolumeNode()
    storage.SetFileName(path)
    storage.SetSingleFile(True)
    assert storage.ReadData(node)
    image, matrix = node.GetImageData(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    points = [matrix.MultiplyPoint([*map(float, voxel[::-1]), 1.0]) for voxel in np.argwhere(array)]
    return {int(value) for value in np.unique(array)} - {0}, sorted((-x, -y, z) for x, y, z, _ in points)


for kind, value, places in (
    ("BINARY", 255, [(3, 2, 1), (6, 5, 4)]),
    ("LABELMAP", 1, [(3, 2, 9), (6, 5, 6)]),
):
    write_segmentation(f"{kind}.dcm", kind, omit_empty_frames=False)
    written = highdicom.seg.segread(f"{kind}.dcm").get_volume(combine_segments=True)
    truth = sorted(tuple(map(float, (written.affine @ [*voxel, 1])[:3])) for voxel in np.argwhere(written.array))
    assert truth == [(3, 2, 1), (6, 5, 4)]
    seen = places_in_slicer(f"{kind}.dcm")
    print(kind, "values", seen[0], "written at", truth, "read at", seen[1])
    assert seen == ({value}, places)

binary = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("BINARY.dcm"))
assert set(np.unique(binary).tolist()) == {0, 255}
try:
    SimpleITK.ReadImage("LABELMAP.dcm")
except RuntimeError as error:
    assert "Unable to determine ImageIO reader" in str(error)
    print("SimpleITK does not open LABELMAP")
else:
    raise AssertionError("SimpleITK opens LABELMAP now")
PY
