"""How lesions look in scans, as the renderer makes them, and with `methods/lesion_texture.py`.

python benchmarks/lesion_texture.py CASES --fitted CASE … --out benchmarks/results/lesion_texture.json

CASES is a folder of <case>_T1w.nii.gz, _T2w, _FLAIR and _labels (values of the label table, lesions among them), all
of 1 mm. Constants of the texture were measured on the cases that --fitted names; these are not rendered.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from BrainGenLib import anatomy, bundles, spaces
from BrainGenLib.evaluation.results import Result, Table
from BrainGenLib.methods import brainspade, soft_tissue
from BrainGenLib.methods.lesion_texture import LesionTexture
from BrainGenLib.reading.volume import read_volume
from BrainGenLib.reporting import Silent

CONTRASTS = ("T1w", "T2w", "FLAIR")
PAIRS = (("T1w", "T2w"), ("T1w", "FLAIR"), ("T2w", "FLAIR"))
DEPTHS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 8))
"""Distance to healthy tissue or fluid, mm."""
INSIDE = 2
NEAR = 2
"""Distance of two voxels whose covariance holds no noise, mm."""
AWAY = 4
LEAST = 60
SEED = 1


def shares(image: np.ndarray, white: np.ndarray, lesion: np.ndarray, depth: np.ndarray) -> list[float | None]:
    """Share of the contrast by depth (medians), its standard deviation, and the distance over which correlation falls
    to a third."""
    level, inner = np.median(image[white]), lesion & (depth > INSIDE)
    if inner.sum() < LEAST:
        inner = lesion & (depth > 1)
    share = (image - level) / (np.median(image[inner]) - level)
    found: list[float | None] = []
    for low, high in DEPTHS:
        there = lesion & (depth > low) & (depth <= high)
        found.append(round(float(np.median(share[there])), 2) if there.sum() > LEAST else None)
    if inner.sum() < 1000:
        return [*found, None, None]
    residual = np.clip(share - np.median(share[inner]), -1.5, 1.5)

    def covariance(lag: int) -> float:
        products = []
        for axis in range(3):
            mask, values = np.moveaxis(inner, axis, 0), np.moveaxis(residual, axis, 0)
            products.append((values[lag:] * values[:-lag])[mask[lag:] & mask[:-lag]])
        return float(np.concatenate(products).mean())

    near = covariance(NEAR)
    falls = [lag for lag in range(NEAR, 13) if covariance(lag) < near * np.exp(-1)]
    return [*found, round(max(near, 0) ** 0.5, 2), float(falls[0]) if falls else None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--fitted", nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    renderer = brainspade.Renderer.from_bundle(bundles.find("brainspade3d"), "cpu")
    profiles: list[list[str | float | int | None]] = []
    together: list[list[str | float | int | None]] = []
    for file in sorted(arguments.cases.glob("*_labels.nii.gz")):
        name = file.name.removesuffix("_labels.nii.gz")
        given = read_volume(file)
        classes = anatomy.to_classes(spaces.canonical(given.data, given.affine)[0])
        lesion = np.isin(classes, anatomy.classes_of(kind="lesion"))
        depth = ndimage.distance_transform_edt(lesion | np.isin(classes, [0, *anatomy.classes_of(tissue="csf")]))
        white = ndimage.binary_erosion(np.isin(classes, anatomy.classes_of(name="cerebral white matter")))
        white &= ndimage.distance_transform_edt(~lesion) > AWAY
        kinds: dict[str, dict[str, np.ndarray]] = {"scan": {}}
        for contrast in CONTRASTS:
            scan = read_volume(file.with_name(f"{name}_{contrast}.nii.gz"))
            kinds["scan"][contrast] = spaces.canonical(scan.data, scan.affine)[0].astype(float)
        if name not in arguments.fitted:
            generator = torch.Generator().manual_seed(SEED)
            tissue = soft_tissue.tissue_of_classes(renderer.tissue, classes, generator, lambda *_: None).cpu().numpy()
            texture = LesionTexture(classes, SEED)
            kinds |= {"rendered": {}, "with texture": {}}
            for contrast in CONTRASTS:
                image = brainspade.render(renderer, classes, tissue, contrast, style=None, seed=SEED, report=Silent())
                kinds["rendered"][contrast] = image
                kinds["with texture"][contrast] = texture.on(image, contrast)
        case = f"{name}{' (measured)' if name in arguments.fitted else ''}"
        inner = lesion & (depth > INSIDE)
        for kind, images in kinds.items():
            profiles += [[case, kind, one, *shares(image, white, lesion, depth)] for one, image in images.items()]
            if inner.sum() > 1000:
                correlations = (np.corrcoef(images[a][inner], images[b][inner])[0, 1] for a, b in PAIRS)
                together.append([case, kind, *(round(float(one), 2) for one in correlations)])
    columns = ["case", "image", "contrast", *(f"{low}–{high} mm" for low, high in DEPTHS)]
    result = Result(
        name="lesion_texture",
        title="Texture of lesions",
        tables=[
            Table(
                title="Share of the contrast by distance from healthy tissue and fluid",
                columns=[*columns, "sd inside", "correlation, mm"],
                rows=profiles,
            ),
            Table(
                title="Correlation between contrasts inside",
                columns=["case", "image", *(f"{a}, {b}" for a, b in PAIRS)],
                rows=together,
            ),
        ],
        notes=[
            "1 is the median contrast to white matter deeper than 2 mm (1 mm where lesions are small). The standard "
            "deviation is from the covariance of voxels 2 mm apart, which holds no noise; correlation is the "
            "distance over which it falls to 1/e. Constants were measured on the cases marked so, the FLAIR curve "
            "also on a glioma and white matter hyperintensity of five people; the other cases are held out.",
        ],
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
