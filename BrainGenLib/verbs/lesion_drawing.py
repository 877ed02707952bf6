"""Lesions of a scan made others by labels, and drawn by the renderer in the scan's style."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch

from BrainGenLib import counterfactuals, lesions
from BrainGenLib.bundles import Bundle
from BrainGenLib.lesions import PATHOLOGIES
from BrainGenLib.methods import brainspade, brainspade3d, label_edit
from BrainGenLib.methods.lesion_texture import LesionTexture
from BrainGenLib.requests import Counterfactual
from BrainGenLib.verbs.drawing import tissue_of
from BrainGenLib.verbs.work import Work


def loads_of(request: Counterfactual) -> dict[str, float]:
    """The lesions that are wanted."""
    return {name: load for name, load in request.wanted.items() if name in PATHOLOGIES}


class LesionDrawing:
    """A brain whose lesions may be others.

    Args:
        bundle: of label model and renderer.
        image, classes: of the brain, on GRID_1MM; 1 is its brightest tissue.
    """

    def __init__(self, work: Work, bundle: Bundle, image: np.ndarray, classes: np.ndarray, contrast: str) -> None:
        self._work, self._image, self._classes, self._contrast = work, image, classes, contrast
        self._renderer = work.open(brainspade.Renderer, bundle)
        self._labels = work.open(brainspade3d.LabelModel, bundle)
        self._changes: dict[tuple[tuple[str, float], ...], tuple[np.ndarray, np.ndarray]] = {}

    def millilitres(self, loads: Mapping[str, float]) -> dict[str, float]:
        """Volumes that loads stand for."""
        return {name: load * self._labels.millilitres[name] for name, load in loads.items()}

    def changed(self, loads: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """What to add to the image for other loads, and the class map then."""
        key = tuple(sorted(loads.items()))
        if key not in self._changes:
            self._changes[key] = self._change(loads)
        return self._changes[key]

    def _change(self, loads: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        report = self._work.stage("counterfactual")

        def progress(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
            report.step("places", index, 2 * brainspade3d.STEPS)

        wanted, seed = self.millilitres(loads), self._work.request.seed
        after = label_edit.with_loads(self._classes, wanted, self._labels, seed, progress)
        if np.array_equal(after, self._classes):
            return np.zeros_like(self._image), after
        pictures = self._drawn, self._picture(after)
        return counterfactuals.rendered_change(self._image, *pictures, self._classes, after), after

    @cached_property
    def _look(self) -> tuple[np.ndarray, np.ndarray]:
        style = brainspade.encode_style(self._renderer, self._image)
        return style, tissue_of(self._work, self._renderer, lesions.split_lesions(self._classes)[0])

    @cached_property
    def _drawn(self) -> np.ndarray:
        """The brain as it is."""
        return self._picture(self._classes)

    def _picture(self, classes: np.ndarray) -> np.ndarray:
        style, tissue = self._look
        report, seed = self._work.stage("rendering"), self._work.request.seed
        image = brainspade.render(
            self._renderer, classes, tissue, self._contrast, style=style, seed=seed, report=report
        )
        return LesionTexture(classes, seed).on(image, self._contrast)
