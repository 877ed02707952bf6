"""Write Resources/Templates/lobes_2mm.nii.gz: the lobe of every voxel of the template brain, for placing lesions.

Majority vote over the DLMUSE regions of the IXI training subjects of the shared data, in template space, made
symmetric; the rest of the template brain takes the nearest lobe.

Usage: python tools/make_lobes.py SHARED_DATA
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from BrainGenLib import spaces
from BrainGenLib.reading import conventions
from BrainGenLib.reading.volume import read_volume
from BrainGenLib.training.prepare import Scan, pseudo_t1w

FOLDER = Path(__file__).resolve().parents[1] / "Resources" / "Templates"
# MUSE region numbers; the central lobe is insula, deep nuclei, callosum, fornix, capsules and ventricles.
LOBES: dict[str, list[int]] = {
    "frontal": [81, 82, 100, 101, 104, 105, 112, 113, *range(118, 122), 124, 125, *range(136, 144), 146, 147,
                *range(150, 154), *range(162, 166), 178, 179, 182, 183, 186, 187, *range(190, 194), 204, 205],
    "parietal": [85, 86, 106, 107, 148, 149, *range(166, 170), *range(174, 178), 194, 195, 198, 199],
    "temporal": [31, 32, 47, 48, 87, 88, 116, 117, 122, 123, 132, 133, 154, 155, 170, 171, 180, 181, 184, 185,
                 *range(200, 204), 206, 207],
    "occipital": [83, 84, 108, 109, 114, 115, 128, 129, 134, 135, 144, 145, 156, 157, 160, 161, 196, 197],
    "central": [4, 23, 30, 36, 37, 51, 52, *range(55, 63), 75, 76, *range(89, 96), 102, 103, 172, 173],
    "cerebellum": [38, 39, 40, 41, 71, 72, 73],
    "brainstem": [35],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--subjects", type=int, default=60)
    options = parser.parse_args()
    with (options.data / "manifest.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["set"] == "ixi_2mm" and r["split"] == "train"]
    regions = {r["subject"]: r["file"] for r in rows if "DLMUSE (" in r["kind"]}
    labels = {r["subject"]: r["file"] for r in rows if "synthseg" in r["kind"]}
    lookup = np.zeros(256, np.uint8)
    for value, numbers in enumerate(LOBES.values(), 1):
        lookup[numbers] = value
    grid = spaces.GRID_2MM
    votes = np.zeros((len(LOBES) + 1, *grid.shape), np.float32)
    for subject in sorted(labels)[: options.subjects]:
        segmentation = Scan.of(read_volume(options.data / labels[subject]))
        image, affine = pseudo_t1w(conventions.structures(segmentation.data)), segmentation.affine
        matrix = spaces.register_to_template(image, affine, brain=image > 0).template_to_scan
        roi = Scan.of(read_volume(options.data / regions[subject]))
        lobes = spaces.to_grid(lookup[roi.data], roi.affine, grid, template_to_scan=matrix, order="label")
        for value in range(1, len(votes)):
            votes[value] += lobes == value
    votes += votes[:, ::-1]
    votes = np.stack([ndimage.gaussian_filter(v, 0.7) for v in votes])
    _, brain = spaces.template()
    result = votes[1:].argmax(0).astype(np.uint8) + 1
    known = votes[1:].sum(0) > 0.2 * 2 * options.subjects
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    result = np.where(brain | brain[::-1], result[tuple(nearest)], 0).astype(np.uint8)
    image = nibabel.Nifti1Image(result, grid.affine)
    image.set_sform(grid.affine, 4)
    image.set_qform(grid.affine, 4)
    nibabel.save(image, FOLDER / "lobes_2mm.nii.gz")
    with (FOLDER / "lobes.csv").open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["value", "name"])
        writer.writerows(enumerate(LOBES, 1))
    (FOLDER / "LICENSE-lobes.txt").write_text(
        "lobes_2mm.nii.gz is derived by tools/make_lobes.py from DLMUSE regions (NiChart, SBIA, University of\n"
        "Pennsylvania) of scans of the IXI data set (CC BY-SA 3.0, brain-development.org); it holds no image data.\n",
        "utf-8",
    )


if __name__ == "__main__":
    main()
