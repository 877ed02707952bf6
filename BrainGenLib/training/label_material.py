"""Training brains for the label model: every labelled case in template space, mirrored, deformed, with lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from BrainGenLib.errors import BadInput
from BrainGenLib.lesions import PATHOLOGIES, STRUCTURES, split_lesions
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import label_augmentation as augment
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.lesions import (
    LesionBank,
    random_pathologies,
    to_2mm,
    transplant,
)


class LabelMaterial:
    """Anatomy maps and lesion masks of a split, and brains made of them.

    Attributes:
        cases: (structures, lesions) of every case, uint8 on GRID_2MM.
        bank: lesion masks of the training split.

    Raises:
        BadInput: the cache has no labelled case of the split in template space.
    """

    def __init__(self, cache_folder: Path, split: str = "train") -> None:
        cache = Cache(cache_folder)
        found = cache.select(split=split, space="template", labelled=True)
        if not found:
            raise BadInput(
                f"{cache_folder} holds no labelled {split} case in template space; give some people of the BIDS "
                f"tree the split {split!r} in participants.tsv, and prepare it again."
            )
        # Some teachers left the cerebellum out; of such a case only the lesions are used.
        whole = [case for case in found if case.quality.get("structures", 1.0) > 0.95] or found
        self.cases = [split_lesions(to_2mm(cache.labels(case))) for case in whole]
        self.bank = LesionBank(cache)

    def brain(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Structures and lesions of a random case, mirrored half the time, with random lesions transplanted.

        The lesions that a case came with stay in half of the draws.
        """
        structures, lesions = self.cases[rng.integers(len(self.cases))]
        if rng.random() < 0.5:
            lesions = np.zeros_like(lesions)
        if rng.random() < 0.5:
            structures, lesions = augment.mirror(structures, lesions)
        return structures, transplant(structures, lesions, self.bank, random_pathologies(self.bank, rng), rng)

    def soft_lesions(self, structures: np.ndarray, points: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Soft lesions (1 + L, …; the first is "none") of a fresh transplant into ``structures``, at coordinates."""
        lesions = transplant(
            structures, np.zeros_like(structures), self.bank, random_pathologies(self.bank, rng), rng
        )
        return augment.warp_soft(torch.from_numpy(lesions).to(points.device), 1 + len(PATHOLOGIES), points)

    def log_prior(self, rng: np.random.Generator, brains: int = 200) -> torch.Tensor:
        """Log-probability of structures, "no lesion" and lesions over random brains, (S + 1 + L, 2 mm grid)."""
        anatomy = torch.zeros(STRUCTURES, *GRID_2MM.shape)
        disease = torch.zeros(1 + len(PATHOLOGIES), *GRID_2MM.shape)
        one = torch.ones(1, *GRID_2MM.shape)
        for _ in range(brains):
            structures, lesions = self.brain(rng)
            anatomy.scatter_add_(0, torch.from_numpy(np.ascontiguousarray(structures))[None].long(), one)
            disease.scatter_add_(0, torch.from_numpy(lesions)[None].long(), one)
        # Pseudo-counts: what was never seen at a place is unlikely there, not impossible. Large ones, because a
        # low-rank table should not spend itself on how unlikely the impossible is.
        return torch.cat([((counts + 2) / (brains + 2 * len(counts))).log() for counts in (anatomy, disease)])


def soft_maps(structures: np.ndarray, lesions: np.ndarray, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft anatomy (S, …) and soft lesions (1 + L, …; the first is "none") of a brain at voxel coordinates (3, …)."""
    device = points.device
    return (
        augment.warp_soft(torch.from_numpy(np.ascontiguousarray(structures)).to(device), STRUCTURES, points),
        augment.warp_soft(torch.from_numpy(np.ascontiguousarray(lesions)).to(device), 1 + len(PATHOLOGIES), points),
    )


def deformed(points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Coordinates moved by a random displacement."""
    return points + augment.sample_field(augment.random_displacement(generator).to(points.device), points)
