"""Label-image agreement: the segmenter on a rendered image against the label map it was rendered from.

Beside it the segmenter on the real scans of the same label maps: what it reaches where the image is true. And how far
lesions stand out from white matter in rendered and in real images.

    python benchmarks/agreement.py --cache CACHE --synthetic SYNTHETIC --out benchmarks/results/agreement.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track
from segmenter_dice import merged
from synthetic_cases import to_2mm

from BrainGenLib import anatomy, bundles, spaces
from BrainGenLib.evaluation.agreement import by_structure, dice_per_class, lesion_contrast, mean_of_structures
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.methods.segmentation import Segmenter, segment_in_template
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.run import pick_device

Scores = dict[str, list[np.ndarray]]
Contrasts = dict[tuple[str, str], list[float]]


def score(model: Segmenter, image: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Dice per class of the segmentation of an image on GRID_1MM or GRID_2MM, compared on that grid."""
    fine, coarse = spaces.GRID_1MM, spaces.GRID_2MM
    image = np.where(classes > 0, image, 0).astype(np.float32)
    if image.shape == fine.shape:
        found = segment_in_template(model, image)
    else:
        large = spaces.resample(image, coarse.affine, fine.shape, fine.affine, order=1)
        found = to_2mm(segment_in_template(model, large))
    return dice_per_class(found, merged(classes), model.classes)


def measure(
    model: Segmenter, cache: Cache, contrast: str, cases: list[CachedCase], origin: str, lesions: Contrasts
) -> np.ndarray:
    """Dice (cases, classes) of a contrast; adds what the lesions of the cases show to ``lesions``."""
    scores = []
    for case in track(cases, f"{contrast} {origin}"):
        image, classes = cache.image(case, contrast), cache.labels(case)
        scores.append(score(model, image, classes))
        for name in anatomy.lesions():
            lesions.setdefault((name, contrast), []).append(lesion_contrast(image / 255, classes, name))
    return np.array(scores)


def lesion_table(real: Contrasts, rendered: Contrasts, generated: Contrasts) -> Table:
    """How lesions stand out, for the pathologies and contrasts that real scans show."""
    rows: list[list[str | float | int | None]] = []
    for key, values in real.items():
        if np.isnan(values).all():
            continue
        cells = [
            None if np.isnan(group.get(key, [np.nan])).all() else float(np.nanmedian(group[key]))
            for group in (real, rendered, generated)
        ]
        rows.append([*key, int((~np.isnan(values)).sum()), *cells])
    return Table(
        title="Lesions: (mean − mean of white matter) / deviation of white matter, median over cases",
        columns=["pathology", "contrast", "real scans", "real", "rendered from real labels", "generated"],
        rows=rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache: real scans with labels")
    parser.add_argument("--synthetic", type=Path, required=True, help="folder that synthetic_cases.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--per-contrast", type=int, default=30, help="cases of each kind and contrast")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="3 cases of each kind and contrast")
    arguments = parser.parse_args()
    bundle = bundles.find("segmenter")
    model = Segmenter.from_bundle(bundle, str(pick_device(arguments.device)))
    cache, rendered, generated = (
        Cache(arguments.cache),
        *(Cache(arguments.synthetic / name) for name in ("rendered", "generated")),
    )
    most = 3 if arguments.quick else arguments.per_contrast
    structures: dict[str, dict[str, float]] = {}
    lesions: dict[str, Contrasts] = {"real": {}, "rendered": {}, "generated": {}}
    headlines = []
    for contrast in sorted({contrast for case in rendered.cases for contrast in case.images}):
        renders = rendered.select(contrast=contrast)[:most]
        ids = {case.id for case in renders}
        groups = {
            "real": (cache, [case for case in cache.select(contrast=contrast) if case.id in ids]),
            "rendered": (rendered, renders),
            "generated": (generated, generated.select(contrast=contrast)[:most]),
        }
        means = {}
        for origin, (source, cases) in groups.items():
            dice = measure(model, source, contrast, cases, origin, lesions[origin])
            column = f"{contrast} {origin} ({len(cases)})"
            structures[column] = by_structure(dice)
            means[origin] = mean_of_structures(structures[column])
        headlines.append(
            Headline(
                what=f"Label-image agreement {contrast}: mean Dice on rendered real labels / generated / real scans",
                figure=f"{means['rendered']:.3f} / {means['generated']:.3f} / {means['real']:.3f}",
            )
        )
    names = list(dict.fromkeys(name for column in structures.values() for name in column))
    rows = [[name, *(column.get(name) for column in structures.values())] for name in names]
    rows.append(["mean of structures", *(mean_of_structures(column) for column in structures.values())])
    result = Result(
        name="agreement",
        title="Label-image agreement",
        tables=[
            Table(title="Dice of the segmenter, per structure", columns=["structure", *structures], rows=rows),
            lesion_table(lesions["real"], lesions["rendered"], lesions["generated"]),
        ],
        headlines=headlines,
        notes=[
            "“real”: the segmenter on the real scans whose label maps were rendered; labels of real scans are "
            "automatic, so this is no ceiling in the strict sense. All images are cut to their labels' outline.",
            "MS lesions count as white matter hyperintensities, which is what the segmenter calls them. Voxels of "
            "classes that it does not name are left out on both sides.",
        ],
        settings={"per_contrast": most, "segmenter": bundle.sha256[:12]},
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
