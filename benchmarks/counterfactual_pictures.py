"""Held-out scans before and after a counterfactual, and the difference: what `braingen counterfactual` gives.

Only scans whose licence allows it are shown: ds002748 (CC0, Bezmaternykh et al. 2021) and open_ms (CC BY, Lesjak et
al. 2018).

    python benchmarks/counterfactual_pictures.py --bids BIDS --out docs/images/counterfactuals.png
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw
from rich.progress import track

from BrainGenLib import anatomy, spaces
from BrainGenLib.engine import Engine
from BrainGenLib.reading.scans import read_scan
from BrainGenLib.requests import Counterfactual

HEIGHT = 230
"""Of a row, pixels."""
CONTRAST = 0.4
"""Difference that is white or black, as a share of the scan's brightest tissue."""


@dataclass
class Row:
    """One scan and what is to change.

    Attributes:
        scan: relative to the BIDS folder.
        lesions: mask and the name of what it shows, or None.
    """

    title: str
    scan: str
    request: dict
    lesions: tuple[str, str] | None = None


_MS = "derivatives/labels/sub-openms19/anat/sub-openms19_space-MNI152_label-ms_mask.nii.gz"
ROWS = [
    Row(
        "40 to 75 years, by diffusion",
        "sub-ds002748s28/anat/sub-ds002748s28_T1w.nii.gz",
        {"wanted": {"age": 75}, "known": {"age": 40}, "contrast": "T1w"},
    ),
    Row(
        "ventricles 24 to 45 mL, by labels",
        "sub-ds002748s28/anat/sub-ds002748s28_T1w.nii.gz",
        {"bundle": "brainspade3d", "wanted": {"ventricles": 45}, "contrast": "T1w"},
    ),
    Row(
        "MS lesions away, by labels",
        "sub-openms19/anat/sub-openms19_space-MNI152_FLAIR.nii.gz",
        {"bundle": "brainspade3d", "wanted": {"ms": 0}, "contrast": "FLAIR"},
        (_MS, "ms"),
    ),
    Row(
        "MS lesions away, by labels",
        "sub-openms19/anat/sub-openms19_space-MNI152_T2w.nii.gz",
        {"bundle": "brainspade3d", "wanted": {"ms": 0}, "contrast": "T2w"},
        (_MS, "ms"),
    ),
    Row(
        "MS lesions away and 47 to 80 years, in one request",
        "sub-openms19/anat/sub-openms19_space-MNI152_T1w.nii.gz",
        {"wanted": {"ms": 0, "age": 80}, "known": {"age": 47}, "contrast": "T1w"},
        (_MS, "ms"),
    ),
]


def drawn(engine: Engine, bids: Path, row: Row) -> Image.Image:
    """Axial and coronal slices through the middle of the change: before, after, difference."""
    fields = {**row.request, "scan": str(bids / row.scan), "seed": 1}
    with tempfile.TemporaryDirectory() as folder:
        if row.lesions is not None:
            mask, name = row.lesions
            source = nib.nifti1.load(bids / mask)
            labels = (np.asarray(source.dataobj) > 0) * anatomy.lesions()[name].value
            painted = Path(folder) / "lesions.nii"
            nib.save(nib.Nifti1Image(labels.astype(np.uint16), source.affine), painted)
            fields["segmentation"] = str(painted)
        case = engine.run(Counterfactual(**fields), bids)
    given = read_scan(bids / row.scan)
    (after,) = case.images.values()
    volumes = [spaces.canonical(v, given.affine)[0] for v in (given.data, after, case.maps["difference"])]
    top = np.percentile(volumes[0][volumes[0] > 0], 99.5)
    spacing = spaces.voxel_size(spaces.canonical(given.data, given.affine)[1])
    change = np.abs(volumes[2])
    axial, coronal = (
        int(np.average(np.arange(change.shape[k]), weights=change.sum(axes)))
        for k, axes in ((2, (0, 1)), (1, (0, 2)))
    )
    tiles = []
    for volume, low, high in zip(volumes, (0, 0, -CONTRAST * top), (top, top, CONTRAST * top), strict=True):
        scaled = np.clip((volume - low) / (high - low), 0, 1)
        tiles += [
            _tile(scaled[:, :, axial], spacing[0], spacing[1]),
            _tile(scaled[:, coronal], spacing[0], spacing[2]),
        ]
    page = Image.new("L", (sum(tile.width for tile in tiles), HEIGHT))
    left = 0
    for tile in tiles:
        page.paste(tile, (left, 0))
        left += tile.width
    ImageDraw.Draw(page).text((4, 4), row.title, fill=255)
    return page


def _tile(plane: np.ndarray, across: float, up: float) -> Image.Image:
    width = round(HEIGHT * plane.shape[0] * across / (plane.shape[1] * up))
    picture = Image.fromarray((plane.T[::-1, ::-1] * 255).astype(np.uint8))
    return picture.resize((width, HEIGHT), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bids", type=Path, required=True, help="what tools/shared_to_bids.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    arguments = parser.parse_args()
    engine = Engine()
    rows = [drawn(engine, arguments.bids.resolve(), row) for row in track(ROWS, "counterfactuals")]
    page = Image.new("L", (max(row.width for row in rows), len(rows) * HEIGHT))
    for number, picture in enumerate(rows):
        page.paste(picture, (0, number * HEIGHT))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    page.save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
