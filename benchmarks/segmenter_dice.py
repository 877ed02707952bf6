"""Dice of the segmenter on held-out scans, per structure, contrast and data set.

Real scans of the test split stand in the training cache without skull; what the segmenter does with a skull is
measured on the held-out whole-head label maps, painted in the intensities of each sequence.

    python benchmarks/segmenter_dice.py CACHE --out benchmarks/results/segmenter_dice.json
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from synthetic_cases import to_2mm

from BrainGenLib import anatomy, bundles, spaces
from BrainGenLib.evaluation.agreement import by_structure, dice_per_class, mean_of_structures
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.methods.segmentation import Segmenter, segment_in_template
from BrainGenLib.training import synthesis
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.run import pick_device


def merged(classes: np.ndarray) -> np.ndarray:
    """The map as the segmenter would write it: MS lesions as white matter hyperintensity, no head tissue."""
    lesions = anatomy.lesions()
    known = np.where(classes >= synthesis.EXTRA_CEREBRAL, 0, classes)
    return np.where(known == lesions["ms"].index, lesions["wmh"].index, known).astype(np.uint8)


def real_scans(cache: Cache, most: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, bool]]:
    """Group, image at 1 mm, classes, and whether those are at 2 mm, of labelled test scans, ``most`` a data set."""
    cases = cache.select(split="test", space="template", labelled=True)
    datasets = dict.fromkeys(case.dataset for case in cases)
    chosen = [case for name in datasets for case in [c for c in cases if c.dataset == name][:most]]
    for case in track(chosen, "real scans"):
        for contrast in case.images:
            image = cache.image(case, contrast).astype(np.float32)
            coarse = case.spacing == 2
            if coarse:
                fine = spaces.GRID_1MM
                image = spaces.resample(image, spaces.GRID_2MM.affine, fine.shape, fine.affine, order=1)
            yield f"{contrast} {case.dataset} {case.spacing} mm", image, cache.labels(case), coarse


def painted_heads(cache: Cache, most: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, bool]]:
    """The same for whole-head label maps of the test split, painted in every known contrast."""
    for case in track(cache.select(split="test", space="head", labelled=True)[:most], "painted heads"):
        classes = cache.labels(case)
        for seed, contrast in enumerate(synthesis.CONTRASTS):
            draw = synthesis.Draw(seed)
            image = synthesis.acquire(synthesis.paint(torch.from_numpy(classes), draw, contrast), draw)
            yield f"{contrast} painted whole head", image.numpy(), classes, False


def headline(contrast: str, scores: dict[str, list[np.ndarray]]) -> Headline:
    """Mean Dice of structures over all real scans of a contrast, and over all painted heads."""
    kinds: dict[str, list[np.ndarray]] = {"held-out real scans": [], "painted whole heads": []}
    for group, dice in scores.items():
        if group.split()[0] == contrast:
            kinds["painted whole heads" if "painted" in group else "held-out real scans"] += dice
    figures = [
        f"{mean_of_structures(by_structure(np.array(dice))):.2f} on {len(dice)} {kind}"
        for kind, dice in kinds.items()
        if dice
    ]
    return Headline(what=f"Segmenter, mean Dice of structures, {contrast}", figure="; ".join(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="training cache")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--bundle", type=Path, help="bundle folder [default: the installed segmenter]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="one case of each data set")
    arguments = parser.parse_args()
    bundle = bundles.Bundle(arguments.bundle) if arguments.bundle else bundles.find("segmenter")
    model = Segmenter.from_bundle(bundle, str(pick_device(arguments.device)))
    cache = Cache(arguments.cache)
    scores: dict[str, list[np.ndarray]] = {}
    for source in (real_scans, painted_heads):
        for group, image, classes, coarse in source(cache, 1 if arguments.quick else 1000):
            found = segment_in_template(model, image)
            truth = merged(classes)
            dice = dice_per_class(to_2mm(found) if coarse else found, truth, model.classes)
            scores.setdefault(group, []).append(dice)
    columns = {f"{group} ({len(dice)})": by_structure(np.array(dice)) for group, dice in sorted(scores.items())}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows: list[list[str | float | int | None]] = [
        [name, *(column.get(name) for column in columns.values())] for name in names
    ]
    rows.append(["mean of structures", *(mean_of_structures(column) for column in columns.values())])
    result = Result(
        name="segmenter_dice",
        title="Segmenter on held-out scans",
        tables=[Table(title="Dice", columns=["structure", *columns], rows=rows)],
        headlines=[headline(contrast, scores) for contrast in sorted({group.split()[0] for group in scores})],
        notes=[
            "The labels of real scans are themselves automatic (DLMUSE or a MeshNet, by data set): the figures "
            "say how far two methods agree, not how far from the truth they are. Both sides of a structure are "
            "averaged; numbers in brackets are scans.",
            "Real scans are skull-stripped and in template space at 1 or 2 mm, and compared on that grid. Painted "
            "whole heads are synthetic images of real label maps that training never saw.",
        ],
        settings={"segmenter": bundle.sha256[:12], "steps": bundle.metadata.parameters.get("steps")},
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
