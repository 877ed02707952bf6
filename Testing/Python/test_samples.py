"""The samples are what the case was that they were made of."""

import make_samples
import nibabel as nib
import numpy as np
import slicer
from PIL import Image

from BrainGenLib import anatomy
from BrainGenLib.case import Case
from BrainGenLib.scene.bootstrap import headless
from BrainGenLib.scene.segmentation import label_map_of


def test_samples_hold_the_head_where_it_was(tmp_path):
    labels = np.zeros((40, 50, 40), np.uint16)
    labels[10:30, 10:40, 8:36] = 2
    labels[14:18, 20:26, 15:30] = anatomy.lesions()["wmh"].value
    rng = np.random.default_rng(0)
    images = {name: (labels > 0) * rng.random(labels.shape, np.float32) for name in ("T1w", "FLAIR")}
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -80, -120, -70
    Case(images, labels, affine).save(tmp_path / "case")

    t1w, flair, segmentation = make_samples.make(tmp_path / "case", tmp_path / "out")
    for path, contrast in ((t1w, "T1w"), (flair, "FLAIR")):
        made = nib.load(path)
        assert made.shape == (32, 42, 38)
        origin = np.linalg.solve(affine, made.affine[:, 3])
        assert np.allclose(origin, [4, 4, 2, 1])
        assert np.abs(made.get_fdata() / 255 - images[contrast][4:36, 4:46, 2:40]).max() < 0.01
    stage = headless()
    node = stage.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    stage.scene.AddNode(storage)
    storage.SetFileName(str(segmentation))
    assert storage.ReadData(node)
    read, where = label_map_of(node)
    assert np.array_equal(read, labels[4:36, 4:46, 2:40])
    assert np.allclose(where, nib.load(t1w).affine)

    thumbnail = np.asarray(Image.open(tmp_path / "out" / "BrainGenSample.png"))
    assert thumbnail.shape == (280, 260, 3)
    lesion = np.argwhere((thumbnail == anatomy.lesions()["wmh"].color).all(2))
    # The patient's left, where x is small, is on the right of the picture.
    assert (lesion[:, 1] > 130).all()
    assert len(lesion) > 20
