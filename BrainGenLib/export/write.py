"""``python -m BrainGenLib.export.write OUT CASES``: cases as files, by a process, so that a panel need not wait.

``CASES`` holds a case folder for each; synthetic ones become subjects of the dataset ``OUT``, a segmentation of a
real scan becomes files in a folder of its name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from BrainGenLib import anatomy, morphometry, provenance
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.export import bids


def write(out: Path, folders: list[Path]) -> list[Path]:
    """Write case folders to ``out``.

    Returns:
        The folders that were written.

    Raises:
        BadInput: one of them cannot be written; those before it are there.
    """
    cases = {folder: Case.load(folder) for folder in folders}
    if synthetic := sum(case.synthetic for case in cases.values()):
        bids.check_target(out, synthetic)
    written = []
    for folder, case in cases.items():
        _measure(case)
        if case.synthetic:
            written.append(bids.write_case(out, case))
        else:
            bids.write_segmentation(out / folder.name, folder.name, case)
            if bids.is_ours(out):
                bids.ignore(out, folder.name)
            written.append(out / folder.name)
    return written


def _measure(case: Case) -> None:
    """Volumes of the labels as they are now, and which arrays are no longer those that the provenance speaks of."""
    for one in (case, *(frame.case for frame in case.frames)):
        if one.labels is not None:
            voxel_mm3 = abs(float(np.linalg.det(one.affine[:3, :3])))
            one.measurements["volumes_ml"] = morphometry.volumes_ml(anatomy.to_classes(one.labels), voxel_mm3)
    made = case.provenance.get("arrays", {})
    edited = [name for name, digest in provenance.hashes(case).items() if made.get(name) != digest]
    if edited:
        case.provenance["edited"] = edited


if __name__ == "__main__":
    try:
        cases = sorted(folder for folder in Path(sys.argv[2]).iterdir() if folder.is_dir())
        print("\n".join(map(str, write(Path(sys.argv[1]), cases))))
    except BadInput as error:
        print(error)
        sys.exit(2)
