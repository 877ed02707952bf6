"""Recipe: the donors of patch diffusion, chosen from a training cache. Nothing is trained.

A bundle with donors holds the scans of people: it may be shared as far as the scans may.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from BrainGenLib import anatomy, attribution, bundles
from BrainGenLib.donors import MULTIPLE, PAD, Donors, encoded
from BrainGenLib.errors import BadInput
from BrainGenLib.spaces import GRID_1MM
from BrainGenLib.training import shared_bundle
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.tissues import GREY, VENTRICLES, WHITE, soft_map

FEWEST = 3
"""With fewer people a mosaic is a copy of one of them."""
MARGIN = 4
"""Voxels around the brains of all donors."""
HEADING = "## Donors"
LIMIT = "Anatomy is a mosaic of the scans of"
CARD = """
Closed-form patch diffusion (Kamb and Ganguli, ICML 2025, arXiv 2412.20292, here in 3D, with labels and images
jointly): the denoiser is the posterior mean of a patch given the patches of {count} registered people and their
mirror images. Nothing was trained. **This part of the bundle is people's scans**, at 1 mm in template space: what is
generated is a mosaic of them.

**Data** (train split only): {sources}. {ages}

**Limits.** What no donor has is not generated: rare anatomy, ages beyond the donors', contrasts other than T1w.
"""


@dataclass(frozen=True)
class Person:
    """A donor: its name, age in years and sex as far as they are known, and uint8 volumes on GRID_1MM.

    Attributes:
        classes: class indices.
        image: of :func:`BrainGenLib.donors.encoded`; None without a scan.
    """

    name: str
    age: float | None
    sex: str | None
    classes: np.ndarray
    image: np.ndarray | None


def train(
    cache: Path,
    out: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
) -> None:
    """Choose at most ``steps`` donors (all if None), spread over ages, and write them to ``out``.

    Raises:
        BadInput: the cache holds too few brains that were scanned at 1 mm and labelled.
    """
    data = Cache(cache)
    found = [
        case
        for case in data.select(split="train", space="template", spacing=1, labelled=True)
        if not case.pathologies
    ]
    scanned = [case for case in found if "T1w" in case.images]
    chosen = spread_over_ages(scanned if len(scanned) >= FEWEST else found, steps)
    if len(chosen) < FEWEST:
        raise BadInput(
            f"{cache} holds {len(chosen)} brains of the train split without lesions that are labelled at 1 mm; "
            f"donors must be {FEWEST} at least, better ten. Prepare scans finer than 1.3 mm with their labels."
        )
    painted = len(scanned) >= FEWEST
    people, landmarks = [], []
    for case in chosen:
        classes, image = structures_of(data.labels(case)), None
        if painted:
            scan = data.image(case, "T1w").astype(np.float32)
            tissue = soft_map(classes, scan, 1.0)
            if tissue is None:
                print(
                    f"Left out {case.id}: its T1w scan does not show fluid, cortex and white matter apart.",
                    flush=True,
                )
                continue
            image = encoded(tissue, classes > 0)
            landmarks.append([np.median(scan[np.isin(classes, part)]) / 255 for part in (VENTRICLES, GREY, WHITE)])
        people.append(Person(name_of(case), case.age, case.sex, classes, image))
    if len(people) < FEWEST:
        raise BadInput(f"Of the brains of {cache} only {len(people)} have a usable T1w scan; {FEWEST} are needed.")
    donors = gathered(people, np.mean(landmarks, 0) if landmarks else np.zeros(3))
    used = {person.name for person in people}
    sources = sorted({f"{c.dataset} ({c.licence or 'licence not stated'})" for c in chosen if name_of(c) in used})
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / "donors.pt.part"
    saved = {
        "arguments": donors.arguments,
        "state": donors.state_dict(),
        "sources": sources,
        "among": attribution.among_people(donors),
    }
    torch.save(saved, temporary)
    os.replace(temporary, out / "donors.pt")
    print(f"{len(people)} donors in {out / 'donors.pt'}.", flush=True)


def gathered(people: list[Person], landmarks: np.ndarray) -> Donors:
    """People on the part of the grid that holds them all; ``landmarks`` are of :class:`Donors`."""
    box = around([person.classes for person in people])
    donors = Donors(
        len(people),
        [part.stop - part.start for part in box],
        [part.start for part in box],
        [person.name for person in people],
        [person.age for person in people],
        [person.sex for person in people],
        people[0].image is not None,
    )
    ends = [(0, 0), (0, 0), (PAD, PAD)]
    for row, person in enumerate(people):
        donors.classes[row] = torch.from_numpy(np.pad(person.classes[box], ends))
        if donors.image is not None and person.image is not None:
            donors.image[row] = torch.from_numpy(np.pad(person.image[box], ends))
    donors.landmarks.copy_(torch.from_numpy(landmarks))
    return donors


def spread_over_ages(cases: list[CachedCase], count: int | None) -> list[CachedCase]:
    """At most ``count`` cases, evenly from the youngest to the oldest; those of unknown age last."""
    ordered = sorted(cases, key=lambda case: (math.inf if case.age is None else case.age, case.id))
    if count is None or count >= len(ordered):
        return ordered
    return [ordered[round(index)] for index in np.linspace(0, len(ordered) - 1, count)]


def structures_of(classes: np.ndarray) -> np.ndarray:
    """A class map without anything that is no structure of the table."""
    last = max(anatomy.classes_of(kind="structure"))
    return np.where(classes <= last, classes, 0).astype(np.uint8)


def around(maps: list[np.ndarray]) -> tuple[slice, ...]:
    """The part of GRID_1MM that holds all brains and their mirror images: symmetric, its sides multiples."""
    brain = np.zeros(GRID_1MM.shape, bool)
    for classes in maps:
        brain |= classes > 0
    brain |= brain[::-1]
    (found,) = ndimage.find_objects(brain.astype(np.uint8))
    box = []
    for part, n in zip(found, GRID_1MM.shape, strict=True):
        size = min(-(-(part.stop - part.start + 2 * MARGIN) // MULTIPLE) * MULTIPLE, n)
        start = min(max((part.start + part.stop - size) // 2, 0), n - size)
        # Voxels of the grid at 2 mm are whole there.
        start -= start % 2
        box.append(slice(start, start + size))
    return tuple(box)


def name_of(case: CachedCase) -> str:
    """The case's name as a bundle's metadata may hold it."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in case.id)[:64]


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the donors of a run into the bundle; all else in it stays.

    Raises:
        FileNotFoundError: the run has no donors yet.
    """
    if not (run / "donors.pt").is_file():
        raise FileNotFoundError(f"{run} holds no donors (donors.pt); run `braingen train donors` first.")
    saved = torch.load(run / "donors.pt", map_location="cpu", weights_only=True)
    args = saved["arguments"]
    donors = Donors(**args)
    donors.load_state_dict(saved["state"])
    metadata = shared_bundle.metadata_of(bundle_folder)
    metadata.networks["donors"] = bundles.Network(target="BrainGenLib.donors.Donors", args=args)
    metadata.parameters["among_donors"] = saved["among"]
    known = [age for age in donors.ages if age is not None]
    ages = f"Ages {min(known):.0f} to {max(known):.0f} years." if known else "Their ages are not known."
    others = [limit for limit in metadata.limits if not limit.startswith(LIMIT)]
    metadata.limits = [f"{LIMIT} {len(donors)} people. {ages}", *others]
    section = CARD.format(count=len(donors), sources="; ".join(saved["sources"]), ages=ages)
    return shared_bundle.save(bundle_folder, metadata, {"donors": donors}, f"{HEADING}\n{section}")
