"""Generated label maps of 1 mm against the training distribution: volumes, ratios, connectedness, sides,
memorisation; and against the volumes that were asked for and those of the label diffusion.

SHIPPED is what ``sampled_anatomies.py --shipped`` wrote.

    python benchmarks/anatomy.py CACHE --samples SHIPPED --out benchmarks/results/anatomy.json --pictures anatomy.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.evaluation.memorisation import between_cases, nearest_dice
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.lesions import STRUCTURES, split_lesions
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.image_material import WHOLE
from BrainGenLib.training.lesions import to_2mm
from BrainGenLib.training.pictures import mosaic

STRUCTURE_LABELS = anatomy.labels()[1:STRUCTURES]
ONE_PIECE = [label.index for label in STRUCTURE_LABELS if label.tissue != "csf" or "ventricle" in label.name]
CROSSING = 4
"""Voxels of 2 mm beyond the midplane from which a structure is on the wrong side."""


SIZES = {
    "brain": [index for index in range(1, STRUCTURES) if index not in anatomy.classes_of(tissue="csf")],
    "cortex": anatomy.classes_of(name="cerebral cortex"),
    "white matter": anatomy.classes_of(name="cerebral white matter"),
    "cortex and white matter": [
        *anatomy.classes_of(name="cerebral cortex"),
        *anatomy.classes_of(name="cerebral white matter"),
    ],
    "fluid around the brain": anatomy.classes_of(name="extraventricular CSF"),
    "ventricles": [
        *anatomy.classes_of(name="lateral ventricle"),
        *anatomy.classes_of(name="inferior lateral ventricle"),
    ],
}
MOST = 0.025
"""By which the brain may differ from what was asked for."""


def volumes_of(classes: np.ndarray, spacing: int) -> np.ndarray:
    """mL of every structure, background left out."""
    return np.bincount(classes.ravel(), minlength=len(anatomy.labels()))[1:STRUCTURES] * (spacing**3 / 1000)


def ratios_of(volumes: np.ndarray) -> dict[str, float]:
    """Ratios that a radiologist would notice."""

    def total(*tissues: str) -> float:
        return float(sum(volumes[label.index - 1] for label in STRUCTURE_LABELS if label.tissue in tissues))

    def side(name: str) -> float:
        return float(sum(volumes[label.index - 1] for label in STRUCTURE_LABELS if label.side == name))

    brain = total("wm", "gm", "deep_gm", "brainstem")
    return {
        "grey / white matter": total("gm") / max(total("wm"), 1e-6),
        "deep grey / brain": total("deep_gm") / max(brain, 1e-6),
        "fluid / brain": total("csf") / max(brain, 1e-6),
        "left / right": side("left") / max(side("right"), 1e-6),
    }


def parts_of(classes: np.ndarray) -> float:
    """Mean number of connected parts of the structures that are one piece by nature."""
    return float(np.mean([ndimage.label(classes == index, np.ones((3, 3, 3)))[1] for index in ONE_PIECE]))


def swapped_share(classes: np.ndarray) -> float:
    """Share of the sided voxels that lie on the wrong side, farther than 8 mm from the midplane."""
    middle = GRID_2MM.shape[0] // 2
    sides = np.array([{"left": -1, "right": 1}.get(label.side, 0) for label in anatomy.labels()])[classes]
    wrong = (sides[middle + CROSSING :] < 0).sum() + (sides[: middle - CROSSING] > 0).sum()
    return float(wrong / max((sides != 0).sum(), 1))


def training_maps(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of every whole brain of the train split, lesions left out: the class map on GRID_2MM, and volumes at its own
    resolution."""
    cache = Cache(folder)
    maps, volumes = [], []
    for case in cache.select(split="train", space="template", labelled=True):
        if case.quality.get("structures", 1.0) <= WHOLE:
            continue
        structures, _ = split_lesions(cache.labels(case))
        maps.append(to_2mm(structures))
        volumes.append(volumes_of(structures, case.spacing))
    return maps, volumes


def sizes(about: list[dict[str, Any]], made: np.ndarray) -> tuple[list[list[str | float | int | None]], list[float]]:
    """Volumes asked for, of the label diffusion and given out; errors of the brain against what was asked for."""
    rows: list[list[str | float | int | None]] = []
    brain: list[float] = []
    for name, members in SIZES.items():
        coarse = np.array([sum(one["coarse_ml"][index] for index in members) for one in about])
        given = made[:, np.array(members) - 1].sum(1)
        asked = np.array([one["asked"][name] for one in about]) if name in about[0]["asked"] else None
        row: list[str | float | int | None] = [name, None if asked is None else float(asked.mean())]
        row += [float(coarse.mean()), float(given.mean())]
        for reference in (asked, coarse):
            if reference is None:
                row.append(None)
                continue
            error = given / reference - 1
            row.append(f"{error.mean():+.1%} ± {error.std(ddof=1):.1%} (farthest {error[abs(error).argmax()]:+.1%})")
            if name == "brain" and reference is asked:
                brain = list(error)
        rows.append(row)
    return rows, brain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="training cache, of labels as they were given")
    parser.add_argument("--samples", type=Path, required=True, help="folder of sampled_anatomies.py --shipped")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--pictures", type=Path, help="PNG of the first maps")
    arguments = parser.parse_args()
    about = json.loads((arguments.samples / "about.json").read_text("utf-8"))
    real, real_each = training_maps(arguments.cache)
    made, made_each = [], []
    for path in sorted(arguments.samples.glob("*.npz")):
        with np.load(path) as found:
            made_each.append(volumes_of(found["classes"], 1))
            made.append(to_2mm(found["classes"]))
    if arguments.pictures:
        Image.fromarray((mosaic(made[:8]) * 255).astype(np.uint8)).save(arguments.pictures)

    real_volumes, made_volumes = np.stack(real_each), np.stack(made_each)
    size_rows, brain = sizes(about["samples"], made_volumes)
    low, high = np.percentile(real_volumes, (1, 99), axis=0)
    inside = ((made_volumes >= low) & (made_volumes <= high)).mean(0)
    volumes = [
        [label.name, *np.percentile(real_volumes[:, i], (1, 50, 99)), float(np.median(made_volumes[:, i])), inside[i]]
        for i, label in enumerate(STRUCTURE_LABELS)
    ]
    real_ratios, made_ratios = ([ratios_of(row) for row in rows] for rows in (real_volumes, made_volumes))
    ratios = []
    for name in real_ratios[0]:
        expected, found = (np.array([row[name] for row in rows]) for rows in (real_ratios, made_ratios))
        bounds = np.percentile(expected, (1, 99))
        share = ((found >= bounds[0]) & (found <= bounds[1])).mean()
        ratios.append([name, bounds[0], float(np.median(expected)), bounds[1], float(np.median(found)), float(share)])
    normal = between_cases(real, 40, np.random.default_rng(0))
    nearest = np.array([nearest_dice(classes, real) for classes in track(made, "nearest cases")])
    some = [
        real[i] for i in np.random.default_rng(1).choice(len(real), size=min(len(real), len(made)), replace=False)
    ]
    shape = [
        ["connected parts of a structure (mean)", np.mean([*map(parts_of, some)]), np.mean([*map(parts_of, made)])],
        [
            "share of voxels on the wrong side",
            np.mean([*map(swapped_share, some)]),
            np.mean([*map(swapped_share, made)]),
        ],
        ["nearest-case Dice, mean", normal.mean(), nearest.mean()],
        ["nearest-case Dice, largest", normal.max(), nearest.max()],
    ]
    columns = ["1 %", "median", "99 %", "generated, median", "generated within 1-99 %"]
    worst = STRUCTURE_LABELS[int(inside.argmin())].name
    in_ratio = np.array([float(row[-1]) for row in ratios])
    result = Result(
        name="anatomy",
        title="Anatomy of generated label maps",
        tables=[
            Table(
                title=f"{len(made)} generated maps: mL asked for, of the label diffusion, and given out (1 mm)",
                columns=["what", "asked for", "label diffusion", "given out", "against asked", "against diffusion"],
                rows=size_rows,
            ),
            Table(title="Structure volumes (mL, template space)", columns=["structure", *columns], rows=volumes),
            Table(title="Ratios", columns=["ratio", *columns], rows=ratios),
            Table(title="Shape and memorisation", columns=["measure", "training cases", "generated"], rows=shape),
        ],
        headlines=[
            Headline(
                what="Volumes / ratios of generated maps within 1-99 % of the training cases, mean over structures",
                figure=f"{inside.mean():.0%} / {in_ratio.mean():.0%}; least {inside.min():.0%} ({worst}) / "
                f"{in_ratio.min():.0%}",
                target="≥ 95 %",
                met=bool(inside.mean() >= 0.95 and in_ratio.mean() >= 0.95),
            ),
            Headline(
                what="Brain at 1 mm against what was asked for",
                figure=f"{np.mean(brain):+.1%}, farthest {max(brain, key=abs):+.1%}",
                target=f"within {MOST:.1%}",
                met=max(map(abs, brain)) <= MOST,
            ),
            Headline(
                what="Largest nearest-case Dice (training cases among themselves)",
                figure=f"{nearest.max():.3f} ({normal.max():.3f})",
                target="not above that of training cases",
                met=bool(nearest.max() <= normal.max()),
            ),
        ],
        notes=[
            f"{len(made)} maps without pathology, {about['cpu_seconds']:.0f} CPU-seconds each; {len(real)} training "
            "cases. Volumes at 1 mm, of training cases at the resolution of their labels; all else at 2 mm.",
            "What is not asked for is drawn from the distribution of the training cases at the level of the donors' "
            "labels, to which the map of the label diffusion is brought; training cases have labels of all studies.",
            "Nearest-case Dice is the mean over structures, on every second voxel; a copy would have 1.",
        ],
        settings={"bundle_sha256": about["bundle"], "count": len(made)},
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
