"""A change that a model made in template space, brought to a scan: in its own grid, with its own detail.

Where nothing changes the scan stays what it is, voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy, lesions, morphometry, spaces
from BrainGenLib.lesion_findings import LEAST_ML
from BrainGenLib.methods import ventricle_warp
from BrainGenLib.reading.scans import above_air, air
from BrainGenLib.reading.volume import Volume

NOTICED = (0.015, 0.05)
"""Changes below the first, as a share of the brightest tissue, are left out, those above the second taken whole."""
CLEARED = 0.25
"""Lesions that still stand out by more than this share of what they did can be seen."""
SURROUNDINGS = 2.0
"""Over how many mm the size of a change is judged (one standard deviation)."""
SHELL = 6
"""How far around a lesion its surroundings are measured, mm."""


@dataclass(frozen=True)
class Aligned:
    """A scan in template space.

    Attributes:
        scan: with axes in the order R, A, S.
        intensities: of it above air, as :func:`~BrainGenLib.reading.scans.above_air` has them.
        template_to_scan: 4×4, mm.
        brain: its mask on GRID_1MM.
        air: its intensity in the scan, which is 0 to a model.
        high: the intensity above air that is 1 to a model.
    """

    scan: Volume
    intensities: np.ndarray
    template_to_scan: np.ndarray
    brain: np.ndarray
    air: float
    high: float

    @classmethod
    def of(cls, scan: Volume, template_to_scan: np.ndarray, classes: np.ndarray) -> Aligned:
        """Measure the intensities as training data are: 1 is the 99.5th percentile of the brain."""
        intensities, brain = above_air(scan.data), morphometry.brain_mask(classes)
        image = spaces.to_grid(intensities, scan.affine, spaces.GRID_1MM, template_to_scan=template_to_scan)
        high = max(float(np.percentile(image[brain], 99.5)), float(np.finfo(np.float32).tiny))
        return cls(scan, intensities, template_to_scan, brain, air(scan.data), high)

    def image(self) -> np.ndarray:
        """The brain on GRID_1MM, float32 in [0, 1], as models know images."""
        image = spaces.to_grid(
            self.intensities, self.scan.affine, spaces.GRID_1MM, template_to_scan=self.template_to_scan
        )
        scaled = np.clip(image / self.high, 0, 1)
        return np.where(self.brain, scaled, 0).astype(np.float32)


@dataclass(frozen=True)
class TemplateChange:
    """What to change, in template space.

    Attributes:
        values: to be added to the image after it was moved, 1 is its brightest tissue; on ``grid``.
        classes: uint8 on GRID_1MM; None if the changed scan is to be segmented.
        lesions: of ``classes`` that are None: class map on GRID_1MM whose lesions are those of the changed scan,
            whatever the segmenter finds; None if that is to be believed.
        warp: where tissue comes from, mm (3, R, A, S) on GRID_1MM, before ``values`` are added; None: nothing moves.
        spread: standard deviation of ``values`` between variants, if there are any.
        measurements: what is to be reported of it.
        reached: how much of what was asked for was reached, by judge.
        asked_ml: by how much lesions were to become more or less, which is to be judged by the labels.
    """

    values: np.ndarray
    grid: spaces.Grid
    classes: np.ndarray | None
    spread: np.ndarray | None
    measurements: dict[str, Any]
    reached: dict[str, float]
    asked_ml: dict[str, float]
    warp: np.ndarray | None = None
    lesions: np.ndarray | None = None


def halved(image: np.ndarray) -> np.ndarray:
    """A volume on GRID_1MM, on GRID_2MM: means over what its voxels cover."""
    r, a, s = spaces.GRID_2MM.shape
    return image.reshape(r, 2, a, 2, s, 2).mean((1, 3, 5), dtype=np.float32)


def doubled(image: np.ndarray) -> np.ndarray:
    """A volume on GRID_2MM, on GRID_1MM."""
    fine, coarse = spaces.GRID_1MM, spaces.GRID_2MM
    return spaces.resample(image, coarse.affine, fine.shape, fine.affine, order=1)


def noticed(change: np.ndarray, spacing: float) -> np.ndarray:
    """A change without its small parts, which are the model's noise: weighted by how large it is round about."""
    size = np.sqrt(ndimage.gaussian_filter(change**2, SURROUNDINGS / spacing))
    weight = np.clip((size - NOTICED[0]) / (NOTICED[1] - NOTICED[0]), 0, 1)
    return (change * weight * weight * (3 - 2 * weight)).astype(np.float32)


def rendered_change(
    image: np.ndarray, drawn: np.ndarray, redrawn: np.ndarray, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """What to add to a scan whose lesions are to be others, from pictures of both label maps (all on GRID_1MM).

    Where a lesion comes, it is the difference of the pictures. Where one goes, the picture without it takes the
    scan's place, at the brightness of its surroundings: what the scan's lesion looks like, no picture knows.

    Args:
        image: the scan in [0, 1].
        drawn, redrawn: pictures of ``before`` and ``after`` in its style.
        before, after: class maps.
    """
    kinds = anatomy.classes_of(kind="lesion")
    had, has = np.isin(before, kinds), np.isin(after, kinds)
    comes, goes = has & (before != after), had & ~has
    plain = (before > 0) & ~ndimage.binary_dilation(had | has, iterations=2)
    # In double precision: for a million voxels polyfit takes float32 to be too coarse for two numbers, and drops one.
    slope, offset = np.polyfit(redrawn[plain].astype(float), image[plain].astype(float), 1)
    fitted = slope * redrawn + offset
    change = np.where(comes, slope * (redrawn - drawn), 0)
    if goes.any():
        shell = plain & ndimage.binary_dilation(goes, iterations=SHELL)
        weight = ndimage.gaussian_filter(shell.astype(np.float32), SHELL / 2)
        error = ndimage.gaussian_filter(np.where(shell, image - fitted, 0), SHELL / 2)
        local = np.where(weight > 1e-3, error / np.maximum(weight, 1e-3), 0)
        wide = ndimage.binary_dilation(goes) & ~has & (before > 0)
        change = np.where(wide, fitted + local - image, change)
    # A border of half a voxel's width, as partial volume makes it.
    return ndimage.gaussian_filter(change, 0.6).astype(np.float32)


def to_scan(change: np.ndarray, grid: spaces.Grid, aligned: Aligned) -> np.ndarray:
    """A change on a grid of template space, on the scan's grid (R, A, S) in the scan's units."""
    r, a, s = aligned.scan.data.shape
    matrix = np.linalg.inv(aligned.template_to_scan)
    there = spaces.resample(change, grid.affine, (r, a, s), aligned.scan.affine, matrix=matrix, order=1)
    return (there * aligned.high).astype(np.float32)


def changed_scan(change: TemplateChange, aligned: Aligned) -> np.ndarray:
    """The scan (R, A, S) with a change, in its units; nothing of it becomes darker than air."""
    still = aligned.scan.data if change.warp is None else warped_scan(change.warp, aligned)
    changed = still + to_scan(change.values, change.grid, aligned)
    # What is darker already stays.
    return np.maximum(changed, np.minimum(still, aligned.air))


def warped_scan(warp: np.ndarray, aligned: Aligned) -> np.ndarray:
    """The scan (R, A, S) with its tissue moved as ``warp`` says (of :class:`TemplateChange`); elsewhere as it was."""
    scan, grid = aligned.scan, spaces.GRID_1MM
    r, a, s = scan.data.shape
    to_template = np.linalg.inv(aligned.template_to_scan)
    there = np.stack(
        [spaces.resample(part, grid.affine, (r, a, s), scan.affine, matrix=to_template, order=1) for part in warp]
    )
    linear = np.linalg.inv(scan.affine[:3, :3]) @ aligned.template_to_scan[:3, :3]
    # Cubic, as linear interpolation would blur.
    return ventricle_warp.moved(scan.data, np.einsum("ij,j...->i...", linear, there), order=3)


def expected_volumes(own: Mapping[str, float], wanted: Mapping[str, float], ageing: Mapping[str, float]) -> dict:
    """Volume conditions of the wanted brain: as asked for, or the scan's own after the years between."""
    years = wanted.get("age", 0.0) - own["age"] if "age" in own and "age" in wanted else 0.0
    return {
        name: wanted.get(name, own[name] * float(np.exp(rate * years)))
        for name, rate in ageing.items()
        if name in own or name in wanted
    }


def lesions_reached(before: np.ndarray, after: np.ndarray, asked_ml: Mapping[str, float]) -> dict[str, float]:
    """How much of the asked changes of lesions two class maps on GRID_1MM show, as a share by pathology; what was to
    change by less than :data:`LEAST_ML` is left out."""
    had, has = lesions.volumes_ml(before), lesions.volumes_ml(after)
    return {
        name: round((has[name] - had[name]) / change, 4)
        for name, change in asked_ml.items()
        if abs(change) >= LEAST_ML
    }


def still_seen(
    image: np.ndarray, changed: np.ndarray, before: np.ndarray, after: np.ndarray, names: Iterable[str]
) -> dict[str, float]:
    """How far lesions that were taken away still stand out of the tissue around them, as a share of how far they did.

    Both are differences of medians. Lesions that stood out by less than a standard deviation of that tissue are left
    out: of them no image says anything.

    Args:
        image, changed: the scan before and after, in [0, 1], on GRID_1MM.
        before, after: class maps on GRID_1MM.
        names: pathologies that were to become fewer.
    """
    ill = np.isin(before, anatomy.classes_of(kind="lesion")) | np.isin(after, anatomy.classes_of(kind="lesion"))
    seen = {}
    for name in names:
        gone = (before == anatomy.lesions()[name].index) & (after != before)
        if gone.sum() * spaces.GRID_1MM.spacing**3 / 1000 < LEAST_ML:
            continue
        near = ndimage.binary_dilation(gone, iterations=SHELL) & ~ndimage.binary_dilation(ill, iterations=2)
        around = near & np.isin(after, np.unique(after[gone]))
        if not around.any():
            continue
        stood, stands = (abs(np.median(one[gone]) - np.median(one[around])) for one in (image, changed))
        if stood > image[around].std():
            seen[name] = round(float(stands / stood), 4)
    return seen


def removal_remarks(
    less: Iterable[str], had: Mapping[str, float], wanted: Mapping[str, float], *, given: bool
) -> list[str]:
    """Sentences on lesions that were to become fewer: what there was, and what stays.

    Args:
        less: pathologies that were to become fewer.
        had: mL of each before.
        wanted: what was asked for; lesions that it does not name stay.
        given: whether a segmentation was given; else the segmenter found them.
    """
    remarks = []
    who = "The segmentation has" if given else "The segmenter found"
    for name in less:
        label = anatomy.lesions()[name].name
        if had[name] < LEAST_ML:
            remarks.append(f"Nothing was to be taken away: {who[0].lower()}{who[1:]} no {label}.")
        elif not given:
            remarks.append(
                f"{who} {had[name]:.2g} mL of {label}; it misses small and faint lesions, and these are still "
                "there. A segmentation of the lesions is surer."
            )
        for other in lesions.SCATTERED:
            if name in lesions.SCATTERED and other != name and other not in wanted and had[other] >= LEAST_ML:
                remarks.append(
                    f"{had[other]:.2g} mL of {anatomy.lesions()[other].name} stay, which look the same; for them ask "
                    f"for {other}."
                )
    return remarks


def similarity(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """How much a scan was changed: structural similarity, mean absolute difference, and the share of its tissue that
    is as it was. Both are intensities above air, (R, A, S).

    The first is of cubes of 7 voxels (Wang et al., IEEE TIP 2004), in the box that holds the tissue.
    """
    import torch
    from monai.metrics import SSIMMetric

    tissue = before > 0
    box = (ndimage.find_objects(tissue.astype(np.uint8)) or [tuple(slice(0, n) for n in before.shape)])[0]
    before, after, tissue = before[box], after[box], tissue[box]
    top = float(np.percentile(before[tissue], 99.5)) if tissue.any() else 1.0
    pair = [torch.from_numpy(np.ascontiguousarray(part, np.float32))[None, None] / top for part in (before, after)]
    metric = SSIMMetric(spatial_dims=3, data_range=1.0, kernel_type="uniform", win_size=7)
    difference = np.abs(after - before)[tissue] / top
    return {
        "ssim": round(float(torch.as_tensor(metric(*pair))), 4),
        "mean_difference": round(float(difference.mean()), 5),
        "unchanged": round(float((difference < NOTICED[0] / 10).mean()), 4),
    }
