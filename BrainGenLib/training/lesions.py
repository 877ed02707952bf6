"""Lesions from real masks: a bank of them, and their transplantation into other brains in template space.

A real mask gives place and shape; :func:`grow` then grows or shrinks it to any volume within the tissue that the
pathology affects, so that loads cover their whole range although few masks exist, and any two pathologies can meet in
one brain although no patient here has both.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from BrainGenLib.lesions import GLIOMA, PATHOLOGIES, SCATTERED, STRUCTURES, VOXEL_ML, affected_classes
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training.cache import Cache, CachedCase


def to_2mm(classes: np.ndarray) -> np.ndarray:
    """A class map on GRID_1MM by majority over blocks of 2×2×2; one on GRID_2MM as it is."""
    if classes.shape == GRID_2MM.shape:
        return classes
    r, a, s = GRID_2MM.shape
    blocks = classes.reshape(r, 2, a, 2, s, 2).transpose(1, 3, 5, 0, 2, 4).reshape(8, r, a, s)
    votes = np.zeros(blocks.shape, np.uint8)
    for one, other in itertools.combinations(range(8), 2):
        same = blocks[one] == blocks[other]
        votes[one] += same
        votes[other] += same
    return np.take_along_axis(blocks, votes.argmax(0)[None], 0)[0]


@dataclass(frozen=True)
class Mask:
    """A real lesion mask on GRID_2MM, cropped: ``lesions`` (numbered as in :func:`split_lesions`) at ``corner``."""

    lesions: np.ndarray
    corner: tuple[int, int, int]

    def volume(self, pathology: str) -> float:
        """In mL."""
        return float((self.lesions == PATHOLOGIES.index(pathology) + 1).sum() * VOXEL_ML)

    def placed(self, pathology: str, shift: np.ndarray, mirrored: bool) -> np.ndarray:
        """The mask of one pathology on GRID_2MM, moved by whole voxels and mirrored left-right on request."""
        found = np.argwhere(self.lesions == PATHOLOGIES.index(pathology) + 1) + self.corner
        if mirrored:
            found[:, 0] = GRID_2MM.shape[0] - 1 - found[:, 0]
        found = found + shift
        found = found[((found >= 0) & (found < GRID_2MM.shape)).all(1)]
        out = np.zeros(GRID_2MM.shape, bool)
        out[tuple(found.T)] = True
        return out


class LesionBank:
    """All lesion masks of the training split by pathology.

    Attributes:
        masks: pathology to masks; a glioma stands under each of its parts.
        maximum: pathology to the volume in mL that stands for load 1: the 98th percentile of the masks, or the
            largest of fewer than 20.
    """

    def __init__(self, cache: Cache) -> None:
        self.masks: dict[str, list[Mask]] = {name: [] for name in PATHOLOGIES}
        for case in cache.select(split="train"):
            if case.has_labels and case.pathologies and case.space in ("template", "lesion"):
                self._add(cache, case)
        self.maximum: dict[str, float] = {}
        for name, masks in self.masks.items():
            volumes = [mask.volume(name) for mask in masks]
            if volumes:
                self.maximum[name] = float(np.percentile(volumes, 98) if len(volumes) >= 20 else max(volumes))

    def _add(self, cache: Cache, case: CachedCase) -> None:
        classes = to_2mm(cache.labels(case))
        lesions = np.where(classes >= STRUCTURES, classes - (STRUCTURES - 1), 0).astype(np.uint8)
        # Class numbers from 64 on are tissue outside the brain.
        lesions[lesions > len(PATHOLOGIES)] = 0
        if not lesions.any():
            return
        (box,) = ndimage.find_objects((lesions > 0).astype(np.uint8))
        mask = Mask(lesions[box].copy(), tuple(axis.start for axis in box))
        for number in np.unique(mask.lesions[mask.lesions > 0]):
            self.masks[PATHOLOGIES[number - 1]].append(mask)

    @property
    def available(self) -> list[str]:
        """Pathologies of which there is at least one mask."""
        return [name for name in PATHOLOGIES if self.masks[name]]


def grow(seed: np.ndarray, allowed: np.ndarray, millilitres: float, rng: np.random.Generator) -> np.ndarray:
    """A mask of the given volume that grows from (or shrinks into) ``seed`` within ``allowed``, all (R, A, S) bool.

    The voxels with the largest signed distance to the seed's border are taken, with some noise so that the border
    stays irregular. Empty if the seed lies wholly outside the allowed tissue.
    """
    out = np.zeros_like(seed)
    count = round(millilitres / VOXEL_ML)
    if not (seed & allowed).any() or count == 0:
        return out
    # Only a box around the seed can be reached; a sphere of the wanted volume bounds how far.
    margin = 3 + int((count * 3 / (4 * np.pi)) ** (1 / 3))
    (tight,) = ndimage.find_objects(seed.astype(np.uint8))
    box = tuple(slice(max(0, axis.start - margin), axis.stop + margin) for axis in tight)
    inside = seed[box]
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    depth += ndimage.gaussian_filter(rng.standard_normal(depth.shape), 1.0) * 4
    depth[~allowed[box]] = -np.inf
    count = min(count, int(np.isfinite(depth).sum()))
    out[box] = depth >= np.partition(depth.ravel(), -count)[-count]
    return out


def _random_load(rng: np.random.Generator) -> float:
    """In (0, 1]: small loads are as common as large ones on either scale."""
    return float(rng.uniform(0.01, 1)) if rng.random() < 0.5 else float(10 ** rng.uniform(-2, 0))


def _seeded(bank: LesionBank, pathology: str, wanted: float, rng: np.random.Generator) -> np.ndarray:
    """Real masks of about the wanted volume (mL): several together for the scattered ones, one for a stroke."""
    masks = bank.masks[pathology]
    scattered = pathology in SCATTERED
    picks = [masks[i] for i in rng.choice(len(masks), size=min(12, len(masks)), replace=False)]
    if not scattered:
        picks = sorted(picks, key=lambda mask: abs(np.log(mask.volume(pathology) / wanted)))[:1]
    reach = 2 if scattered else 5
    out = np.zeros(GRID_2MM.shape, bool)
    for mask in picks:
        out |= mask.placed(pathology, rng.integers(-reach, reach + 1, 3), bool(rng.random() < 0.5))
        if out.sum() * VOXEL_ML >= 0.6 * wanted:
            break
    return out


def transplant(
    structures: np.ndarray,
    lesions: np.ndarray,
    bank: LesionBank,
    pathologies: list[str],
    rng: np.random.Generator,
) -> np.ndarray:
    """``lesions`` (uint8, GRID_2MM) with more of them: each pathology at a random load, in plausible tissue.

    ``structures`` is the anatomy (class indices). Of a glioma any of the three parts may be named; they share one
    real case and nest.
    """
    out = lesions.copy()
    glioma = [name for name in GLIOMA if name in pathologies]
    if glioma:
        masks = bank.masks[glioma[0]]
        mask = masks[rng.integers(len(masks))]
        shift, mirrored = rng.integers(-10, 11, 3), bool(rng.random() < 0.5)
    core = np.zeros(out.shape, bool)
    for name in [*(p for p in pathologies if p not in GLIOMA), *glioma]:
        wanted = _random_load(rng) * bank.maximum[name]
        allowed = np.isin(structures, affected_classes(name)) & (out == 0)
        if name in GLIOMA:
            seed = mask.placed(name, shift, mirrored)
            if core.any():
                # The outer parts surround what has been placed before them.
                seed = ndimage.binary_dilation(core, iterations=2) if name == "enhancing" else seed | core
        else:
            seed = _seeded(bank, name, wanted, rng)
        grown = grow(seed, allowed, wanted, rng)
        core |= grown if name in GLIOMA else False
        out[grown] = PATHOLOGIES.index(name) + 1
    return out


def random_pathologies(bank: LesionBank, rng: np.random.Generator) -> list[str]:
    """What a training brain suffers from: nothing (15 %), one disease, or two at once (25 %)."""
    if rng.random() < 0.15:
        return []
    diseases = [name for name in bank.available if name not in GLIOMA]
    parts = [name for name in GLIOMA if name in bank.available]
    if parts:
        diseases += ["glioma", "glioma"]
    count = 2 if rng.random() < 0.25 else 1
    chosen: list[str] = []
    for disease in dict.fromkeys(rng.permutation(diseases)[:count].tolist()):
        if disease == "glioma":
            subset = [name for name in parts if rng.random() < 0.7]
            chosen += subset or [parts[rng.integers(len(parts))]]
        else:
            chosen.append(disease)
    return chosen
