#!/usr/bin/env bash
# dcm2niix 1.0.20260724 stores 3D acquisitions in another voxel order than 2D ones.
#
# Expected: the voxel order follows the slices: columns, rows, slices.
# Seen:     so it is with MRAcquisitionType "2D". With "3D" the same sagittal slices are permuted to RAS, so that array and
#           shape differ (10 × 8 × 6 becomes 6 × 10 × 8); `-x i` leaves them alone. Places in mm are right in each case.
# Matters:  a sagittal MPRAGE no longer has the voxel order of its DICOM series. A segmentation that was made on one of
#           them (DICOM SEG, .seg.nrrd, an array) fits the other by its affine, never by its indices.
# Source:   https://pypi.org/project/dcm2niix/1.0.20260724/ (rordenlab/dcm2niix), run on 2026-11-30
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet dcm2niix==1.0.20260724 pydicom==3.0.2 nibabel==5.4.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import subprocess
from pathlib import Path

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


def write_series(folder: Path, acquisition: str) -> None:
    """Six sagittal slices of 8 × 10 voxels of 1 mm, from right to left; one bright voxel in the fifth."""
    folder.mkdir(parents=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(6):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = MRImageStorage
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        slice_.Modality, slice_.MRAcquisitionType = "MR", acquisition
        slice_.ScanningSequence, slice_.SequenceVariant = "GR", "NONE"
        slice_.PatientName, slice_.PatientID, slice_.PatientPosition = "PHANTOM", "1", "HFS"
        slice_.StudyDate, slice_.StudyTime = "20260101", "000000"
        slice_.SeriesNumber, slice_.InstanceNumber = 1, k + 1
        slice_.SeriesDescription = slice_.ProtocolName = "phantom"
        slice_.PixelSpacing, slice_.SliceThickness, slice_.SpacingBetweenSlices = [1, 1], 1, 1
        slice_.ImageOrientationPatient, slice_.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [k, 0, 0]
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel = 8, 10, 1
        slice_.PhotometricInterpretation = "MONOCHROME2"
        slice_.BitsAllocated = slice_.BitsStored = 16
        slice_.HighBit, slice_.PixelRepresentation = 15, 0
        pixels = np.full((8, 10), 10, dtype="uint16")
        if k == 4:
            pixels[2, 7] = 1000
        slice_.PixelData = pixels.tobytes()
        slice_.save_as(folder / f"{k}.dcm", enforce_file_format=True)


seen = {}
for name, acquisition, options in (("2D", "2D", []), ("3D", "3D", []), ("3D -x i", "3D", ["-x", "i"])):
    folder = Path(name.replace(" ", ""))
    write_series(folder / "dicom", acquisition)
    command = ["venv/bin/dcm2niix", *options, "-f", "image", "-o", folder, folder / "dicom"]
    subprocess.run(command, check=True, capture_output=True)
    image = nibabel.load(folder / "image.nii")
    bright = np.argwhere(image.get_fdata() == 1000)[0]
    place = np.round(image.affine @ [*bright, 1])[:3]
    print(name, image.shape, "".join(nibabel.aff2axcodes(image.affine)), "bright voxel", bright, "at", place, "mm")
    # DICOM's place (LPS): 4 left, 7 posterior, -2 superior.
    assert np.array_equal(place, [-4, -7, -2])
    seen[name] = image.shape
assert seen == {"2D": (10, 8, 6), "3D": (6, 10, 8), "3D -x i": (10, 8, 6)}
PY
