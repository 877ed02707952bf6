"""Make the synthetic images that the other benchmarks judge, once, as two caches of the training cache's form.

``OUT/rendered``: every labelled real scan's label map, rendered in the scan's contrasts, on the scan's grid, under
the scan's case id. ``OUT/generated``: new label maps with pathologies in turn, rendered in every contrast, at 1 mm.

    python benchmarks/synthetic_cases.py --cache CACHE --out OUT
"""

from __future__ import annotations

import argparse
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from BrainGenLib import anatomy, bundles, requests, spaces
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.engine import Engine
from BrainGenLib.methods import brainspade
from BrainGenLib.methods.soft_tissue import tissue_of_classes
from BrainGenLib.reporting import Silent
from BrainGenLib.training.cache import Cache, CachedCase, CacheWriter
from BrainGenLib.training.run import pick_device

# Combinations in turn: two of five are what the lesion segmenter of utility.py learns from.
PATHOLOGIES = (("wmh",), ("ms",), ("tumour", "oedema", "enhancing"), ("stroke",), ())


def chosen_cases(cache: Cache, contrast: str, most: int) -> list[CachedCase]:
    """Labelled scans of a contrast: all of the test split, then training scans spread over the data sets."""
    cases = cache.select(space="template", contrast=contrast, labelled=True)
    shuffled = [cases[i] for i in np.random.default_rng(0).permutation(len(cases))]
    seen: Counter[str] = Counter()
    rank: dict[str, int] = {}
    for case in shuffled:
        rank[case.id] = seen[case.dataset]
        seen[case.dataset] += 1
    return sorted(shuffled, key=lambda case: (case.split != "test", rank[case.id]))[:most]


def to_1mm(classes: np.ndarray) -> np.ndarray:
    """A class map of GRID_2MM on GRID_1MM, with smooth borders."""
    fine, coarse = spaces.GRID_1MM, spaces.GRID_2MM
    return spaces.resample(classes, coarse.affine, fine.shape, fine.affine, order="label").astype(np.uint8)


def to_2mm(classes: np.ndarray) -> np.ndarray:
    """A class map of GRID_1MM on GRID_2MM: the label that fills most of a voxel and its surroundings."""
    fine, coarse = spaces.GRID_1MM, spaces.GRID_2MM
    return spaces.resample(classes, fine.affine, coarse.shape, coarse.affine, order="label").astype(np.uint8)


def to_spacing(image: np.ndarray, spacing: int) -> np.ndarray:
    """An image of GRID_1MM on the grid of that spacing: a voxel of 2 mm is the mean of its eight."""
    if spacing == 1:
        return image
    r, a, s = (n // 2 for n in image.shape)
    return image.reshape(r, 2, a, 2, s, 2).mean((1, 3, 5))


def picture(
    renderer: brainspade.Renderer, classes: np.ndarray, tissue: np.ndarray, contrast: str, seed: int
) -> np.ndarray:
    """In a drawn style; noise of a contrast of its own, as the engine has it."""
    seed = (seed + zlib.crc32(contrast.encode())) % 2**32
    return brainspade.render(renderer, classes, tissue, contrast, style=None, seed=seed, report=Silent())


def as_bytes(image: np.ndarray) -> np.ndarray:
    """[0, 1] to 0..255, as the cache keeps images."""
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def render_real_labels(cache: Cache, renderer: brainspade.Renderer, most: int, out: Path) -> None:
    """Write ``rendered``."""
    wanted: dict[str, tuple[CachedCase, list[str]]] = {}
    for contrast in renderer.contrasts:
        for case in chosen_cases(cache, contrast, most):
            wanted.setdefault(case.id, (case, []))[1].append(contrast)
    writer = CacheWriter(out)
    for seed, (case, contrasts) in enumerate(track(list(wanted.values()), "rendering real label maps")):
        labels = cache.labels(case)
        classes = to_1mm(labels) if case.spacing == 2 else labels
        tissue = tissue_of_classes(renderer.tissue, classes, torch.Generator().manual_seed(seed), nothing)
        images = {
            contrast: as_bytes(
                to_spacing(picture(renderer, classes, tissue.cpu().numpy(), contrast, seed), case.spacing)
            )
            for contrast in contrasts
        }
        voxels = {contrast: (float(case.spacing),) * 3 for contrast in contrasts}
        copy = CachedCase(
            case.id, "rendered", case.split, "template", case.spacing, images=voxels, pathologies=case.pathologies
        )
        writer.add(copy, labels, images)
    writer.close()


def generate(bundle: bundles.Bundle, contrasts: list[str], device: str, count: int, out: Path) -> None:
    """Write ``generated``, cases as the verb gives them out; loads are drawn between the quartiles of the training
    data."""
    engine = Engine()
    conditions = {condition.name: condition for condition in bundle.metadata.conditions}
    rng = np.random.default_rng(1)
    writer = CacheWriter(out)
    for number in track(range(count), "generating"):
        asked = [name for name in PATHOLOGIES[number % len(PATHOLOGIES)] if name in conditions]
        loads = {}
        for name in asked:
            condition = conditions[name]
            low, high = (condition.marks[0], condition.marks[-1]) if condition.marks else (0.05, 0.5)
            loads[name] = float(rng.uniform(low, high))
        request = requests.Generate(seed=1000 + number, pathologies=loads, contrasts=contrasts, device=device)
        found = engine.run(request)
        assert found.labels is not None
        classes = anatomy.to_classes(found.labels)
        present = set(np.unique(classes).tolist())
        case = CachedCase(
            f"generated-{number:04d}",
            "generated",
            "train",
            "template",
            1,
            images=dict.fromkeys(found.images, (1.0, 1.0, 1.0)),
            pathologies=[name for name, label in anatomy.lesions().items() if label.index in present],
        )
        writer.add(case, classes, {contrast: as_bytes(image) for contrast, image in found.images.items()})
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two caches")
    parser.add_argument("--generated", type=int, default=50, help="new cases")
    parser.add_argument("--per-contrast", type=int, default=60, help="at most so many real label maps a contrast")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="10 new cases and 8 label maps a contrast")
    arguments = parser.parse_args()
    device = str(pick_device(arguments.device))
    bundle = bundles.find("brainspade3d")
    renderer = brainspade.Renderer.from_bundle(bundle, device)
    most, count = (8, 10) if arguments.quick else (arguments.per_contrast, arguments.generated)
    if not (arguments.out / "rendered" / "index.json").is_file():
        render_real_labels(Cache(arguments.cache), renderer, most, arguments.out / "rendered")
    if not (arguments.out / "generated" / "index.json").is_file():
        generate(bundle, list(renderer.contrasts), device, count, arguments.out / "generated")


if __name__ == "__main__":
    main()
