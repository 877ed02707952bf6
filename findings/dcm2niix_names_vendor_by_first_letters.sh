#!/usr/bin/env bash
# dcm2niix 1.0.20260724 recognises the vendor by the first letters of Manufacturer (0008,0070).
#
# Expected: a Manufacturer that is none of the vendors' names reaches the sidecar as it stands, or is left out.
# Seen:     "Brain Imaging Centre" becomes Bruker, "Generic Simulator" GE, "Simulated" Siemens and "Phantom Laboratory"
#           Philips, in the sidecar and as the vendor whose private tags are then read. "Synthetic" is left out.
# Matters:  synthetic or derived brain MRI that is exported as DICOM enters BIDS data as a scan of a real vendor.
#           Harmonisation by scanner then treats it as one.
# Source:   https://pypi.org/project/dcm2niix/1.0.20260724/ (rordenlab/dcm2niix), run on 2026-11-30
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet dcm2niix==1.0.20260724 pydicom==3.0.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import json
import subprocess
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


def write_series(folder: Path, manufacturer: str) -> None:
    """Six axial slices of 8 × 10 voxels of 1 mm."""
    folder.mkdir(parents=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(6):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = MRImageStorage
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        slice_.Modality, slice_.MRAcquisitionType = "MR", "2D"
        slice_.ScanningSequence, slice_.SequenceVariant = "GR", "NONE"
        slice_.Manufacturer = manufacturer
        slice_.PatientName, slice_.PatientID, slice_.PatientPosition = "PHANTOM", "1", "HFS"
        slice_.StudyDate, slice_.StudyTime = "20260101", "000000"
        slice_.SeriesNumber, slice_.InstanceNumber = 1, k + 1
        slice_.SeriesDescription = slice_.ProtocolName = "phantom"
        slice_.PixelSpacing, slice_.SliceThickness, slice_.SpacingBetweenSlices = [1, 1], 1, 1
        slice_.ImageOrientationPatient, slice_.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, k]
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel = 8, 10, 1
        slice_.PhotometricInterpretation = "MONOCHROME2"
        slice_.BitsAllocated = slice_.BitsStored = 16
        slice_.HighBit, slice_.PixelRepresentation = 15, 0
        slice_.PixelData = (np.arange(80, dtype="uint16") + 100 * k).tobytes()
        slice_.save_as(folder / f"{k}.dcm", enforce_file_format=True)


seen = {}
for number, manufacturer in enumerate(
    ["Brain Imaging Centre", "Generic Simulator", "Simulated", "Phantom Laboratory", "Synthetic"]
):
    folder = Path(str(number))
    write_series(folder / "dicom", manufacturer)
    command = ["venv/bin/dcm2niix", "-f", "image", "-o", folder, folder / "dicom"]
    subprocess.run(command, check=True, capture_output=True)
    seen[manufacturer] = json.loads((folder / "image.json").read_text()).get("Manufacturer")
print(seen)
assert seen == {
    "Brain Imaging Centre": "Bruker",
    "Generic Simulator": "GE",
    "Simulated": "Siemens",
    "Phantom Laboratory": "Philips",
    "Synthetic": None,
}
PY
