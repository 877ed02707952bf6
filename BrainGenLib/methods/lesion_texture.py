"""Lesions that fade at their border and are not even inside, in all images of a case alike.

A renderer that knows classes draws a lesion as one intensity up to its border. In scans the contrast to the tissue
below grows over some millimetres, and differs from place to place, in all contrasts at the same places. One field is
the share of the contrast: it is 1 where a lesion looks as it is rendered, and at half of its voxels less. T1w and T2w
follow it. FLAIR does so up to 1; where a lesion holds most water FLAIR is darker again.

Strokes are old ones: gliosis around a cavity full of fluid. The renderer, which has seen no stroke in a scan, paints
one grey between the two, in FLAIR that of tissue; here they have the levels of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, special

from BrainGenLib import anatomy
from BrainGenLib.lesions import DISPLACING, split_lesions

STROKE = anatomy.lesions()["stroke"].index
# As real lesions have it (benchmarks/lesion_texture.py).
EDGE = {True: 0.58, False: 0.4}
"""Share of the contrast that lacks at the border, of lesions that displace and of scattered ones; the renderer fades
the latter over the width of a voxel by itself."""
FADE = {True: 2.4, False: 2.0}
"""Over how many mm that falls to a third."""
SPREAD = 0.3
"""Standard deviation of the share inside."""
GRAIN = 2.5
"""Smoothness of that (standard deviation of the kernel), mm: correlation falls to a third over 5 mm."""
WATER = ((0.0, 0.5, 0.75, 1.0, 1.25, 1.6, 2.0), (0.0, 0.68, 0.9, 1.0, 0.95, 0.75, 0.6))
"""Shares of the contrast in T1w and T2w, and in FLAIR at the same places."""
GLIOSIS = {"T1w": -0.4, "T1ce": -0.4, "T2w": 0.45, "FLAIR": 0.6}
"""Its contrast to white matter as a share of that between fluid and white matter, that of real multiple sclerosis and
white matter hyperintensity."""
CAVITY = {"T1w": -0.9, "T1ce": -0.9, "T2w": 0.9, "FLAIR": -0.9}
"""The same of a cavity."""
CAVITY_DEPTH = 5.0
"""From which depth a stroke is a cavity, mm; of textbooks."""
RAGGED = 1.5
"""Standard deviation of that depth, mm."""
FLUID_PERCENTILE = 5
"""Of voxels of fluid, which hold tissue, too: those that differ most from white matter are fluid."""
MARGIN = 5
"""Voxels of 1 mm around a lesion within which its texture depends on what is there."""
SHARPNESS = 0.7
"""Of a rendered border (standard deviation of the kernel), mm."""
SMOOTH = 1.0
"""Of the contrast where classes meet, mm."""


@dataclass(frozen=True)
class _Lesion:
    """One connected lesion within its box.

    Attributes:
        box: in the class map.
        marked: bool, where it is.
        classes, below: uint8, of the map, and with the tissue in place of lesions.
        edge: share of the contrast by depth alone.
        grain: factor on it.
        cavity: share of a stroke that is fluid.
    """

    box: tuple[slice, ...]
    marked: np.ndarray
    classes: np.ndarray
    below: np.ndarray
    edge: np.ndarray
    grain: np.ndarray
    cavity: np.ndarray


class LesionTexture:
    """What the lesions of a class map look like beside what a renderer makes of them.

    Args:
        classes: uint8 class map of 1 mm.
        seed: of the field.
    """

    def __init__(self, classes: np.ndarray, seed: int) -> None:
        self._classes = classes
        self._lesions: list[_Lesion] = []
        kinds = anatomy.lesions()
        displacing = [kinds[name].index for name in DISPLACING]
        scattered = sorted({label.index for label in kinds.values()} - set(displacing))
        noise: np.ndarray | None = None
        for pushes, members in ((True, displacing), (False, scattered)):
            numbers, _ = ndimage.label(np.isin(classes, members), np.ones((3, 3, 3)))
            for number, inner in enumerate(ndimage.find_objects(numbers), start=1):
                if noise is None:
                    # Of the whole map: a lesion looks the same whatever becomes of others.
                    noise = np.random.default_rng(seed).standard_normal(classes.shape, np.float32)
                box = tuple(
                    slice(max(side.start - MARGIN, 0), min(side.stop + MARGIN, n))
                    for side, n in zip(inner, classes.shape, strict=True)
                )
                self._lesions.append(_lesion(classes, box, numbers[box] == number, noise[box], pushes=pushes))

    def on(self, image: np.ndarray, contrast: str) -> np.ndarray:
        """An image of a contrast that was rendered of the class map, with texture."""
        if not self._lesions:
            return image
        levels = self._levels(image)
        white = levels[anatomy.classes_of(name="cerebral white matter")]
        white = white[np.isfinite(white)]
        after = image.copy()
        fluid = self._fluid(image, white.mean()) if white.size else np.nan
        for lesion in self._lesions:
            level = levels[lesion.classes]
            old = lesion.marked & (lesion.classes == STROKE)
            if contrast in GLIOSIS and np.isfinite(fluid) and old.any():
                share = GLIOSIS[contrast] + (CAVITY[contrast] - GLIOSIS[contrast]) * lesion.cavity
                infarct = white.mean() + abs(fluid - white.mean()) * share
                after[lesion.box] += ndimage.gaussian_filter(np.where(old, infarct - level, 0), SHARPNESS)
                level = np.where(old, infarct, level)
            # Tissue that is nowhere around is taken for what is.
            full = np.where(lesion.marked, level - levels[lesion.below], 0)
            inner = np.where(lesion.marked, level - white.mean(), 0) if white.size else full
            edge, share = lesion.edge, lesion.edge * lesion.grain
            if contrast == "FLAIR":
                edge, share = (np.where(old, part, np.interp(part, *WATER)) for part in (edge, share))
            weight = np.maximum(ndimage.gaussian_filter(lesion.marked.astype(np.float32), SMOOTH), 0.1)
            # Grain is that of the contrast to white matter: over grey matter a lesion is no more even.
            lacking = sum(
                np.where(lesion.marked, less, 0) * ndimage.gaussian_filter(np.nan_to_num(part), SMOOTH) / weight
                for less, part in ((1 - edge, full), (edge - share, inner))
            )
            # As sharp as the image: its lesions reach a little beyond their border.
            after[lesion.box] -= ndimage.gaussian_filter(lacking, SHARPNESS)
        return np.where(image > 0, np.clip(after, 0, 1), image).astype(np.float32)

    def _fluid(self, image: np.ndarray, white: float) -> float:
        """Level of fluid; NaN where the image shows none."""
        values = image[np.isin(self._classes, anatomy.classes_of(tissue="csf")) & (image > 0)]
        if not values.size:
            return np.nan
        dark = np.median(values) < white
        return float(np.percentile(values, FLUID_PERCENTILE if dark else 100 - FLUID_PERCENTILE))

    def _levels(self, image: np.ndarray) -> np.ndarray:
        """Median of every class that a lesion is of, or lies on; NaN where the image shows nothing of it."""
        levels = np.full(len(anatomy.labels()), np.nan, np.float32)
        needed = set(anatomy.classes_of(name="cerebral white matter"))
        for lesion in self._lesions:
            needed |= set(np.unique(lesion.classes[lesion.marked])) | set(np.unique(lesion.below[lesion.marked]))
        for index in needed:
            values = image[self._classes == index]
            values = values[values > 0]
            if values.size:
                levels[index] = np.median(values)
        return levels


def _lesion(
    classes: np.ndarray, box: tuple[slice, ...], marked: np.ndarray, noise: np.ndarray, *, pushes: bool
) -> _Lesion:
    part = classes[box]
    ill = np.isin(part, anatomy.classes_of(kind="lesion"))
    # A border with fluid is sharp: nothing is infiltrated there.
    fluid = np.isin(part, [0, *anatomy.classes_of(tissue="csf")])
    depth = ndimage.distance_transform_edt(ill | fluid)
    edge = 1 - EDGE[pushes] * np.exp(-(depth - 0.5) / FADE[pushes])
    grain = ndimage.gaussian_filter(noise, GRAIN) * (2 * GRAIN * np.pi**0.5) ** 1.5
    stroke = part == STROKE
    cavity = np.where(stroke, special.expit(depth - CAVITY_DEPTH + RAGGED * grain), 0)
    # What is rendered of other lesions is their median.
    edge = np.where(stroke, edge, edge / np.median(edge[marked]))
    below = split_lesions(part)[0]
    return _Lesion(box, marked, part, below, edge, 1 + SPREAD * (1 - cavity) * grain, cavity)
