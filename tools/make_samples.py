"""The samples of Slicer's module Sample Data, and their thumbnail, from a generated case.

    braingen generate --pathology wmh=0.3 --contrast T1w --contrast FLAIR --seed 11 --count 1 --out DIR
    python tools/make_samples.py DIR/sub-0001

Writes ``BrainGen/Resources/SampleData`` and prints the SHA-256 of each file, for ``BrainGenPanel/sample_data.py``.
"""

import hashlib
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import slicer
from PIL import Image
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.case import Case
from BrainGenLib.export import bids
from BrainGenLib.scene.bootstrap import headless
from BrainGenLib.scene.case_to_scene import add_case

FOLDER = Path(__file__).parents[1] / "BrainGen" / "Resources" / "SampleData"
CONTRASTS = ("T1w", "FLAIR")
MARGIN = 6
# What Slicer shows in Sample Data: width and height in pixels.
THUMBNAIL = (260, 280)


def make(subject: Path, out: Path) -> list[Path]:
    """Write the samples of a subject that BrainGen generated with white matter hyperintensities.

    Args:
        subject: folder of a case, such as a subject of a BIDS dataset that BrainGen wrote.
        out: folder for the samples.

    Returns:
        The three samples; beside them lies the thumbnail.
    """
    case = _cut(bids.read_case(subject))
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for contrast in CONTRASTS:
        # 8 bit: a sample need not be more, and it stays small.
        image = nib.Nifti1Image(np.round(case.images[contrast] * 255).astype(np.uint8), case.affine)
        image.set_sform(case.affine, 4)
        image.set_qform(case.affine, 4)
        image.header.set_xyzt_units("mm")
        files.append(out / f"BrainGenSample_{contrast}.nii.gz")
        nib.save(image, files[-1])
    files.append(out / "BrainGenSample_segmentation.seg.nrrd")
    _save_segmentation(case, files[-1])
    _thumbnail(case).save(out / "BrainGenSample.png")
    return files


def _cut(case: Case) -> Case:
    """The part of the grid that the head fills."""
    where = np.argwhere(case.labels > 0)
    first = np.maximum(where.min(0) - MARGIN, 0)
    end = np.minimum(where.max(0) + MARGIN + 1, case.labels.shape)
    box = tuple(slice(a, b) for a, b in zip(first, end, strict=True))
    affine = case.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ first
    images = {contrast: case.images[contrast][box] for contrast in CONTRASTS}
    return Case(images, case.labels[box], affine, provenance=case.provenance)


def _save_segmentation(case: Case, file: Path) -> None:
    scene = headless().scene
    nodes = add_case(scene, Case({}, case.labels, case.affine, provenance=case.provenance), "BrainGen sample")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(file))
    storage.SetUseCompression(1)
    if not storage.WriteData(nodes.segmentation):
        raise OSError(f"{file} cannot be written.")


def _thumbnail(case: Case) -> Image.Image:
    """An axial slice of FLAIR with its lesions outlined; the patient's right is on the left."""
    label = anatomy.lesions()["wmh"]
    lesion = case.labels == label.value
    # Through the bodies of the ventricles, around which these lesions lie.
    k = round(0.55 * lesion.shape[2])

    def shown(plane: np.ndarray) -> np.ndarray:
        return plane[::-1, ::-1].T

    width, height = THUMBNAIL
    grey = np.round(shown(case.images["FLAIR"][:, :, k]) * 255).astype(np.uint8)
    scale = min(width / grey.shape[1], height / grey.shape[0])
    size = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
    picture = np.array(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB"))
    mask = np.array(Image.fromarray(shown(lesion[:, :, k])).resize(size, Image.Resampling.NEAREST))
    picture[mask & ~ndimage.binary_erosion(mask)] = label.color
    thumbnail = Image.new("RGB", THUMBNAIL)
    thumbnail.paste(Image.fromarray(picture), ((width - size[0]) // 2, (height - size[1]) // 2))
    return thumbnail


if __name__ == "__main__":
    for written in make(Path(sys.argv[1]), FOLDER):
        print(hashlib.sha256(written.read_bytes()).hexdigest(), written.name)
