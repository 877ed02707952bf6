"""Training material of the renderer: patches of real, painted and random-contrast images with their labels."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F
from torch.utils.data import IterableDataset

from BrainGenLib import anatomy, spaces
from BrainGenLib.methods.soft_tissue import TISSUE_CLASSES
from BrainGenLib.training import painted_lesions
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.soft_tissue_material import half, measured_tissue
from BrainGenLib.training.tissues import typical_values

CONTRASTS = ("T1w", "T2w", "FLAIR", "PDw", "T1ce")
ANY = len(CONTRASTS)  # index of 'any contrast': the style code alone decides
CLASSES = len(anatomy.labels())
LESIONS = [label.index for label in anatomy.lesions().values()]

# In these sets every subject has lesions: a case without a mask of them would teach lesions that no label asks for.
ALL_WITH_LESIONS = ("open_ms",)

SHARP = 1.5  # mm

RANDOM_CONTRAST = 0.08
PAINTED = 0.2
WARPED = 0.25
SOFTENED = 0.4
AS_ANY = 0.1
OTHER_SUBJECT = 0.1


@dataclass(frozen=True, eq=False)
class Scan:
    """One image of a case."""

    case: CachedCase
    contrast: str

    @property
    def fine(self) -> bool:
        return self.case.spacing == 1

    @property
    def voxel(self) -> tuple[float, float, float]:
        return self.case.images[self.contrast]


def scans(cache: Cache) -> tuple[list[Scan], list[Scan]]:
    """Training and validation scans of subjects with a T1w scan.

    Of every data set with more than six subjects, every eighth is set aside.
    """
    training: list[Scan] = []
    validation: list[Scan] = []
    cases = [
        case
        for case in cache.select(split="train", space="template", labelled=True)
        if "T1w" in case.images and (case.pathologies or case.dataset not in ALL_WITH_LESIONS)
    ]
    for name in sorted({case.dataset for case in cases}):
        members = sorted((case for case in cases if case.dataset == name and case.images), key=lambda case: case.id)
        for number, case in enumerate(members):
            held_out = len(members) > 6 and number % 8 == 3
            found = [Scan(case, contrast) for contrast in case.images if contrast in CONTRASTS]
            (validation if held_out else training).extend(found)
    return training, validation


def refine(weights: torch.Tensor) -> np.ndarray:
    """Class weights at 2 mm (K, R, A, S) to the winning index at 1 mm, interpolated before the arg-max."""
    best = torch.zeros([2 * side for side in weights.shape[1:]])
    winner = torch.zeros(best.shape, dtype=torch.uint8)
    for index, weight in enumerate(weights):
        # Most classes are small: what is far from them need not be interpolated.
        sides = [weight.amax([other for other in range(3) if other != axis]).nonzero() for axis in range(3)]
        low = [max(int(side[0]) - 1, 0) for side in sides]
        part = weight[tuple(slice(a, int(side[-1]) + 2) for a, side in zip(low, sides, strict=True))]
        part = F.interpolate(part[None, None], scale_factor=2.0, mode="trilinear")[0, 0]
        fine = tuple(slice(2 * a, 2 * a + n) for a, n in zip(low, part.shape, strict=True))
        winner[fine].masked_fill_(part > best[fine], index)
        torch.maximum(best[fine], part, out=best[fine])
    return winner.numpy()


def refine_labels(classes: np.ndarray, *, from_1mm: bool) -> np.ndarray:
    """A 2 mm class map at 1 mm; or a 1 mm one made as smooth as if it had come from 2 mm."""
    present, index = np.unique(classes, return_inverse=True)
    onehot = torch.from_numpy(np.eye(len(present), dtype=np.float32)[index.reshape(classes.shape)])
    onehot = onehot.permute(3, 0, 1, 2)
    if from_1mm:
        onehot = F.avg_pool3d(onehot[None], 2)[0]
    return present[refine(onehot)].astype(np.uint8)


def deformation(side: int, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Where each voxel of a patch takes its value, (3, side, side, side): affine and elastic."""
    centre = (side - 1) / 2
    grid = np.stack(np.meshgrid(*[np.arange(side) - centre] * 3, indexing="ij")).reshape(3, -1)
    angles = np.deg2rad(rng.uniform(-15, 15, 3))
    matrix = np.diag(rng.uniform(0.85, 1.15, 3))
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    coordinates = (matrix @ grid).reshape(3, side, side, side)
    control = rng.normal(0, rng.uniform(0, 1.2) / spacing, (3, 5, 5, 5))
    # Splines are linear and separable: a matrix for every axis is a hundred times faster than zooming the fields.
    spline = ndimage.zoom(np.eye(5), (side / 5, 1), order=3)
    moved = np.einsum("ai,bj,ck,nijk->nabc", spline, spline, spline, control, optimize=True)
    return coordinates + moved + centre


class RendererPatches(IterableDataset):
    """An endless stream of samples.

    Each is a dict: ``classes`` uint8, ``image`` float32 in [0, 1] and ``tissue`` float32, the soft tissue map of the
    subject's T1w scan, cubes of ``side`` mm at 1 mm; ``voxel`` (3,) true voxel size in mm; ``coarse`` whether the
    scan lies on the 2 mm grid; ``exact`` whether its texture is the scanner's own; ``contrast`` index; ``slices``
    (2, 160, 224), two axial slices of the same look for the style.
    """

    def __init__(self, cache: Cache, sources: list[Scan], side: int, seed: int, *, plain: bool = False) -> None:
        self.cache = cache
        self.side = side
        self.seed = seed
        self.plain = plain
        self.by_contrast = {c: [scan for scan in sources if scan.contrast == c] for c in CONTRASTS}
        self.by_contrast = {contrast: found for contrast, found in self.by_contrast.items() if found}
        self.weights = {contrast: self._weights(found) for contrast, found in self.by_contrast.items()}
        self._known_tissue: dict[str, np.ndarray] = {}
        self._known_means: dict[Scan, np.ndarray] = {}
        self._known_points: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.masks = self._lesion_masks()
        self.seen = self._seen_lesions(sources)

    @staticmethod
    def _weights(found: list[Scan]) -> np.ndarray:
        """Scans at 1 mm carry texture, those with such voxels most; rare lesions are seen in few scans."""
        weights = [
            (3.0 if s.fine else 1.0)
            * (2.0 if max(s.voxel) < SHARP else 1.0)
            * (2.0 if set(s.case.pathologies) - {"wmh"} else 1.0)
            for s in found
        ]
        return np.array(weights) / sum(weights)

    def _means(self, scan: Scan) -> np.ndarray:
        if scan not in self._known_means:
            labels, image = self.cache.labels(scan.case), self.cache.image(scan.case, scan.contrast)
            self._known_means[scan] = painted_lesions.tissue_means(labels, image) / 255
        return self._known_means[scan]

    def tissue(self, case: CachedCase) -> np.ndarray:
        """Soft tissue map of a case on its own grid, float32; kept, because making one takes a while."""
        if case.id not in self._known_tissue:
            self._known_tissue[case.id] = tissue_of(self.cache, case)
        return self._known_tissue[case.id].astype(np.float32)

    def load(self) -> None:
        """Read and prepare all scans now: what worker processes are to share has to be there before they start."""

        def prepared(scan: Scan) -> None:
            self._means(scan)
            self._points(scan.case)

        with ThreadPoolExecutor() as pool:
            found = [scan for scans in self.by_contrast.values() for scan in scans]
            masks = [case for cases in self.masks.values() for case in cases]
            list(pool.map(self.tissue, {scan.case.id: scan.case for scan in found}.values()))
            list(pool.map(prepared, found))
            list(pool.map(self._points, masks))

    def _lesion_masks(self) -> dict[str, list[CachedCase]]:
        """Pathology to the training cases that hold a mask of it on the 2 mm template grid."""
        masks: dict[str, list[CachedCase]] = {}
        for case in self.cache.select(split="train", labelled=True):
            if case.space in ("lesion", "template") and case.spacing == 2:
                for pathology in case.pathologies:
                    masks.setdefault(pathology, []).append(case)
        return masks

    def _seen_lesions(self, sources: list[Scan]) -> set[tuple[str, str]]:
        """Pairs of contrast and pathology of which there are real scans."""
        return {(scan.contrast, pathology) for scan in sources for pathology in scan.case.pathologies}

    def __iter__(self) -> Iterator[dict]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield self.sample(rng)

    def sample(self, rng: np.random.Generator) -> dict:
        """One sample."""
        contrast = str(rng.choice(list(self.by_contrast)))
        scan = self.by_contrast[contrast][rng.choice(len(self.weights[contrast]), p=self.weights[contrast])]
        if not self.plain and rng.random() < RANDOM_CONTRAST:
            return self._random_contrast(scan.case, rng)
        spacing, side = scan.case.spacing, self.side // scan.case.spacing
        labels, volume = self.cache.labels(scan.case), self.cache.image(scan.case, contrast)
        lesion, mask_case = self._lesion_to_paint(contrast, rng)
        start = self._start(mask_case or scan.case, spacing, rng)
        warped = not self.plain and rng.random() < WARPED
        soft = self.tissue(scan.case)
        if warped:
            classes, image, tissue = warp(labels, volume, soft, start, side, spacing, rng)
        else:
            box = tuple(slice(s, s + side) for s in start)
            classes, image = labels[box], volume[box].astype(np.float32) / 255
            tissue = soft[box]
        if mask_case is not None:
            box = tuple(slice(s * spacing // 2, (s + side) * spacing // 2) for s in start)
            mask = (self.cache.labels(mask_case)[box] == anatomy.lesions()[lesion].index).astype(np.uint8)
            mask = mask if spacing == 2 else refine_labels(mask, from_1mm=False)
            means = self._means(scan)
            classes, image = painted_lesions.paint(classes, image, mask > 0, lesion, contrast, means, spacing, rng)
        slices = self._style_slices(self._style_scan(scan, rng), start[2], rng)
        if not self.plain and rng.random() < 0.5:
            gamma = float(np.exp(rng.normal(0, 0.12)))
            image, slices = image**gamma, slices**gamma
        named = self.plain or rng.random() > AS_ANY
        return self._finished(
            classes,
            image,
            tissue,
            slices,
            rng,
            spacing=spacing,
            voxel=scan.voxel,
            exact=scan.fine and not warped and mask_case is None,
            contrast=CONTRASTS.index(contrast) if named else ANY,
        )

    def _finished(
        self,
        classes: np.ndarray,
        image: np.ndarray,
        tissue: np.ndarray,
        slices: np.ndarray,
        rng: np.random.Generator,
        *,
        spacing: int,
        voxel: tuple[float, float, float],
        exact: bool,
        contrast: int,
    ) -> dict:
        """Patch on its own grid to a sample on the 1 mm grid."""
        if spacing == 2:
            classes = refine_labels(classes, from_1mm=False)
            tissue = doubled(tissue)
            for axis in range(3):
                image = image.repeat(2, axis)
        elif rng.random() < SOFTENED:
            # Given labels may come from 2 mm: their outlines are smooth, and so is the tissue sampled for them.
            classes = refine_labels(classes, from_1mm=True)
            tissue = doubled(half(tissue))
        if not self.plain and rng.random() < 0.5:
            classes = np.array(anatomy.mirrored_classes(), np.uint8)[classes[::-1]]
            image, tissue = image[::-1], tissue[::-1]
        return {
            "classes": np.ascontiguousarray(classes),
            "image": np.ascontiguousarray(image, np.float32)[None],
            "tissue": np.ascontiguousarray(tissue, np.float32)[None],
            "voxel": np.array(voxel, np.float32),
            "coarse": spacing == 2,
            "exact": exact,
            "contrast": contrast,
            "slices": slices.astype(np.float32),
        }

    def _lesion_to_paint(self, contrast: str, rng: np.random.Generator) -> tuple[str, CachedCase | None]:
        """A pathology that no real scan of this contrast shows, with a mask of it; or none."""
        unseen = [name for name in self.masks if (contrast, name) not in self.seen]
        if self.plain or not unseen or rng.random() > PAINTED:
            return "", None
        name = str(rng.choice(unseen))
        return name, self.masks[name][rng.integers(len(self.masks[name]))]

    def _start(self, case: CachedCase, spacing: int, rng: np.random.Generator) -> tuple[int, ...]:
        """First voxel of a patch, on a grid of ``spacing`` mm, about a lesion or anywhere in the brain."""
        points, lesions = self._points(case)
        chosen = lesions if len(lesions) and (case.space == "lesion" or rng.random() < 0.5) else points
        centre = chosen[rng.integers(len(chosen))] * case.spacing / spacing
        side = self.side // spacing
        shape = (spaces.GRID_1MM if spacing == 1 else spaces.GRID_2MM).shape
        jitter = rng.uniform(-side / 4, side / 4, 3)
        even = 2 // spacing
        start = np.clip(centre - side / 2 + jitter, 0, np.array(shape) - side)
        return tuple(int(s) // even * even for s in start)

    def _points(self, case: CachedCase) -> tuple[np.ndarray, np.ndarray]:
        """Some voxels of the brain and of its lesions, (n, 3); kept, because finding them is slow."""
        if case.id not in self._known_points:
            classes = self.cache.labels(case)
            rng = np.random.default_rng(0)
            points, lesions = (
                found[rng.permutation(len(found))[:2000]].astype(np.int16)
                for found in (np.argwhere(classes > 0), np.argwhere(classes >= min(LESIONS)))
            )
            self._known_points[case.id] = points, lesions
        return self._known_points[case.id]

    def _style_scan(self, scan: Scan, rng: np.random.Generator) -> Scan:
        """The scan itself or another subject's of the same data set and contrast."""
        others = [other for other in self.by_contrast[scan.contrast] if other.case.dataset == scan.case.dataset]
        return scan if self.plain or rng.random() > OTHER_SUBJECT else others[rng.integers(len(others))]

    def _style_slices(self, scan: Scan, start: int, rng: np.random.Generator) -> np.ndarray:
        """Two axial slices, away from the patch, at 1 mm in [0, 1], (2, 160, 224)."""
        volume = self.cache.image(scan.case, scan.contrast)
        pick = style_positions(self.cache.labels(scan.case))
        distance = np.abs(pick - (start + self.side // scan.case.spacing / 2))
        away = pick[distance >= np.median(distance)]
        slices = volume[:, :, rng.choice(away, 2)].transpose(2, 0, 1).astype(np.float32) / 255
        return slices if scan.fine else ndimage.zoom(slices, (1, 2, 2), order=1)

    def _random_contrast(self, case: CachedCase, rng: np.random.Generator) -> dict:
        """A picture whose brightness per class is drawn at random (Billot 2023): its style can only be seen."""
        names = [label.name.replace(label.side, "").strip() for label in anatomy.labels()]
        level = {name: rng.uniform(0.05, 1) for name in sorted(set(names))}
        mean = np.array([level[name] for name in names])
        mean[0] = 0
        noise, spread, smoothness = rng.uniform(0, 0.05), rng.uniform(0, 0.08), rng.uniform(0.3, 0.9)

        tissues = [mean[classes[0]] for classes in TISSUE_CLASSES]
        mixing = np.concatenate(TISSUE_CLASSES)

        def picture(classes: np.ndarray, tissue: np.ndarray) -> np.ndarray:
            # What mixes in a voxel mixes in any contrast.
            mixed = np.where(np.isin(classes, mixing), np.interp(tissue, (0, 0.5, 1), tissues), mean[classes])
            image = ndimage.gaussian_filter(mixed, smoothness)
            patchy = ndimage.gaussian_filter(rng.standard_normal(classes.shape), 1.0)
            image = image + spread * patchy / patchy.std() + noise * rng.standard_normal(classes.shape)
            return np.where(classes > 0, np.clip(image, 0.01, 1), 0)

        labels, spacing = self.cache.labels(case), case.spacing
        start, side = self._start(case, spacing, rng), self.side // spacing
        classes = labels[tuple(slice(s, s + side) for s in start)]
        if spacing == 2:
            classes = refine_labels(classes, from_1mm=False)
        soft = self.tissue(case)
        tissue = soft[tuple(slice(s, s + side) for s in start)]
        if spacing == 2:
            tissue = doubled(tissue)
        positions = rng.choice(style_positions(labels), 2)
        slices = np.stack(
            [
                picture(
                    labels[:, :, p].repeat(spacing, 0).repeat(spacing, 1),
                    doubled(soft[:, :, p]) if spacing == 2 else soft[:, :, p],
                )
                for p in positions
            ]
        )
        return self._finished(
            classes,
            picture(classes, tissue),
            tissue,
            slices,
            rng,
            spacing=1,
            voxel=(1.0, 1.0, 1.0),
            exact=False,
            contrast=ANY,
        )


def tissue_of(cache: Cache, case: CachedCase) -> np.ndarray:
    """Soft tissue map (float16) of a case on its own grid; of its labels alone if the T1w scan shows no tissues."""
    measured = measured_tissue(cache, case, case.spacing)
    if measured is not None:
        return measured[1].astype(np.float16)
    return typical_values().astype(np.float16)[cache.labels(case)]


def doubled(image: np.ndarray) -> np.ndarray:
    """An image of any dimension at half the spacing, linear, as the renderer interpolates."""
    return ndimage.zoom(image, 2, order=1, mode="nearest", grid_mode=True)


def style_positions(classes: np.ndarray) -> np.ndarray:
    """Axial slices that hold at least half as much brain as the fullest one."""
    area = np.count_nonzero(classes, axis=(0, 1))
    return np.flatnonzero(area >= area.max() / 2)


def warp(
    labels: np.ndarray,
    volume: np.ndarray,
    tissue: np.ndarray,
    start: tuple[int, ...],
    side: int,
    spacing: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A patch under a random deformation: classes (nearest), image in [0, 1], tissue (cubic, to keep texture)."""
    coordinates = deformation(side, spacing, rng) + np.array(start).reshape(3, 1, 1, 1)
    low = np.clip(np.floor(coordinates.min((1, 2, 3))).astype(int) - 3, 0, None)
    box = tuple(slice(a, max(int(b) + 4, a + 1)) for a, b in zip(low, coordinates.max((1, 2, 3)), strict=True))
    local = coordinates - low.reshape(3, 1, 1, 1)
    classes = ndimage.map_coordinates(labels[box], local, order=0)
    image = ndimage.map_coordinates(volume[box].astype(np.float32) / 255, local, order=3)
    soft = ndimage.map_coordinates(tissue[box].astype(np.float32), local, order=3)
    soft = np.where(classes > 0, soft, 0).astype(np.float32)
    image = np.where(classes > 0, np.clip(image, 0, 1), 0).astype(np.float32)
    return classes, image, soft
