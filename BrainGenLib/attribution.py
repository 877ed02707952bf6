"""Whose anatomy is it? What a case sampled by patch diffusion has of each donor, and how near it lies to them.

Patch diffusion knows the donor of every voxel, so a case says what it is made of. How near it is to its nearest donor
is compared with how near people are to each other, at 2 mm: Dice of the cortex, and correlation of images where both
have brain. Every donor is compared as it is and mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from BrainGenLib import anatomy, donors
from BrainGenLib.donors import PAD, Donors
from BrainGenLib.errors import BadInput
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods.folded_anatomy import Folded

MORE_TRIES = 2

Likeness = Callable[[np.ndarray, np.ndarray], float]
Among = dict[str, dict[str, float]]
"""For ``cortex_dice`` and, where there are images, ``image_correlation``: the ``mean`` and the ``largest`` of every
donor's likeness to the nearest of the others, and the ``largest_lead`` of that over the mean of the likeness to all
others. An anatomy that is usual is near to everybody, a copy to one."""


def among_people(people: Donors) -> Among:
    """How near donors are to each other: computed once for a bundle, which keeps the figures.

    Raises:
        BadInput: there is only one donor.
    """
    if len(people) < 2:
        raise BadInput("A bundle needs two donors at least: one alone would be copied.")
    found = {"cortex_dice": _likeness([half_cortex(each) for each in _unpadded(people.classes)], cortex_dice)}
    if people.image is not None:
        found["image_correlation"] = _likeness([half_image(each) for each in _unpadded(people.image)], correlation)
    return found


def _likeness(each: list[np.ndarray], likeness: Likeness) -> dict[str, float]:
    found = np.full((len(each), len(each)), np.nan)
    for i, one in enumerate(each):
        mirrored = np.ascontiguousarray(one[::-1])
        for j in range(i):
            found[i, j] = found[j, i] = max(likeness(one, each[j]), likeness(mirrored, each[j]))
    nearest = np.nanmax(found, 1)
    lead = nearest - np.nanmean(found, 1)
    return {"mean": float(nearest.mean()), "largest": float(nearest.max()), "largest_lead": float(lead.max())}


def accept(people: Donors, among: Among, sample: Callable[[int], Folded], seed: int) -> tuple[Folded, int]:
    """Sample until the cortex is not nearer to a donor's than any two donors' are to each other, at most three times.

    Args:
        people: the donors.
        among: how near they are to each other.
        sample: an anatomy of a seed.
        seed: of the first sample; those of the others follow from it.

    Returns:
        The first anatomy that is far enough away, or else the one that is farthest, and how many were rejected.
    """
    tried: list[tuple[float, Folded]] = []
    for number in range(1 + MORE_TRIES):
        found = sample(seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
        cortex = half_cortex(found.structures[people.box])
        dice = max(_to_each(cortex, map(half_cortex, _unpadded(people.classes)), cortex_dice))
        if dice <= among["cortex_dice"]["largest"]:
            return found, number
        tried.append((dice, found))
    return min(tried, key=lambda one: one[0])[1], MORE_TRIES


def map_of(donor: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The map of donors of a case: the number of the donor, from 1; 0 where there is no brain, or a lesion.

    Args:
        donor: index of the donor, less than 0 where there is none.
        classes: class indices on the same grid.

    Returns:
        uint16.
    """
    return np.where((classes > 0) & (classes < STRUCTURES), np.maximum(donor + 1, 0), 0).astype(np.uint16)


def measured(
    people: Donors,
    among: Among,
    classes: np.ndarray,
    image: np.ndarray | None,
    whose: np.ndarray,
    rejected: int = 0,
) -> dict[str, Any]:
    """What a case has of its donors.

    Args:
        people: the donors.
        among: how near they are to each other.
        classes: (R, A, S) on GRID_1MM.
        image: on it, in the values of the donors' images; None where they have none.
        whose: of :func:`map_of`, on it.
        rejected: samples that :func:`accept` rejected before this one or, where it found no other, with it.

    Returns:
        ``shares`` of the brain by donor, in the order of the map's values; ``effective_donors``, 1 / Σ share²;
        ``largest_region_ml`` that is connected and of one donor, and ``largest_region_of`` whom; ``cortex_dice`` and,
        where there are images, ``image_correlation``, each with the ``nearest`` value, the ``donor`` whose it is, its
        ``lead`` over the mean of all donors, and ``people_mean``, ``people_largest`` and ``people_largest_lead`` of
        donors among themselves; samples ``rejected``.
    """
    counts = np.bincount(whose.ravel(), minlength=len(people) + 1)[1:]
    shares = counts / max(counts.sum(), 1)
    largest, owner = _largest_region(whose, counts)
    cortex = half_cortex(classes[people.box])
    found = {
        "shares": {name: round(float(share), 4) for name, share in zip(people.names, shares, strict=True)},
        "effective_donors": float(1 / np.square(shares).sum()) if counts.any() else 0.0,
        "largest_region_ml": largest / 1000,
        "largest_region_of": people.names[owner],
        "cortex_dice": _compared(people, half_cortex, people.classes, cortex, cortex_dice, among["cortex_dice"]),
        "rejected": rejected,
    }
    if image is not None and people.image is not None:
        half = half_image(donors.encoded(image[people.box], classes[people.box] > 0))
        found["image_correlation"] = _compared(
            people, half_image, people.image, half, correlation, among["image_correlation"]
        )
    return found


def remarks(found: dict[str, Any]) -> list[str]:
    """Sentences on a case that lies nearer to a donor than any two donors lie to each other.

    Args:
        found: of :func:`measured`.
    """
    said = []
    for name, what, unit in (("cortex_dice", "cortex", "Dice"), ("image_correlation", "image", "correlation")):
        if (likeness := found.get(name)) is not None and likeness["nearest"] > likeness["people_largest"]:
            said.append(
                f"Its {what} is nearer to that of the donor {likeness['donor']} ({unit} {likeness['nearest']:.3f}) "
                f"than those of any two donors are to each other ({likeness['people_largest']:.3f})."
            )
    return said


def half_cortex(classes: np.ndarray) -> np.ndarray:
    """Where at least half of a voxel of 2 mm is cortex, of class indices at 1 mm."""
    cortex = np.zeros(classes.shape, bool)
    for index in anatomy.classes_of(name="cerebral cortex"):
        cortex |= classes == index
    return np.asarray(_eighths(cortex.view(np.uint8), np.uint8) >= 4)


def half_image(image: np.ndarray) -> np.ndarray:
    """An image at 2 mm, int16, of uint8 at 1 mm; 0 where not all of the voxel is brain."""
    inside = _eighths((image > 0).view(np.uint8), np.uint8) == 8
    return np.where(inside, _eighths(image, np.int16), 0)


def _eighths(volume: np.ndarray, kind: type) -> np.ndarray:
    """Sums over cubes of two voxels."""
    rows: np.ndarray = volume.astype(kind)
    for axis in range(3):
        even, odd = ([slice(None)] * axis + [slice(first, None, 2)] for first in (0, 1))
        rows = rows[tuple(even)] + rows[tuple(odd)]
    return rows


def cortex_dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks; 0 if both are empty."""
    both = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero(a & b) / both) if both else 0.0


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two images where both have brain; 0 where one is flat."""
    inside = (a > 0) & (b > 0)
    x, y = (one[inside].astype(np.float32) for one in (a, b))
    if not x.size or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _to_each(case: np.ndarray, each: Iterator[np.ndarray], likeness: Likeness) -> list[float]:
    """The likeness of a case to every donor, the larger of both ways round."""
    mirrored = np.ascontiguousarray(case[::-1])
    return [max(likeness(case, one), likeness(mirrored, one)) for one in each]


def _compared(
    people: Donors,
    half: Callable[[np.ndarray], np.ndarray],
    volumes: torch.Tensor,
    case: np.ndarray,
    likeness: Likeness,
    among: dict[str, float],
) -> dict[str, Any]:
    values = _to_each(case, map(half, _unpadded(volumes)), likeness)
    return {
        "nearest": max(values),
        "donor": people.names[int(np.argmax(values))],
        "lead": max(values) - float(np.mean(values)),
        "people_mean": among["mean"],
        "people_largest": among["largest"],
        "people_largest_lead": among["largest_lead"],
    }


def _largest_region(whose: np.ndarray, counts: np.ndarray) -> tuple[int, int]:
    """Voxels of the largest connected region of one donor, and the donor's index."""
    boxes = ndimage.find_objects(whose, len(counts))
    largest, owner = 0, 0
    for index in np.argsort(-counts, kind="stable"):
        # One who has no more in all cannot have a larger region.
        if counts[index] <= largest:
            break
        regions, _ = ndimage.label(whose[boxes[index]] == index + 1)
        size = int(np.bincount(regions.ravel())[1:].max())
        if size > largest:
            largest, owner = size, int(index)
    return largest, owner


def _unpadded(volumes: torch.Tensor) -> Iterator[np.ndarray]:
    return (each[..., PAD:-PAD].numpy() for each in volumes)
