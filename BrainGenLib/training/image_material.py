"""Training images at 2 mm with what is known of them: real scans, and broad ones painted from label maps.

A painted image is a random draw in the manner of a named contrast over a real anatomy with transplanted lesions: all
contrasts, all pathologies, all loads, none of them quite real. It is what a model knows before it sees a few scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput
from BrainGenLib.lesions import PATHOLOGIES, STRUCTURES, VOXEL_ML, split_lesions
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.participants import SEXES
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import label_augmentation as augment
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.label_material import deformed
from BrainGenLib.training.lesions import LesionBank, random_pathologies, to_2mm, transplant
from BrainGenLib.training.sources import CONTRASTS
from BrainGenLib.training.synthesis import Draw, intensities

CPU = torch.device("cpu")
WHOLE = 0.95
"""Share of the table's structures that a label map must have for volumes to be measured on it."""


@dataclass(frozen=True)
class Picture:
    """An image with what is known of it.

    Attributes:
        image: uint8 on GRID_2MM.
        contrast: one of :data:`BrainGenLib.training.sources.CONTRASTS`.
        conditions: name to value; pathologies in mL. What is not known is not there.
        painted: not a scan.
        classes: uint8 class map on GRID_2MM, or None.
        case: whose brain it is.
        dataset: that it comes from.
    """

    image: np.ndarray
    contrast: str
    conditions: dict[str, float]
    painted: bool
    classes: np.ndarray | None
    case: str
    dataset: str


@dataclass
class _Brain:
    case: str
    dataset: str
    structures: np.ndarray
    lesions: np.ndarray
    person: dict[str, float] = field(default_factory=dict)


class ImageMaterial:
    """Scans of a split, and brains to paint.

    Attributes:
        scans: every scan in template space.
        bank: lesion masks of the training split.

    Raises:
        BadInput: the cache has no scan of the split in template space.
    """

    def __init__(self, cache_folder: Path, split: str = "train") -> None:
        cache = Cache(cache_folder)
        self.scans: list[Picture] = []
        self._brains: list[_Brain] = []
        for case in cache.select(split=split, space="template"):
            classes = to_2mm(cache.labels(case)) if case.has_labels else None
            whole = classes is not None and case.quality.get("structures", 1.0) > WHOLE
            person = _person(case)
            if classes is not None and whole:
                self._brains.append(_Brain(case.id, case.dataset, *split_lesions(classes), person))
            known = person | (measured(classes, whole) if classes is not None else {})
            for contrast in case.images:
                image = halved(cache.image(case, contrast)) if case.spacing == 1 else cache.image(case, contrast)
                self.scans.append(Picture(image, contrast, known, False, classes, case.id, case.dataset))
        if not self.scans:
            raise BadInput(
                f"{cache_folder} holds no {split} scan in template space; give some people of the BIDS tree the "
                f"split {split!r} in participants.tsv, and prepare it again."
            )
        self.bank = LesionBank(cache)

    def painted(self, seed: int, device: torch.device) -> Picture:
        """A painted image of a random brain, mirrored, deformed, with random lesions."""
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        brain = self._brains[rng.integers(len(self._brains))]
        structures, lesions = brain.structures, brain.lesions
        if rng.random() < 0.5:
            lesions = np.zeros_like(lesions)
        if rng.random() < 0.5:
            structures, lesions = augment.mirror(structures, lesions)
        lesions = transplant(structures, lesions, self.bank, random_pathologies(self.bank, rng), rng)
        classes = np.where(lesions > 0, lesions + STRUCTURES - 1, structures).astype(np.uint8)
        points = deformed(augment.identity().to(device), generator)
        warped = warp(torch.from_numpy(classes).to(device), points)
        contrast = CONTRASTS[rng.integers(len(CONTRASTS))]
        draw = Draw(seed, device)
        means, sds = (torch.from_numpy(values).to(device)[warped.long()] for values in intensities(draw, contrast))
        # Partial volume of a border: half a voxel of blur, before the texture that has none.
        mean = F.avg_pool3d(F.pad(means[None, None], (1,) * 6, mode="replicate"), 2, stride=1)[0, 0]
        mean = F.avg_pool3d(mean[None, None], 2, stride=1)[0, 0]
        # The shading and the noise of a scanner. Not its thick slices: at 2 mm little would be left of the brain.
        shading = torch.exp(draw.uniform(0, 0.15) * draw.smooth(mean.shape, (3, 3, 3))[0])
        texture = (sds + draw.uniform(0, 0.03)) * draw.normal(*mean.shape)
        image = ((mean + texture) * shading).clamp_min(0) * (warped > 0)
        found = warped.cpu().numpy()
        known = brain.person | measured(found, True)
        return Picture(normalised(image), contrast, known, True, found, brain.case, brain.dataset)


def _person(case: CachedCase) -> dict[str, float]:
    known = {} if case.age is None else {"age": float(case.age)}
    return known | ({"sex": SEXES[case.sex]} if case.sex in SEXES else {})


def measured(classes: np.ndarray, whole: bool) -> dict[str, float]:
    """Loads in mL, and volumes of ventricles and brain if the map is that of a whole brain, from a class map."""
    volumes = np.bincount(classes.ravel(), minlength=len(anatomy.labels())) * VOXEL_ML
    found = {name: float(volumes[STRUCTURES + i]) for i, name in enumerate(PATHOLOGIES)}
    if whole:
        found |= volume_conditions(classes, GRID_2MM.spacing)
    return found


def halved(image: np.ndarray) -> np.ndarray:
    """A uint8 image on GRID_1MM, on GRID_2MM."""
    return F.avg_pool3d(torch.from_numpy(image)[None, None].float(), 2)[0, 0].round().to(torch.uint8).numpy()


def normalised(image: torch.Tensor) -> np.ndarray:
    """As the cache keeps images: uint8, 255 at the 99.5th percentile of the brain."""
    inside = image[image > 0]
    top = torch.quantile(inside[:: max(len(inside) // 100_000, 1)], 0.995).clamp_min(1e-6)
    return (image / top * 255).clamp(0, 255).round().to(torch.uint8).cpu().numpy()


def warp(classes: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """A class map at voxel coordinates (3, …), the nearest voxel's; beyond its faces it continues."""
    last = [n - 1 for n in classes.shape]
    i, j, k = (axis.round().long().clamp(0, n) for axis, n in zip(points, last, strict=True))
    return classes[i, j, k]


def augmented(
    picture: Picture, rng: np.random.Generator, generator: torch.Generator, device: torch.device = CPU
) -> Picture:
    """A scan mirrored half of the time, slightly deformed and changed in gamma; its volumes are measured anew.

    Args:
        generator: on the CPU.
        device: where to compute.
    """
    image, classes = torch.from_numpy(picture.image).to(device).float(), picture.classes
    if rng.random() < 0.5:
        image = image.flip(0)
        classes = None if classes is None else np.array(anatomy.mirrored_classes(), np.uint8)[classes[::-1]]
    points = augment.identity().to(device)
    displacement = augment.random_displacement(generator, rotation=3, scaling=0.04, coarse=1.5, fine=0.8)
    points = points + augment.sample_field(displacement.to(device), points)
    image = augment.sample_field(image[None], points)[0]
    image = 255 * (image / 255).clamp(0, 1) ** float(np.exp(rng.normal(0, 0.06)))
    known = dict(picture.conditions)
    if classes is not None:
        classes = warp(torch.from_numpy(np.ascontiguousarray(classes)).to(device), points).cpu().numpy()
        known |= measured(classes, "brain" in known)
    return replace(picture, image=image.round().to(torch.uint8).cpu().numpy(), conditions=known, classes=classes)


def loads(conditions: dict[str, float], maximum: dict[str, float]) -> dict[str, float]:
    """Conditions with pathologies as loads instead of mL."""
    return {
        name: value / maximum.get(name, 1.0) if name in PATHOLOGIES else value for name, value in conditions.items()
    }


def tensor_of(pictures: Sequence[Picture]) -> torch.Tensor:
    """Images (N, 1, R, A, S) in [0, 1]."""
    return torch.from_numpy(np.stack([picture.image for picture in pictures]))[:, None].float() / 255
