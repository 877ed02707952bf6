#!/usr/bin/env bash
# ITK (SimpleITK 2.5.7, slicer-core 5.11.0.6) takes the qform of a NIfTI file where nibabel 5.4.2 takes the sform.
#
# Expected: readers agree; where both forms are set, on the sform, as NIfTI readers usually do.
# Seen:     with sform code 4 (MNI) or 2 (aligned) and any qform, ITK and Slicer take the qform, without a word. They take
#           the sform only if its code is 1, or that of the qform is 0. nibabel always takes the sform. An sform with a
#           shear of 0.0002 is refused by ITK if the qform code is 0, and loses its shear if there is a qform.
# Matters:  the standard provides for an alignment with MNI in the sform (code 4) beside the scanner's qform. Such a file
#           lies in MNI space for Python and in scanner space for Slicer and ITK, and a mask drawn on one does not lie on
#           the other. Affines from affine registration seldom are orthonormal to 0.0002.
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
import vtk

vtk.vtkObject.GlobalWarningDisplayOff()
FLIP = np.diag([-1, -1, 1])


def write(path: str, qform_code: int, sform_code: int, sform: np.ndarray) -> None:
    """A volume of 3 × 4 × 5 voxels of 1 mm whose qform is the identity."""
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), dtype="int16"), np.eye(4))
    image.set_qform(np.eye(4), qform_code)
    image.set_sform(sform, sform_code)
    nibabel.save(image, path)


def by_simpleitk(path: str) -> np.ndarray:
    """Direction cosines of the file's axes, in columns, RAS."""
    return FLIP @ np.reshape(SimpleITK.ReadImage(path).GetDirection(), (3, 3))


def by_slicer(path: str) -> np.ndarray:
    """As ``by_simpleitk``."""
    storage, node, matrix = slicer.vtkMRMLVolumeArchetypeStorageNode(), slicer.vtkMRMLScalarVolumeNode(), vtk.vtkMatrix4x4()
    storage.SetFileName(path)
    assert storage.ReadData(node)
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(3)] for row in range(3)])


turned = np.eye(4)
turned[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
for qform_code, sform_code, taken in ((1, 4, "qform"), (1, 2, "qform"), (1, 1, "sform"), (0, 4, "sform")):
    write("turned.nii", qform_code, sform_code, turned)
    expected = turned[:3, :3] if taken == "sform" else np.eye(3)
    assert np.allclose(nibabel.load("turned.nii").affine, turned)
    assert np.allclose(by_simpleitk("turned.nii"), expected, atol=1e-6)
    assert np.allclose(by_slicer("turned.nii"), expected, atol=1e-6)
    print(f"qform code {qform_code}, sform code {sform_code}: nibabel takes the sform, ITK and Slicer the {taken}")

sheared = np.eye(4)
sheared[0, 1] = 0.0002
write("sheared.nii", 1, 1, sheared)
assert np.allclose(nibabel.load("sheared.nii").affine, sheared, atol=1e-8)
assert np.array_equal(by_simpleitk("sheared.nii"), np.eye(3))
print("shear of 0.0002 with a qform: ITK reads none")
write("sheared.nii", 0, 1, sheared)
try:
    SimpleITK.ReadImage("sheared.nii")
except RuntimeError as error:
    assert "No orthonormal definition found" in str(error)
    print("shear of 0.0002 without a qform: ITK refuses the file")
else:
    raise AssertionError("ITK reads a sheared sform now")
PY
