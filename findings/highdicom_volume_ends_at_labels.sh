#!/usr/bin/env bash
# highdicom 0.28.2: Segmentation.get_volume() begins and ends with the labelled slices.
#
# Expected: a volume on the grid of the series that was segmented.
# Seen:     slices 0 … 5 with labels in slices 1 and 4 come back as 4 slices, from the top down (LPS origin z = 4), for
#           BINARY and LABELMAP: empty frames are left out by default when the object is written. With
#           omit_empty_frames=False there are 6. Places in mm are right in each case.
# Matters:  lesions never fill a brain. Arrays of a scan and of its DICOM SEG have different numbers of slices, and the
#           same indices lie slices apart: compare and import by affine alone, or write with omit_empty_frames=False.
# Source:   https://pypi.org/project/highdicom/0.28.2/ (ImagingDataCommons/highdicom), run on 2026-11-30
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import highdicom
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


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


seen = {}
for kind in ("BINARY", "LABELMAP"):
    for omit in (True, False):
        write_segmentation("seg.dcm", kind, omit)
        volume = highdicom.seg.segread("seg.dcm").get_volume(combine_segments=True)
        voxels = np.argwhere(volume.array)
        places = sorted(tuple(map(float, (volume.affine @ [*voxel, 1])[:3])) for voxel in voxels)
        assert places == [(3, 2, 1), (6, 5, 4)]
        seen[kind, omit] = volume.array.shape, float(volume.position[2])
        print(kind, "omit_empty_frames", omit, "shape", volume.array.shape, "first slice at z", volume.position[2])
assert seen == {
    ("BINARY", True): ((4, 8, 10), 4.0),
    ("BINARY", False): ((6, 8, 10), 5.0),
    ("LABELMAP", True): ((4, 8, 10), 4.0),
    ("LABELMAP", False): ((6, 8, 10), 5.0),
}
PY
