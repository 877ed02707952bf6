"""Exact lesion loads: one number added to each pathology's log-odds, so that its volume is the asked one.

The decoder says at every voxel how likely each lesion is; that carries place and shape. Adding a constant to one
pathology's log-odds moves its border along their level sets. The constant at which the volume is right is found by
bisection, among the voxels where the pathology may lie. Load 0 leaves no voxel.

Where the decoder is undecided, its log-odds are those of the atlas and the same in every brain; a smooth random field
of :data:`VARIETY` decides there. It is small beside what the decoder says of a lesion that it means.

A stroke is one lesion and a glioma is one mass, however many places a decoder finds likely: their log-odds fall with
the distance from the likeliest place, or from the part of the mass that lies further inside.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.special import logsumexp

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
        if name not in SCATTERED and allowed.any():
            inner = np.isin(lesions, [PATHOLOGIES.index(part) + 1 for part in GLIOMA]) & (name in GLIOMA)
            odds = odds - focus(odds, allowed, inner, wanted[name])
        mask = threshold_for_volume(odds, allowed, wanted[name], scattered=name in SCATTERED)
        if mask.any():
            lesions[mask] = channel
            near = ndimage.binary_dilation(mask) & regions[name]
            placed[name] = Placed(odds.astype(np.float32), near)
    return lesions, placed


def focus(odds: np.ndarray, allowed: np.ndarray, inner: np.ndarray, millilitres: float) -> np.ndarray:
    """What the log-odds of a focal lesion lose with distance.

    Distance is from ``inner``, the parts of the same mass that have been placed, or from the likeliest allowed place.
    """
    if not inner.any():
        broad = np.where(allowed, ndimage.gaussian_filter(odds, 2.0), -np.inf)
        inner = np.zeros_like(allowed)
        inner[np.unravel_index(broad.argmax(), broad.shape)] = True
    radius = (millilitres / VOXEL_ML * 3 / (4 * np.pi)) ** (1 / 3)
    distance = ndimage.distance_transform_edt(~inner)
    return FOCUS * odds[allowed].std() * distance / max(radius, 1)


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
