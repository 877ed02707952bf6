"""Exact lesion loads: one number added to each pathology's log-odds, so that its volume is the asked one.

The decoder says at every voxel how likely each lesion is; that carries place and shape. Adding a constant to one
pathology's log-odds moves its border along their level sets. The constant at which the volume is right is found by
bisection, among the voxels where the pathology may lie. Load 0 leaves no voxel.

Where the decoder is undecided, its log-odds are those of the atlas and the same in every brain; a smooth random field
of :data:`VARIETY` decides there. It is small beside what the decoder says of a lesion that it means.

A stroke is one lesion and a glioma is one mass, however many places a decoder finds likely: their log-odds fall with
the distance from the likeliest place, or from the part of the mass that lies further inside, on ways through tissue;
they stay in one cerebral hemisphere, or below the tentorium, if there is room. Oedema spreads along white matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.special import logsumexp

from BrainGenLib import anatomy
from BrainGenLib.lesions import GLIOMA, PATHOLOGIES, SCATTERED, VOXEL_ML, affected_classes

# The inner parts of a mass first, then by size: what is placed first keeps its voxels.
ORDER = (*GLIOMA, "stroke", "ms", "wmh")
SMALLEST_VOXELS = 3
"""Smallest lesion of a scattered pathology: 24 mm³, about 3.5 mm across."""
VARIETY = 1.5
"""Standard deviation of the random field added to the log-odds."""
GRAIN_VOXELS = {True: 1.5, False: 3.0}
"""Its smoothness (standard deviation of the kernel), for scattered and for focal pathologies."""
FOCUS = 2.5
"""How many standard deviations the log-odds of a focal lesion fall over one radius of a ball of its volume."""
SPARED = 2.0
"""How many standard deviations the log-odds of oedema, which spreads along white matter, are less in grey matter."""
BELOW = ("cerebellar white matter", "cerebellar cortex", "brainstem")
"""What lies below the tentorium."""
_PARTS = {"left": 1, "right": 2}
SURROUNDINGS = 30
"""How many times its volume around a focal lesion distances are measured."""
SMALLEST_SHARE = 0.1
"""Smallest part of a focal lesion, as a share of its largest part."""


class Placed(NamedTuple):
    """A placed pathology: its log-odds (float32) and where its border may run once the grid is finer (bool)."""

    odds: np.ndarray
    near: np.ndarray


def place_lesions(
    logits: np.ndarray,
    structures: np.ndarray,
    wanted: dict[str, float],
    regions: dict[str, np.ndarray],
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, Placed]]:
    """Lesions of the wanted volumes.

    Args:
        logits: (1 + pathologies, R, A, S), the first channel is "none".
        structures: class map of the anatomy.
        wanted: pathology to mL.
        regions: pathology to bool map of where it may lie.

    Returns:
        Lesions (uint8, 1 + index of the pathology), and what was placed by name of the pathology.
    """
    lesions = np.zeros(structures.shape, np.uint8)
    placed: dict[str, Placed] = {}
    for name in ORDER:
        if wanted.get(name, 0) <= 0:
            continue
        channel = PATHOLOGIES.index(name) + 1
        odds = logits[channel] - logsumexp(np.delete(logits, channel, 0), axis=0)
        # A little smoothing rounds off single-voxel roughness of the arg-max.
        odds = ndimage.gaussian_filter(odds, 0.6)
        field = ndimage.gaussian_filter(rng.standard_normal(odds.shape, np.float32), GRAIN_VOXELS[name in SCATTERED])
        odds += VARIETY * field / field.std()
        allowed = np.isin(structures, affected_classes(name)) & regions[name] & (lesions == 0)
        if name == "oedema" and allowed.any():
            odds -= SPARED * odds[allowed].std() * ~np.isin(structures, anatomy.classes_of(tissue="wm"))
        if name not in SCATTERED and allowed.any():
            inner = np.isin(lesions, [PATHOLOGIES.index(part) + 1 for part in GLIOMA]) & (name in GLIOMA)
            start = inner if inner.any() else _likeliest(odds, allowed)
            around = allowed & territory(structures, start)
            allowed = around if around.sum() * VOXEL_ML >= wanted[name] else allowed
            odds = odds - focus(odds, allowed, start, wanted[name])
        mask = threshold_for_volume(odds, allowed, wanted[name], scattered=name in SCATTERED)
        if mask.any():
            lesions[mask] = channel
            placed[name] = Placed(odds.astype(np.float32), ndimage.binary_dilation(mask) & regions[name])
    return lesions, placed


def focus(odds: np.ndarray, allowed: np.ndarray, start: np.ndarray, millilitres: float) -> np.ndarray:
    """What the log-odds of a focal lesion lose with the distance from ``start`` on ways through ``allowed``."""
    voxels = millilitres / VOXEL_ML
    radius = (voxels * 3 / (4 * np.pi)) ** (1 / 3)
    distance = _walked(start, allowed, SURROUNDINGS * voxels)
    return FOCUS * odds[allowed].std() * distance / max(radius, 1)


def _likeliest(odds: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The likeliest allowed place, as a mask of one voxel."""
    broad = np.where(allowed, ndimage.gaussian_filter(odds, 2.0), -np.inf)
    place = np.zeros_like(allowed)
    place[np.unravel_index(broad.argmax(), broad.shape)] = True
    return place


def _walked(start: np.ndarray, through: np.ndarray, voxels: float) -> np.ndarray:
    """How far it is from ``start`` to each voxel on ways through a mask, in voxels; beyond the nearest so many, all
    are equally far."""
    reached, distance = start, np.zeros(start.shape, np.float32)
    steps = [ndimage.generate_binary_structure(3, 1), ndimage.generate_binary_structure(3, 3)]
    for number in range(sum(start.shape)):
        further = ndimage.binary_dilation(reached, steps[number % 2], mask=through | start)
        # Faces and corners in turn: nearly a ball.
        distance[~further] = number + 1
        if np.count_nonzero(further) in (np.count_nonzero(reached), through.size) or further.sum() > voxels:
            break
        reached = further
    return distance


def territory(structures: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The part of the brain that a focal lesion stays in: the cerebral hemisphere that most of ``place`` is in, or
    cerebellum and brainstem."""
    part = np.array([_PARTS.get(label.side, 0) for label in anatomy.labels()])
    part[[label.index for label in anatomy.labels() if label.name.endswith(BELOW)]] = 3
    found = np.bincount(part[structures[place]], minlength=4)
    return (part == found[1:].argmax() + 1)[structures]


def threshold_for_volume(odds: np.ndarray, allowed: np.ndarray, millilitres: float, *, scattered: bool) -> np.ndarray:
    """The mask of that volume above one threshold of ``odds`` within ``allowed``.

    Parts that are too small are dropped, which is why the threshold has to be searched for. Where less is allowed
    than is wanted, all of it is taken.
    """
    values = np.sort(odds[allowed])[::-1]
    target = round(millilitres / VOXEL_ML)
    if len(values) == 0 or target == 0:
        return np.zeros_like(allowed)
    low, high = 0, len(values) - 1
    best, closest = np.zeros_like(allowed), np.inf
    while low <= high:
        middle = (low + high) // 2
        mask = _without_specks(allowed & (odds >= values[middle]), scattered)
        found = int(mask.sum())
        if abs(found - target) < closest:
            best, closest = mask, abs(found - target)
        if found < target:
            low = middle + 1
        else:
            high = middle - 1
    return best


def _without_specks(mask: np.ndarray, scattered: bool) -> np.ndarray:
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count < 2 and scattered is False:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return (sizes >= (SMALLEST_VOXELS if scattered else SMALLEST_SHARE * sizes.max()))[parts] & mask
