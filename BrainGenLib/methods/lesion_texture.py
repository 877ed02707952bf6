"""Lesions that fade at their border and are not even inside, in all images of a case alike.

A renderer that knows classes draws a lesion as one intensity up to its border. In scans of gliomas and strokes the
contrast to the tissue below grows over some millimetres, and differs from place to place, in T2w and FLAIR at the
same places. One field says what share of the contrast is there: it is 1 where a lesion looks as it is rendered.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.lesions import DISPLACING, split_lesions

# As real lesions have it (benchmarks/lesion_texture.py).
EDGE = 0.58
"""Share of the contrast that lacks at the border."""
FADE = 1.8
"""Over how many mm that falls to a third."""
SPREAD = 0.2
"""Standard deviation of the share inside."""
GRAIN = 2.5
"""Smoothness of that (standard deviation of the kernel), mm: correlation falls to a third over 5 mm."""
AROUND = 12
"""Voxels of 1 mm around a lesion whose tissue stands for what is below it."""
SHARPNESS = 0.7
"""Of a rendered border (standard deviation of the kernel), mm."""
SMOOTH = 1.0
"""Of the contrast where classes meet, mm."""


class LesionTexture:
    """What the lesions of a class map look like beside what a renderer makes of them.

    Args:
        classes: uint8 class map of 1 mm.
        seed: of the field.
    """

    def __init__(self, classes: np.ndarray, seed: int) -> None:
        marked = np.isin(classes, [anatomy.lesions()[name].index for name in DISPLACING])
        found = ndimage.find_objects(marked.astype(np.uint8))
        self._box = None
        if not found:
            return
        self._box = tuple(
            slice(max(side.start - AROUND, 0), min(side.stop + AROUND, n))
            for side, n in zip(found[0], classes.shape, strict=True)
        )
        self._classes, self._marked = classes[self._box], marked[self._box]
        self._below = split_lesions(self._classes)[0]
        # A border with fluid is sharp: nothing is infiltrated there.
        fluid = np.isin(self._classes, [0, *anatomy.classes_of(tissue="csf")])
        depth = ndimage.distance_transform_edt(self._marked | fluid)
        # Of the whole map: a lesion looks the same whatever becomes of others.
        noise = np.random.default_rng(seed).standard_normal(classes.shape, np.float32)[self._box]
        grain = ndimage.gaussian_filter(noise, GRAIN) * (2 * GRAIN * np.pi**0.5) ** 1.5
        share = (1 - EDGE * np.exp(-(depth - 0.5) / FADE)) * (1 + SPREAD * grain)
        self._lacking = np.where(self._marked, 1 - share, 0).astype(np.float32)

    def on(self, image: np.ndarray) -> np.ndarray:
        """An image that was rendered of the class map, with texture."""
        if self._box is None:
            return image
        part = image[self._box]
        levels = np.zeros(len(anatomy.labels()), np.float32)
        for index in np.unique(self._classes):
            levels[index] = np.median(part[self._classes == index])
        # Tissue that is nowhere around is taken for what is.
        there = np.isin(self._below, self._classes[~self._marked])
        contrast = np.where(self._marked & there, levels[self._classes] - levels[self._below], np.float32(0))
        weight = ndimage.gaussian_filter(self._marked.astype(np.float32), SMOOTH)
        contrast = ndimage.gaussian_filter(contrast, SMOOTH) / np.maximum(weight, 0.1)
        # As sharp as the image: its lesions reach a little beyond their border.
        less = ndimage.gaussian_filter(self._lacking * contrast, SHARPNESS)
        after = image.copy()
        after[self._box] = np.clip(part - less, 0, 1)
        return after
