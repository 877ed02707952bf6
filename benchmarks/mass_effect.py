"""How far real gliomas shift the midline, and the displacement at their border that does the same in another brain.

python benchmarks/mass_effect.py GLIOMAS BRAIN --out benchmarks/results/mass_effect.json

GLIOMAS is a folder of <case>_T1.nii.gz and <case>_seg.nii.gz (0 is no tumour), BRAIN a label map without lesions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from BrainGenLib import anatomy, bundles, spaces
from BrainGenLib.evaluation.results import Result, Table
from BrainGenLib.methods import mass_effect, segmentation
from BrainGenLib.reading.volume import read_volume
from BrainGenLib.reporting import Silent

READ = {"brats_case": -8.0}
"""Read by eye, mm, on axial T2w slices in template space: the segmenter takes one of its ventricles for the other."""
ASKED = (2.0, 4.0, 6.0, 8.0, 10.0)


def glioma(segmenter: segmentation.Segmenter, scan: Path) -> tuple[np.ndarray, float]:
    """The mask of a glioma on GRID_1MM, and the shift of the septum to the right, mm."""
    volume, mask = (read_volume(path) for path in (scan, scan.with_name(scan.name.replace("_T1.", "_seg."))))
    data, affine = spaces.canonical(volume.data, volume.affine)
    found = segmentation.segment(segmenter, data, affine, Silent())
    placed, grid = found.template_to_scan, spaces.GRID_1MM
    lesion = spaces.to_grid(*spaces.canonical(mask.data, mask.affine), grid, template_to_scan=placed, order=0) > 0
    return lesion, float(mass_effect.septum(found.classes)[:, 0].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gliomas", type=Path)
    parser.add_argument("brain", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    volume = read_volume(arguments.brain)
    data, affine = spaces.canonical(volume.data, volume.affine)
    brain = anatomy.to_classes(spaces.to_grid(data, affine, spaces.GRID_1MM, order=0))
    segmenter = segmentation.Segmenter.from_bundle(bundles.find("segmenter"), "cpu")
    tissue = (brain > 0) & ~np.isin(brain, anatomy.classes_of(tissue="csf"))
    rows: list[list[str | float | int | None]] = []
    for scan in sorted(arguments.gliomas.glob("*_T1.nii.gz")):
        lesion, shift = glioma(segmenter, scan)
        made = [mass_effect.of_lesion(brain, lesion & tissue, asked).midline_shift or 0.0 for asked in ASKED]
        name = scan.name.removesuffix("_T1.nii.gz")
        measured = READ.get(name, round(shift, 1))
        rows.append([name, float(np.count_nonzero(lesion) / 1000), measured, *(round(one, 1) for one in made)])
    result = Result(
        name="mass_effect",
        title="Mass effect: the midline shift of real gliomas",
        tables=[
            Table(
                title="Shift of the septum to the right, mm, and that of the same mask in another brain",
                columns=["glioma", "mL in template space", "measured", *(f"at {asked:g} mm" for asked in ASKED)],
                rows=rows,
            )
        ],
        notes=[
            f"{len(rows)} gliomas are an orientation, no distribution. The measured shift is that of the septum in "
            "the segmenter's labels after an affine registration, uncertain by about 1 mm; that of brats_case was "
            "read by eye, for the segmenter takes one of its ventricles for the other."
        ],
        settings={"brain": arguments.brain.name},
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
