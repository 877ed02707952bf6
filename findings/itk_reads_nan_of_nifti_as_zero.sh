#!/usr/bin/env bash
# ITK (SimpleITK 2.5.7, slicer-core 5.11.0.6) reads NaN and infinity of NIfTI files as 0.
#
# Expected: float voxels come back as they were written, or a warning.
# Seen:     NaN, inf and -inf of a float32 .nii become 0 in SimpleITK and in Slicer, silently; nibabel 5.4.2 keeps them,
#           and so does SimpleITK for .nrrd and .mha with the same voxels.
# Matters:  scans divided by a mask or a bias field, z-scored inside of a brain mask, or maps of statistics hold NaN outside
#           of it. A check by SimpleITK or a look at it in Slicer finds them clean; a network that reads them by nibabel
#           gets NaN, and 0 is not air where a scan is z-scored.
# Source:   https://pypi.org/project/SimpleITK/2.5.7/, slicer-core and nibabel there; run on 2026-11-30
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet nibabel==5.4.2 SimpleITK==2.5.7 slicer-core==5.11.0.6 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import nibabel
import numpy as np
import SimpleITK
import slicer
from vtk.util.numpy_support import vtk_to_numpy

written = np.full((3, 4, 5), 7, dtype="float32")
written[0, 0, 0], written[1, 1, 1], written[2, 2, 2] = np.nan, np.inf, -np.inf
nibabel.save(nibabel.Nifti1Image(written, np.eye(4)), "scan.nii")
for extension in ("nrrd", "mha"):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(written.T), f"scan.{extension}")

storage, node = slicer.vtkMRMLVolumeArchetypeStorageNode(), slicer.vtkMRMLScalarVolumeNode()
storage.SetFileName("scan.nii")
assert storage.ReadData(node)
image = node.GetImageData()
read = {
    "nibabel, .nii": nibabel.load("scan.nii").get_fdata(),
    "SimpleITK, .nii": SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("scan.nii")).T,
    "Slicer, .nii": vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1]).T,
    "SimpleITK, .nrrd": SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("scan.nrrd")).T,
    "SimpleITK, .mha": SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("scan.mha")).T,
}
zeros = np.where(np.isfinite(written), written, 0)
for name, array in read.items():
    print(name, array[0, 0, 0], array[1, 1, 1], array[2, 2, 2])
    expected = zeros if name in ("SimpleITK, .nii", "Slicer, .nii") else written
    assert np.array_equal(array, expected, equal_nan=True), name
PY
