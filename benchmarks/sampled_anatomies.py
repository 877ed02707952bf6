"""Sample anatomies with T1w-like maps by patch diffusion, for cortex.py and novelty.py to judge.

Donors are the first people of the train split with a T1w scan and labels of 1 mm. One file for each seed:
class map, soft tissue map and the donor of every voxel, on GRID_1MM.

    python benchmarks/sampled_anatomies.py --cache CACHE --out SAMPLES [--donors 12] [--count 8]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from BrainGenLib import donors
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.donors import Donors
from BrainGenLib.methods import patch_diffusion, topology
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.donor_material import Person, structures_of
from BrainGenLib.training.donors import gathered
from BrainGenLib.training.tissues import medians, soft_map


def scanned(cache: Cache, split: str | None = None) -> list[CachedCase]:
    """People with a T1w scan and labels of 1 mm."""
    cases = cache.select(split=split, space="template", contrast="T1w", labelled=True, spacing=1)
    return sorted(cases, key=lambda case: case.id)


def person(cache: Cache, case: CachedCase) -> tuple[np.ndarray, np.ndarray]:
    """Class map without lesions, and soft tissue map as a donor holds it."""
    classes = structures_of(cache.labels(case))
    tissue = soft_map(classes, cache.image(case, "T1w").astype(np.float32), 1.0)
    if tissue is None:
        raise SystemExit(f"The T1w scan of {case.id} does not show fluid, cortex and white matter apart.")
    return classes, tissue.clip(*donors.RANGE)


def donors_of(cache: Cache, cases: list[CachedCase]) -> Donors:
    """The donors that these people are."""
    people = []
    for case in cases:
        classes, tissue = person(cache, case)
        image = donors.encoded(tissue, classes > 0)
        people.append(Person(case.id, case.age, case.sex or "", classes, image, medians(classes, tissue)))
    return gathered(people, "T1w")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache, of labels as they were given")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--donors", type=int, default=12)
    parser.add_argument("--count", type=int, default=8, help="seeds 0, 1, …")
    arguments = parser.parse_args()
    cache = Cache(arguments.cache)
    people = donors_of(cache, scanned(cache, "train")[: arguments.donors])
    arguments.out.mkdir(parents=True, exist_ok=True)
    seconds = []
    for seed in track(range(arguments.count), "anatomies"):
        start = time.process_time()
        found = patch_diffusion.sample(people, torch.Generator().manual_seed(seed), nothing)
        classes = topology.without_handles(topology.without_islands(found.classes))
        seconds.append(time.process_time() - start)
        assert found.image is not None
        np.savez_compressed(
            arguments.out / f"{seed:02d}.npz",
            classes=donors.whole(classes, people.box),
            tissue=donors.whole(found.image.astype(np.float16), people.box),
            donor=donors.whole(found.donor // 2, people.box, -1),
        )
    about = {"donors": people.names, "cpu_seconds": float(np.median(seconds))}
    (arguments.out / "about.json").write_text(json.dumps(about), "utf-8")


if __name__ == "__main__":
    main()
