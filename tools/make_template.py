"""Write the MNI152 template of Resources/Templates from the one that nilearn bundles (run again after a grid change).

Usage: python tools/make_template.py
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from nilearn import datasets

from BrainGenLib import spaces

FOLDER = Path(__file__).resolve().parents[1] / "Resources" / "Templates"
NOTE = """MNI152 template and brain mask, resampled to 2 mm by tools/make_template.py.

Source: ICBM 152 non-linear symmetric 2009 template (1 mm) as bundled with nilearn (BSD-3-Clause).
Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute,
McGill University. Permission to use, copy, modify, and distribute this software and its documentation for any
purpose and without fee is hereby granted, provided that the above copyright notice appear in all copies. The
authors and McGill University make no representations about the suitability of this software for any purpose. It is
provided "as is" without express or implied warranty. The authors are not responsible for any data loss, equipment
damage, property loss, or injury to subjects or patients resulting from the use or misuse of this software package.

Cite: Fonov et al. 2011, NeuroImage 54(1), doi 10.1016/j.neuroimage.2010.07.033; Fonov et al. 2009, NeuroImage 47.
"""


def save(name: str, array: np.ndarray) -> None:
    image = nibabel.Nifti1Image(array, spaces.GRID_2MM.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(spaces.GRID_2MM.affine, 4)
    image.set_qform(spaces.GRID_2MM.affine, 4)
    nibabel.save(image, FOLDER / name)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    source, mask = datasets.load_mni152_template(resolution=1), datasets.load_mni152_brain_mask(resolution=1)
    brain = spaces.to_grid(np.asarray(mask.dataobj) > 0, mask.affine, spaces.GRID_2MM, order="label") > 0
    image = np.where(brain, spaces.to_grid(source.get_fdata(), source.affine, spaces.GRID_2MM), 0)
    image = np.clip(image / np.percentile(image[brain], 99.5), 0, 1) * 255
    save("mni152_T1w_2mm.nii.gz", np.round(image).astype(np.uint8))
    save("mni152_brain_2mm.nii.gz", brain.astype(np.uint8))
    (FOLDER / "LICENSE-MNI152.txt").write_text(NOTE, "utf-8")


if __name__ == "__main__":
    main()
