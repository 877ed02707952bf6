"""Generated label maps against the training distribution: volumes, ratios, connectedness, sides, memorisation.

python benchmarks/anatomy.py CACHE --out benchmarks/results/anatomy.json --pictures anatomy.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track
from scipy import ndimage

from BrainGenLib import anatomy, bundles
from BrainGenLib.evaluation.memorisation import between_cases, nearest_dice
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.lesions import STRUCTURES, VOXEL_ML
from BrainGenLib.methods.brainspade3d import LabelModel, sample_labels
from BrainGenLib.reporting import Silent
from BrainGenLib.requests import Generate
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training.label_material import LabelMaterial
from BrainGenLib.training.pictures import mosaic
from BrainGenLib.training.run import pick_device

STRUCTURE_LABELS = anatomy.labels()[1:STRUCTURES]
ONE_PIECE = [label.index for label in STRUCTURE_LABELS if label.tissue != "csf" or "ventricle" in label.name]
CROSSING = 4
"""Voxels of 2 mm beyond the midplane from which a structure is on the wrong side."""


def volumes_of(classes: np.ndarray) -> np.ndarray:
    """mL of every structure, background left out."""
    return np.bincount(classes.ravel(), minlength=len(anatomy.labels()))[1:STRUCTURES] * VOXEL_ML


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="training cache")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--pictures", type=Path, help="PNG of the first maps")
    parser.add_argument("--bundle", type=Path, help="bundle folder [default: the installed brainspade3d]")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    bundle = bundles.Bundle(arguments.bundle) if arguments.bundle else bundles.find("brainspade3d")
    model = LabelModel.from_bundle(bundle, str(pick_device(arguments.device)))
    real = [structures for structures, _ in LabelMaterial(arguments.cache).cases]
    start = time.monotonic()
    made = [
        sample_labels(model, Generate(seed=seed), Silent()).classes_2mm
        for seed in track(range(arguments.count), "maps")
    ]
    seconds = (time.monotonic() - start) / arguments.count
    if arguments.pictures:
        Image.fromarray((mosaic(made[:8]) * 255).astype(np.uint8)).save(arguments.pictures)

    real_volumes, made_volumes = (np.stack([volumes_of(classes) for classes in maps]) for maps in (real, made))
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
    result = Result(
        name="anatomy",
        title="Anatomy of generated label maps",
        tables=[
            Table(title="Structure volumes (mL, template space)", columns=["structure", *columns], rows=volumes),
            Table(title="Ratios", columns=["ratio", *columns], rows=ratios),
            Table(title="Shape and memorisation", columns=["measure", "training cases", "generated"], rows=shape),
        ],
        headlines=[
            Headline(what="Structure volumes within 1-99 % of the training cases", figure=f"{inside.mean():.0%}"),
            Headline(
                what="Largest nearest-case Dice (training cases among themselves)",
                figure=f"{nearest.max():.3f} ({normal.max():.3f})",
                target="not above that of training cases",
                met=bool(nearest.max() <= normal.max()),
            ),
        ],
        notes=[
            f"{arguments.count} maps without pathology, defaults, {seconds:.1f} s each; {len(real)} training cases. "
            "Nearest-case Dice is the mean over structures, on every second voxel; a copy would have 1."
        ],
        settings={"bundle": bundle.name, "bundle_sha256": bundle.sha256, "count": arguments.count},
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
