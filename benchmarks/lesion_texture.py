"""How the contrast of real lesions grows from their border inwards, and differs inside: what rendered lesions copy.

python benchmarks/lesion_texture.py GLIOMAS STROKE LESION --out benchmarks/results/lesion_texture.json

GLIOMAS is a folder of <case>_T1.nii.gz, _T2, _FLAIR and _seg (2 is oedema), STROKE a scan and LESION its mask.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from BrainGenLib.evaluation.results import Result, Table
from BrainGenLib.methods import lesion_texture
from BrainGenLib.reading.volume import read_volume

DEPTHS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 8))
"""Distance to healthy tissue, mm: the scans have voxels of 1 mm."""
INSIDE = 3
NEAR = 2
"""Distance of two voxels whose covariance holds no noise, mm."""
FAR = 8


def shares(image: np.ndarray, white: np.ndarray, part: np.ndarray, depth: np.ndarray) -> list[float | None]:
    """Share of the contrast by depth (medians), its standard deviation, and the distance over which correlation falls
    to a third."""
    healthy = np.median(image[white])
    share = (image - healthy) / (np.median(image[part & (depth > INSIDE)]) - healthy)
    found: list[float | None] = []
    for low, high in DEPTHS:
        there = part & (depth > low) & (depth <= high)
        found.append(round(float(np.median(share[there])), 2) if there.sum() > 100 else None)
    inner = part & (depth > INSIDE)
    if inner.sum() < 1000:
        return [*found, None, None]
    residual = np.clip(share - np.median(share[inner]), -1.5, 1.5)

    def covariance(lag: int) -> float:
        pairs = inner[lag:] & inner[:-lag]
        return float((residual[lag:] * residual[:-lag])[pairs].mean())

    near = covariance(NEAR)
    falls = [lag for lag in range(NEAR, 13) if covariance(lag) < near * np.exp(-1)]
    return [*found, round(max(near, 0) ** 0.5, 2), float(falls[0]) if falls else None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gliomas", type=Path)
    parser.add_argument("stroke", type=Path)
    parser.add_argument("lesion", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    rows: list[list[str | float | int | None]] = []
    for file in sorted(arguments.gliomas.glob("*_seg.nii.gz")):
        name = file.name.removesuffix("_seg.nii.gz")
        parts = read_volume(file).data
        depth = ndimage.distance_transform_edt(parts > 0)
        scans = {one: read_volume(file.with_name(f"{name}_{one}.nii.gz")).data for one in ("T1", "T2", "FLAIR")}
        healthy = (scans["T1"] > 0) & (ndimage.distance_transform_edt(parts == 0) > FAR)
        white = healthy & (scans["T1"] > np.percentile(scans["T1"][healthy], 60))
        rows += [[f"{name}, oedema", one, *shares(scan, white, parts == 2, depth)] for one, scan in scans.items()]
    scan, lesion = read_volume(arguments.stroke).data, read_volume(arguments.lesion).data > 0
    away = ndimage.distance_transform_edt(~lesion)
    around = (away > FAR / 2) & (away < 2 * FAR) & (scan > np.percentile(scan, 40))
    rows.append(["stroke", "T2", *shares(scan, around, lesion, ndimage.distance_transform_edt(lesion))])
    middles = [(low + high) / 2 for low, high in DEPTHS]
    model = [1 - lesion_texture.EDGE * np.exp(-(middle - 0.5) / lesion_texture.FADE) for middle in middles]
    rows.append(["as rendered", "all", *(round(float(one), 2) for one in model), lesion_texture.SPREAD, None])
    columns = ["lesion", "contrast", *(f"{low}–{high} mm" for low, high in DEPTHS), "sd inside", "correlation, mm"]
    result = Result(
        name="lesion_texture",
        title="Texture of real lesions",
        tables=[Table(title="Share of the contrast by distance from healthy tissue", columns=columns, rows=rows)],
        notes=[
            "1 is the median contrast to white matter deeper than 3 mm. The standard deviation is from the "
            "covariance of voxels 2 mm apart, which holds no noise; correlation is the distance over which it falls "
            "to 1/e."
        ],
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
