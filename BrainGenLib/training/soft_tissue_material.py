"""Soft tissue maps of the training scans, beside their labels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from BrainGenLib.lesions import GLIOMA, split_lesions
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import tissues
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.lesions import to_2mm


@dataclass(frozen=True, eq=False)
class Brain:
    """Labels (uint8) and soft tissue (float16) of a case on GRID_2MM; ``sharp`` if its scan had voxels of 1 mm."""

    case: str
    structures: np.ndarray
    tissue: np.ndarray
    sharp: bool


def half(image: np.ndarray) -> np.ndarray:
    """Means of blocks of 2×2×2."""
    r, a, s = image.shape
    return image.reshape(r // 2, 2, a // 2, 2, s // 2, 2).astype(np.float32).mean((1, 3, 5))


def measured_tissue(cache: Cache, case: CachedCase, spacing: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Structures (uint8) and soft tissue (float32) at ``spacing`` mm of a case in template space with a T1w scan.

    None if the scan does not show the tissues apart. Lesions look different in every contrast and are drawn by their
    labels: in the map they are what they grew in.

    Args:
        spacing: 2, or 1 for a case on GRID_1MM.
    """
    labels, image = cache.labels(case), cache.image(case, "T1w")
    if spacing == 2:
        labels = to_2mm(labels)
        image = image.astype(np.float32) if image.shape == GRID_2MM.shape else half(image)
    structures, lesions = split_lesions(labels)
    tissue = tissues.soft_map(structures, np.where(lesions > 0, 0, image), spacing)
    if tissue is None:
        return None
    white = np.isin(structures, tissues.WHITE)
    tissue[lesions > 0] = np.where(white, 1.0, 0.5)[lesions > 0]
    return structures, tissue


def brain_of(cache: Cache, case: CachedCase) -> Brain | None:
    """Of a labelled case in template space with a T1w scan; None if that does not show the tissues apart."""
    found = measured_tissue(cache, case, 2)
    return None if found is None else Brain(case.id, found[0], found[1].astype(np.float16), case.spacing == 1)


def brains(cache: Cache, split: str) -> list[Brain]:
    """All of a split whose labels are whole and whose brains are not displaced by a mass.

    Raises:
        ValueError: there is none.
    """
    cases = cache.select(split=split, space="template", labelled=True, contrast="T1w")
    chosen = [
        case
        for case in cases
        if case.quality.get("structures", 1.0) > 0.95 and not set(case.pathologies) & set(GLIOMA)
    ]
    # Reading and filtering leave Python's lock.
    with ThreadPoolExecutor() as pool:
        usable = [brain for brain in pool.map(lambda case: brain_of(cache, case), chosen) if brain is not None]
    if not usable:
        raise ValueError(f"{cache.folder} holds no labelled {split} case with a T1w scan in template space.")
    return usable
