"""Sample anatomies with T1w-like maps, for anatomy.py, cortex.py and novelty.py to judge.

By the pyramid of patch diffusion alone: donors are the first people of the train split with a T1w scan and labels of
1 mm. With ``--shipped`` by the installed bundle as ``generate`` does it: guided by the label diffusion, deformed, and
sampled again if too near to a donor; ``--like`` asks for the ages and sexes of a cache's test split in turn. One file
for each seed: class map, soft tissue map and the donor of every voxel, on GRID_1MM; those that are there are kept.

    python benchmarks/sampled_anatomies.py --cache CACHE --out SAMPLES [--donors 12] [--count 8]
    python benchmarks/sampled_anatomies.py --shipped [--like HELD_OUT] --out SHIPPED [--count 20]
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from BrainGenLib import bundles, donors
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.donors import Donors
from BrainGenLib.lesions import STRUCTURES, VOXEL_ML
from BrainGenLib.methods import patch_diffusion, topology
from BrainGenLib.methods.brainspade3d import LabelModel, sample_labels
from BrainGenLib.participants import SEXES
from BrainGenLib.reporting import Silent
from BrainGenLib.requests import Generate
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.donor_material import Person, structures_of
from BrainGenLib.training.donors import gathered
from BrainGenLib.training.run import pick_device
from BrainGenLib.training.tissues import medians, soft_map

PYRAMID, SHIPPED = "pyramid alone", "as generate makes them"


Measured = tuple[np.ndarray, np.ndarray]
"""Class map without lesions, and soft tissue map."""


def scanned(cache: Cache, split: str | None = None) -> list[CachedCase]:
    """People with a T1w scan and labels of 1 mm."""
    cases = cache.select(split=split, space="template", contrast="T1w", labelled=True, spacing=1)
    return sorted(cases, key=lambda case: case.id)


def held_out(folder: Path) -> list[Measured]:
    """People of the test split of a cache with a T1w scan and labels of 1 mm, as donors would be held; those whose
    scan does not show fluid, cortex and white matter apart are named and left out."""
    cache = Cache(folder)
    people = []
    for case in track(scanned(cache, "test"), "held-out people"):
        if (found := person(cache, case)) is None:
            print(f"Left out {case.id}: its T1w scan does not show fluid, cortex and white matter apart.")
        else:
            people.append(found)
    if len(people) < 2:
        raise SystemExit(f"{folder} holds {len(people)} people of the test split scanned and labelled at 1 mm.")
    return people


def person(cache: Cache, case: CachedCase) -> Measured | None:
    """A person as a donor is held; None where the scan does not show fluid, cortex and white matter apart."""
    classes = structures_of(cache.labels(case))
    tissue = soft_map(classes, cache.image(case, "T1w").astype(np.float32), 1.0)
    return None if tissue is None else (classes, tissue.clip(*donors.RANGE))


def donors_of(cache: Cache, cases: list[CachedCase]) -> Donors:
    """The donors that these people are."""
    people = []
    for case in cases:
        if (found := person(cache, case)) is None:
            raise SystemExit(f"The T1w scan of {case.id} does not show fluid, cortex and white matter apart.")
        classes, tissue = found
        image = donors.encoded(tissue, classes > 0)
        people.append(Person(case.id, case.age, case.sex or "", classes, image, medians(classes, tissue)))
    return gathered(people, "T1w")


Sampled = tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]
"""Class map, soft tissue map, donor of every voxel, and what else is to be known of the sample."""


def of_pyramid(people: Donors, seed: int) -> Sampled:
    """A sample of the pyramid alone, tidied."""
    found = patch_diffusion.sample(people, torch.Generator().manual_seed(seed), nothing)
    classes = topology.without_handles(topology.without_islands(found.classes))
    assert found.image is not None
    return (
        donors.whole(classes, people.box),
        donors.whole(found.image, people.box),
        donors.whole(found.donor // 2, people.box, -1),
        {},
    )


def of_bundle(model: LabelModel, like: list[CachedCase], seed: int) -> Sampled:
    """A sample of a bundle without lesions; with its person, the volumes asked for and those of the label diffusion
    (mL by class) in template space,
    and how many samples were rejected before it."""
    asked: dict[str, float] = {}
    if like:
        case = like[seed % len(like)]
        assert case.age is not None
        asked = {"age": case.age, "sex": SEXES[case.sex or ""]}
    sample = sample_labels(model, Generate(seed=seed, anatomy=asked), Silent())
    if sample.folded is None or sample.folded.image is None:
        raise SystemExit("The bundle holds no donors with scans.")
    coarse = sample.log_anatomy.float().softmax(0).reshape(STRUCTURES, -1).sum(1) * VOXEL_ML
    about = {
        "asked": sample.anatomy,
        "person": sample.person,
        "coarse_ml": [round(float(volume), 2) for volume in coarse],
        "rejected": sample.rejected,
    }
    return sample.folded.structures, sample.folded.image, sample.folded.donor, about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--cache", type=Path, help="training cache, of labels as they were given")
    source.add_argument("--shipped", action="store_true", help="of the installed brainspade3d")
    parser.add_argument("--like", type=Path, help="cache whose test split gives ages and sexes")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--donors", type=int, default=12)
    parser.add_argument("--count", type=int, default=8, help="seeds 0, 1, …")
    parser.add_argument("--device", default="auto", help="of the label diffusion")
    arguments = parser.parse_args()
    if arguments.shipped:
        bundle = bundles.find("brainspade3d")
        model = LabelModel.from_bundle(bundle, str(pick_device(arguments.device)))
        if model.people is None:
            raise SystemExit("The bundle holds no donors.")
        like = scanned(Cache(arguments.like), "test") if arguments.like else []
        people, sampled = model.people, partial(of_bundle, model, like)
    else:
        cache = Cache(arguments.cache)
        people = donors_of(cache, scanned(cache, "train")[: arguments.donors])
        sampled = partial(of_pyramid, people)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in track(range(arguments.count), "anatomies"):
        if (path := arguments.out / f"{seed:02d}.npz").is_file():
            continue
        start = time.process_time()
        classes, tissue, donor, about = sampled(seed)
        about["cpu_seconds"] = time.process_time() - start
        with (part := path.with_suffix(".part")).open("wb") as file:
            np.savez_compressed(
                file,
                classes=classes,
                tissue=tissue.astype(np.float16),
                donor=donor,
                about=np.array(json.dumps(about)),
            )
        part.rename(path)
    each = [json.loads(str(np.load(path)["about"])) for path in sorted(arguments.out.glob("*.npz"))]
    about = {
        "how": SHIPPED if arguments.shipped else PYRAMID,
        "bundle": bundle.sha256 if arguments.shipped else None,
        "donors": people.names,
        "cpu_seconds": float(np.median([one["cpu_seconds"] for one in each])),
        "samples": each,
    }
    (arguments.out / "about.json").write_text(json.dumps(about), "utf-8")


if __name__ == "__main__":
    main()
