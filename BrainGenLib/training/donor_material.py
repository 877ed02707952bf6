"""Whom a training cache offers as donors, and their label maps and images as donors have them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from BrainGenLib import anatomy, bundles, spaces
from BrainGenLib.donors import encoded
from BrainGenLib.errors import BadInput
from BrainGenLib.methods.segmentation import Segmenter, segment_in_template
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.prepare import FINE_MM, normalise
from BrainGenLib.training.sources import CONTRASTS
from BrainGenLib.training.tissues import medians, scaled_map, soft_map, typical_values

FEWEST = 3
"""With fewer people a mosaic is a copy of one of them."""
LEAST_LIKENESS = 0.4
"""Correlation of a brain's tissues with the template. People of ds002748 have 0.55 to 0.63, the same brains 8 mm away
or turned by 10° have 0.36 to 0.40."""
LEAST_AGREEMENT = 0.5
"""Correlation of how bright fluid, grey and white matter are in a scan, and in most others."""


@dataclass(frozen=True)
class Person:
    """A donor: its name, age in years and sex as far as they are known, and uint8 volumes on GRID_1MM.

    Attributes:
        classes: class indices.
        image: of :func:`BrainGenLib.donors.encoded`; None without a scan.
        brightness: (3,) medians of fluid, grey and white matter in the scan, 0 to 1.
        likeness: of its tissues to the template, a correlation.
    """

    name: str
    age: float | None
    sex: str | None
    classes: np.ndarray
    image: np.ndarray | None
    brightness: np.ndarray | None = None
    likeness: float = 1.0


def chosen(data: Cache, count: int | None) -> tuple[list[CachedCase], str | None]:
    """At most ``count`` people (all if None) who can be donors, spread over ages, and the contrast that all have.

    Donors are of one contrast: T1w if three people have it, or else the one that most have; None where only label
    maps can be used.

    Raises:
        BadInput: there are too few.
    """
    found = _candidates(data)
    numbers = {name: sum(name in case.images for case in found) for name in CONTRASTS}
    able = [name for name in CONTRASTS if numbers[name] >= FEWEST]
    contrast = "T1w" if "T1w" in able else max(able, key=numbers.__getitem__, default=None)
    used = [case for case in found if (case.has_labels if contrast is None else contrast in case.images)]
    listed = ", ".join(f"{name} {number}" for name, number in numbers.items() if number)
    if len(used) < FEWEST:
        raise BadInput(
            f"The scans of {data.folder} are of several contrasts ({listed} people), and donors need one that "
            f"{FEWEST} people at least have; prepare more scans of one contrast."
        )
    if contrast is None and listed:
        print(f"No contrast has scans of {FEWEST} people ({listed}): donors are label maps alone.", flush=True)
    elif others := [case.id for case in found if case not in used]:
        print(f"Left out, without a scan of the contrast {contrast}: {', '.join(others)}.", flush=True)
    return spread_over_ages(used, count), contrast


def _candidates(data: Cache) -> list[CachedCase]:
    """Brains of the train split without lesions at 1 mm."""
    reasons: Counter[str] = Counter()
    found = []
    for case in data.select(space="template"):
        if case.split != "train":
            reasons[f"of the {case.split} split"] += 1
        elif case.pathologies:
            reasons["with lesions"] += 1
        elif case.spacing != 1:
            reasons[f"of voxels larger than {FINE_MM} mm"] += 1
        else:
            found.append(case)
    if len(found) < FEWEST:
        others = ", ".join(f"{number} {reason}" for reason, number in reasons.items())
        raise BadInput(
            f"{data.folder} holds {len(found)} brains that can be donors"
            + (f" (and {others})" if others else "")
            + f", but {FEWEST} are needed, better ten: prepare scans of 1 mm of people without lesions."
        )
    return found


def spread_over_ages(cases: list[CachedCase], count: int | None) -> list[CachedCase]:
    """At most ``count`` cases, evenly from the youngest to the oldest; those of unknown age last."""
    ordered = sorted(cases, key=lambda case: (math.inf if case.age is None else case.age, case.id))
    if count is None or count >= len(ordered):
        return ordered
    return [ordered[round(index)] for index in np.linspace(0, len(ordered) - 1, count)]


def people_of(data: Cache, cases: list[CachedCase], contrast: str | None, device: str) -> list[Person]:
    """The people of cases; those who cannot be donors are named and left out.

    Scans without labels are segmented.

    Raises:
        BadInput: too few are left.
    """
    found, reasons = [], []
    for case, person, reason in _each(data, cases, contrast, device):
        if person is None:
            reasons.append(f"Left out {case.id}: {reason}.")
            print(reasons[-1], flush=True)
        else:
            found.append(person)
    seen = [person.brightness for person in found if person.brightness is not None]
    usual = np.median(seen, 0) if seen else np.zeros(3)
    people = []
    for person in found:
        if person.brightness is not None and np.corrcoef(person.brightness, usual)[0, 1] < LEAST_AGREEMENT:
            reasons.append(f"Left out {person.name}: its {contrast} scan looks like one of another contrast.")
            print(reasons[-1], flush=True)
        else:
            people.append(person)
    if len(people) < FEWEST:
        raise BadInput(
            f"Of {len(cases)} brains of {data.folder} {len(people)} can be donors, and {FEWEST} are needed, better "
            f"ten. {reasons[0] if reasons else 'Choose more (--steps).'}"
        )
    return people


def _each(
    data: Cache, cases: list[CachedCase], contrast: str | None, device: str
) -> Iterator[tuple[CachedCase, Person | None, str]]:
    """Every case, who it is, and, where that is nobody, why."""
    segmenter = None
    for case in cases:
        scan = None if contrast is None else data.image(case, contrast)
        if case.has_labels:
            classes = structures_of(data.labels(case))
        else:
            assert scan is not None
            segmenter = segmenter or Segmenter.from_bundle(bundles.find("segmenter"), device)
            print(f"Segmenting {case.id}.", flush=True)
            classes = structures_of(segment_in_template(segmenter, scan.astype(np.float32)))
            scan = normalise(scan, classes > 0)
        data.forget(case)
        likeness = likeness_to_template(classes)
        if likeness < LEAST_LIKENESS:
            yield case, None, f"it is not aligned with the template (correlation {likeness:.2f})"
            continue
        image = brightness = None
        if scan is not None:
            values = (soft_map if contrast == "T1w" else scaled_map)(classes, scan.astype(np.float32), 1.0)
            if values is None:
                yield case, None, f"its {contrast} scan does not show fluid, cortex and white matter apart"
                continue
            image = encoded(values, classes > 0)
            brightness = medians(classes, scan) / 255
        yield case, Person(name_of(case), case.age, case.sex, classes, image, brightness, likeness), ""


def likeness_to_template(classes: np.ndarray) -> float:
    """Correlation of the tissues of a class map on GRID_1MM with the template's image, where either has brain."""
    x, y, z = spaces.GRID_2MM.shape
    tissue = typical_values()[classes].reshape(x, 2, y, 2, z, 2).mean((1, 3, 5))
    image, brain = spaces.template()
    either = brain | (tissue > 0)
    if not tissue.any():
        return 0.0
    return float(np.corrcoef(tissue[either], np.where(brain, image, 0)[either])[0, 1])


def structures_of(classes: np.ndarray) -> np.ndarray:
    """A class map without anything that is no structure of the table."""
    last = max(anatomy.classes_of(kind="structure"))
    return np.where(classes <= last, classes, 0).astype(np.uint8)


def name_of(case: CachedCase) -> str:
    """The case's name as a bundle's metadata may hold it."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in case.id)[:64]
