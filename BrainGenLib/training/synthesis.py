"""Images of random contrast from label maps: the generator of SynthSeg (Billot et al., MedIA 2023) on torch.

A label map is deformed (:func:`draw_labels`), every class is given an intensity (:func:`paint`), and the result is
blurred, thinned to slices, shaded and made noisy as scanners do (:func:`acquire`). Half of the contrasts follow the
order of intensities of a real sequence (:data:`CONTRASTS`), the others are anything: a network that has seen both
reads every contrast, and reads the common ones well with few training steps.

Label maps are uint8 class indices of :mod:`BrainGenLib.anatomy`; classes from 64 on are extra-cerebral tissue.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from BrainGenLib import anatomy

EXTRA_CEREBRAL = 64

# Mean intensity by structure, else by tissue, on the scale of the brightest brain tissue = 0.9; after the priors of
# SynthSR and textbook order where those have none. Jitter of ±0.05 is added to every draw.
CONTRASTS: dict[str, dict[str, float]] = {
    "T1w": {
        "wm": 0.85,
        "gm": 0.52,
        "deep_gm": 0.62,
        "thalamus": 0.68,
        "pallidum": 0.74,
        "ventral diencephalon": 0.74,
        "brainstem": 0.76,
        "csf": 0.18,
        "white matter hyperintensity": 0.62,
        "multiple sclerosis lesion": 0.55,
        "tumour core": 0.40,
        "oedema": 0.60,
        "enhancing tumour": 0.60,
        "stroke lesion": 0.35,
    },
    "T1ce": {
        "wm": 0.75,
        "gm": 0.50,
        "deep_gm": 0.58,
        "thalamus": 0.62,
        "pallidum": 0.66,
        "ventral diencephalon": 0.66,
        "brainstem": 0.68,
        "csf": 0.18,
        "white matter hyperintensity": 0.55,
        "multiple sclerosis lesion": 0.50,
        "tumour core": 0.35,
        "oedema": 0.52,
        "enhancing tumour": 0.95,
        "stroke lesion": 0.35,
    },
    "T2w": {
        "wm": 0.32,
        "gm": 0.45,
        "deep_gm": 0.38,
        "thalamus": 0.36,
        "pallidum": 0.26,
        "ventral diencephalon": 0.33,
        "brainstem": 0.34,
        "csf": 0.90,
        "white matter hyperintensity": 0.60,
        "multiple sclerosis lesion": 0.65,
        "tumour core": 0.65,
        "oedema": 0.68,
        "enhancing tumour": 0.58,
        "stroke lesion": 0.75,
    },
    "FLAIR": {
        "wm": 0.45,
        "gm": 0.58,
        "deep_gm": 0.52,
        "thalamus": 0.50,
        "pallidum": 0.43,
        "ventral diencephalon": 0.48,
        "brainstem": 0.50,
        "csf": 0.14,
        "white matter hyperintensity": 0.88,
        "multiple sclerosis lesion": 0.85,
        "tumour core": 0.60,
        "oedema": 0.88,
        "enhancing tumour": 0.75,
        "stroke lesion": 0.85,
    },
    "PDw": {
        "wm": 0.55,
        "gm": 0.72,
        "deep_gm": 0.66,
        "thalamus": 0.66,
        "pallidum": 0.55,
        "ventral diencephalon": 0.60,
        "brainstem": 0.60,
        "csf": 0.72,
        "white matter hyperintensity": 0.82,
        "multiple sclerosis lesion": 0.84,
        "tumour core": 0.80,
        "oedema": 0.85,
        "enhancing tumour": 0.78,
        "stroke lesion": 0.85,
    },
}


class Draw:
    """Source of randomness: scalars from numpy, fields from torch on the device where the volumes are."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.scalars = np.random.default_rng(seed)
        self.device = torch.device(device)
        self._fields = torch.Generator(self.device).manual_seed(seed)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.scalars.random() < probability)

    def uniform(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``."""
        return float(self.scalars.uniform(low, high))

    def normal(self, *shape: int) -> torch.Tensor:
        """White noise of that shape."""
        return torch.randn(shape, generator=self._fields, device=self.device)

    def smooth(self, shape: Sequence[int], knots: Sequence[int], channels: int = 1) -> torch.Tensor:
        """A field (channels, *shape) that varies between ``knots`` random values along each axis, about unit sd."""
        field = F.interpolate(self.normal(1, channels, *knots), tuple(shape), mode="trilinear", align_corners=True)
        return field[0]


def _lookup(volume: torch.Tensor, coordinates: torch.Tensor, mode: str, padding: str = "zeros") -> torch.Tensor:
    """Volume (C, R, A, S) at voxel coordinates (3, r, a, s)."""
    size = torch.tensor(volume.shape[1:], device=volume.device).view(3, 1, 1, 1)
    normalised = (2 * coordinates / (size - 1) - 1).flip(0).permute(1, 2, 3, 0)[None]
    return F.grid_sample(volume[None], normalised, mode=mode, padding_mode=padding, align_corners=True)[0]


def _random_affine(draw: Draw) -> torch.Tensor:
    # What brains differ by after an affine registration, and how far that is off; rarely it is far off.
    reach = 2.5 if draw.chance(0.15) else 1.0
    matrix = np.diag(1 + reach * draw.scalars.normal(0, 0.02) + draw.scalars.normal(0, 0.03, 3))
    for axis, angle in enumerate(np.deg2rad(draw.scalars.normal(0, 3 * reach, 3))):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    matrix = matrix @ (np.eye(3) + draw.scalars.normal(0, 0.02, (3, 3)) * (1 - np.eye(3)))
    return torch.tensor(matrix, dtype=torch.float32, device=draw.device)


def random_coordinates(
    shape: Sequence[int], centre: Sequence[float], draw: Draw, *, warp: float = 3.5
) -> torch.Tensor:
    """Source voxel coordinates (3, *shape) of a crop about ``centre`` under a random affine and diffeomorphism.

    The diffeomorphism integrates a stationary velocity field (Arsigny et al., MICCAI 2006) with an sd of at most
    ``warp`` voxels, on a lattice four times coarser than the crop.
    """
    lattice = [max(n // 4, 2) for n in shape]
    index = torch.stack(torch.meshgrid(*[torch.arange(m, device=draw.device) for m in lattice], indexing="ij"))
    ratio = [(n - 1) / (m - 1) for n, m in zip(shape, lattice, strict=True)]
    step = torch.tensor(ratio, device=draw.device).view(3, 1, 1, 1)
    middle = torch.tensor([(n - 1) / 2 for n in shape], device=draw.device).view(3, 1, 1, 1)
    points = index * step - middle
    knots = [max(n // int(draw.uniform(14, 36)), 2) + 1 for n in shape]
    velocity = draw.smooth(lattice, knots, 3) * draw.uniform(0, warp)
    # Trilinear knots have kinks; a small average smooths them.
    velocity = F.avg_pool3d(velocity[None], 3, 1, 1, count_include_pad=False)[0] / 2**4
    for _ in range(4):
        velocity = velocity + _lookup(velocity, index + velocity / step, "bilinear", "border")
    source = torch.einsum("ij,jabc->iabc", _random_affine(draw), points + velocity)
    shift = torch.tensor(list(centre), device=draw.device) + torch.tensor(
        draw.scalars.normal(0, 2, 3), device=draw.device
    )
    source = source + shift.float().view(3, 1, 1, 1)
    return F.interpolate(source[None], tuple(shape), mode="trilinear", align_corners=True)[0]


@cache
def _mirror_table() -> torch.Tensor:
    table = torch.arange(256, dtype=torch.uint8)
    table[: len(anatomy.labels())] = torch.tensor(anatomy.mirrored_classes(), dtype=torch.uint8)
    return table


def draw_labels(
    labels: torch.Tensor,
    shape: Sequence[int],
    centre: Sequence[float],
    draw: Draw,
    *,
    lesion: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """A deformed crop of a label map, perhaps of its mirror image.

    Args:
        labels: (R, A, S) uint8 class map at 1 mm, its middle plane that of the brain.
        shape: of the crop, in voxels.
        centre: of the crop, in voxels of ``labels``.
        lesion: class map of a lesion, and the scale (3,) and shift (3,) that take voxels of ``labels`` to voxels of
            it; it replaces the tissues that its pathology can replace.

    Returns:
        Class map, uint8 of that shape.
    """
    mirror = draw.chance(0.5)
    coordinates = random_coordinates(shape, centre, draw)
    if mirror:
        coordinates[0] = len(labels) - 1 - coordinates[0]
    crop = _lookup(labels[None].float(), coordinates, "nearest")[0].to(torch.uint8)
    if lesion is not None:
        mask, scale, shift = lesion
        inside = coordinates * scale.view(3, 1, 1, 1) + shift.view(3, 1, 1, 1)
        planted = _lookup(mask[None].float(), inside, "nearest")[0].to(torch.uint8)
        white_matter_only = torch.isin(planted, torch.tensor(_white_matter_lesions(), device=crop.device))
        host = torch.isin(crop, torch.tensor(_hosts(("wm", "deep_gm")), device=crop.device))
        host |= ~white_matter_only & torch.isin(
            crop, torch.tensor(_hosts(("wm", "gm", "deep_gm", "brainstem", "lesion")), device=crop.device)
        )
        crop = torch.where((planted > 0) & host, planted, crop)
    return _mirror_table().to(crop.device)[crop.long()] if mirror else crop


def _hosts(tissues: Sequence[str]) -> list[int]:
    return [index for tissue in tissues for index in anatomy.classes_of(tissue=tissue)]


def _white_matter_lesions() -> list[int]:
    lesions = anatomy.lesions()
    return [lesions["wmh"].index, lesions["ms"].index]


@cache
def _groups() -> dict[str, list[int]]:
    """Classes that share an intensity: both sides of a structure, all CSF inside the ventricles."""
    groups: dict[str, list[int]] = {}
    for label in anatomy.labels()[1:]:
        name = label.name.removeprefix(f"{label.side} ") if label.side else label.name
        groups.setdefault("lateral ventricle" if "lateral ventricle" in name else name, []).append(label.index)
    return groups


def intensities(draw: Draw, contrast: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of the intensity of every class value (two arrays of 256), background 0.

    Args:
        contrast: a name of :data:`CONTRASTS`; None for means without any order.
    """
    rng = draw.scalars
    means, sds = rng.uniform(0, 1, 256), rng.uniform(0.01, 0.10, 256)
    labels = anatomy.labels()
    prior = CONTRASTS.get(contrast or "")
    # Real sequences differ by a common change of contrast (angle, TE) more than tissue by tissue.
    flatten = draw.uniform(0.7, 1.15)
    csf = draw.uniform(0, 1)
    for name, classes in _groups().items():
        tissue = labels[classes[0]].tissue
        if prior is not None:
            base = prior.get(name, prior.get(tissue, 0.5))
            mean = (base if tissue == "csf" else 0.5 + flatten * (base - 0.5)) + rng.normal(0, 0.035)
            sd = rng.uniform(0.01, 0.06)
        else:
            mean, sd = rng.uniform(0, 1), rng.uniform(0.01, 0.12)
            if tissue == "csf" and draw.chance(0.7):
                mean = csf + rng.normal(0, 0.04)
        means[classes], sds[classes] = np.clip(mean, 0, 1), sd
    if prior is None:
        white = means[_groups()["cerebral white matter"][0]]
        for lesion in anatomy.lesions().values():
            # What cannot be seen must not be asked for.
            if abs(means[lesion.index] - white) < 0.2:
                means[lesion.index] = white + (0.2 if white < 0.5 else -0.2) * rng.uniform(1, 2)
    means[0] = sds[0] = 0
    return means.astype(np.float32), sds.astype(np.float32)


def paint(labels: torch.Tensor, draw: Draw, contrast: str | None = None) -> torch.Tensor:
    """Random intensities for a class map (uint8), float32 about [0, 1] of the same shape, background 0."""
    means, sds = (torch.from_numpy(a).to(labels.device) for a in intensities(draw, contrast))
    index = labels.long()
    image = means[index] + sds[index] * draw.normal(*labels.shape)
    # Fat, muscle and bone are far from even: a smooth field stands for what their few labels hide.
    outside = labels >= EXTRA_CEREBRAL
    if outside.any():
        knots = [max(n // 16, 2) for n in labels.shape]
        image = torch.where(outside, image * (1 + 0.4 * draw.smooth(labels.shape, knots)[0]), image)
    return image.clamp_(min=0)


def _blur(image: torch.Tensor, sds: Sequence[float]) -> torch.Tensor:
    """Gaussian of these sds (voxels) along each axis of an image (1, 1, R, A, S)."""
    for axis, sd in enumerate(sds):
        if sd < 0.15:
            continue
        radius = int(np.ceil(2.5 * sd))
        x = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (x / sd) ** 2)
        kernel = (kernel / kernel.sum()).view([1, 1] + [-1 if a == axis else 1 for a in range(3)])
        image = F.conv3d(image, kernel, padding=[radius if a == axis else 0 for a in range(3)])
    return image


def acquire(image: torch.Tensor, draw: Draw) -> torch.Tensor:
    """What a scanner does to a painted volume (R, A, S): slices, blur, shading, noise, gamma; at least 0."""
    shape = image.shape
    spacing = np.full(3, draw.uniform(1, 2) if draw.chance(0.6) else 1.0)
    if draw.chance(0.4):
        spacing[draw.scalars.integers(3)] = draw.uniform(2, 6)
    sds = [np.hypot(draw.uniform(0.3, 0.7), 0.4 * (s if s > 1.05 else 0)) for s in spacing]
    image = _blur(image[None, None], sds)
    coarse = [max(round(n / s), 2) for n, s in zip(shape, spacing, strict=True)]
    if coarse != list(shape):
        image = F.interpolate(image, coarse, mode="trilinear", align_corners=True)
    if draw.chance(0.7):
        field = draw.smooth(coarse, [int(draw.scalars.integers(2, 5)) for _ in shape])
        image = image * torch.exp(draw.uniform(0, 0.35) * field)
    noise = draw.uniform(0, 0.06) if draw.chance(0.7) else 0.0
    # Magnitude images: noise never drops below zero.
    image = (image + noise * draw.normal(*coarse)).abs() if noise else image
    image = image.clamp(min=0) ** float(np.exp(draw.scalars.normal(0, 0.2)))
    if coarse != list(shape):
        image = F.interpolate(image, tuple(shape), mode="trilinear", align_corners=True)
    return image[0, 0]


def strip(labels: torch.Tensor, draw: Draw) -> torch.Tensor:
    """A brain mask as skull-stripping tools give it: the CSF rim kept to a random depth, with uneven edges."""
    rim = anatomy.classes_of(name="extraventricular CSF")[0]
    solid = (labels > 0) & (labels < EXTRA_CEREBRAL) & (labels != rim)
    # At half resolution: the edge moves by several voxels anyway, and the wide blur costs an eighth.
    half = F.avg_pool3d(solid[None, None].float(), 2, ceil_mode=True)
    reach = draw.uniform(-1, 5) + draw.smooth(half.shape[2:], [max(n // 6, 2) for n in half.shape[2:]])
    # The blur of a straight edge is an error function of the distance in mm: a threshold is a distance.
    threshold = 0.5 * (1 - torch.erf(reach / (3 * np.sqrt(2))))
    signed = _blur(half, [1.5] * 3) - threshold[None]
    return F.interpolate(signed, tuple(labels.shape), mode="trilinear")[0, 0] > 0


def refine(labels: torch.Tensor) -> torch.Tensor:
    """A 2 mm class map (R, A, S) at 1 mm (2R, 2A, 2S): smooth borders instead of blocks, block-aligned grids."""
    soft_best = torch.zeros([2 * n for n in labels.shape], device=labels.device)
    refined = torch.zeros(soft_best.shape, dtype=torch.uint8, device=labels.device)
    for index in torch.unique(labels).tolist():
        mask = labels == index
        where = torch.nonzero(mask)
        low = (where.amin(0) - 1).clamp(min=0).tolist()
        high = (where.amax(0) + 2).tolist()
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        part = F.interpolate(mask[box][None, None].float(), scale_factor=2, mode="trilinear")[0, 0]
        fine = tuple(slice(2 * s.start, 2 * s.start + n) for s, n in zip(box, part.shape, strict=True))
        better = part > soft_best[fine]
        refined[fine] = torch.where(better, torch.full_like(refined[fine], index), refined[fine])
        soft_best[fine] = torch.maximum(part, soft_best[fine])
    return refined
