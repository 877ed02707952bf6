"""Counterfactuals by labels: ventricles by moving tissue, lesions drawn by the renderer in the scan's style."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from BrainGenLib import counterfactuals, lesions, spaces
from BrainGenLib.bundles import Bundle
from BrainGenLib.lesions import PATHOLOGIES
from BrainGenLib.methods import brainspade, brainspade3d, label_edit
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.methods.ventricle_warp import VentricleWarp, moved
from BrainGenLib.requests import Counterfactual
from BrainGenLib.verbs.drawing import tissue_of
from BrainGenLib.verbs.work import Work


def changes(
    work: Work, asked: Sequence[Counterfactual], bundle: Bundle, image: np.ndarray, before: np.ndarray, contrast: str
) -> list[counterfactuals.TemplateChange]:
    """What the label map shows otherwise."""
    request: Counterfactual = work.request
    renderer, labels = work.open(brainspade.Renderer, bundle), work.open(brainspade3d.LabelModel, bundle)
    report = work.stage("counterfactual")

    def progress(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
        report.step("places", index, 2 * brainspade3d.STEPS)

    drawn: dict[float | None, _Drawing] = {}
    found = []
    for one in asked:
        size = one.wanted.get("ventricles")
        if size not in drawn:
            drawn[size] = _Drawing(work, renderer, image, before, contrast, size)
        drawing = drawn[size]
        wanted = {name: load * labels.millilitres[name] for name, load in one.wanted.items() if name in PATHOLOGIES}
        values, after = np.zeros_like(image), drawing.classes
        if wanted:
            after = label_edit.with_loads(drawing.classes, wanted, labels, request.seed, progress)
            values = counterfactuals.rendered_change(
                drawing.image, drawing.drawn, drawing.of(after), drawing.classes, after
            )
        had = lesions.volumes_ml(before)
        found.append(
            counterfactuals.TemplateChange(
                values,
                spaces.GRID_1MM,
                after,
                None,
                {"wanted": one.wanted},
                {} if size is None else {"ventricles": _share(before, after, size)},
                {name: millilitres - had[name] for name, millilitres in wanted.items()},
                drawing.warp,
            )
        )
    work.show(contrast, counterfactuals.halved(drawing.image + values), "counterfactual")
    return found


class _Drawing:
    """A brain with ventricles of a size, to draw its lesions in."""

    def __init__(
        self,
        work: Work,
        renderer: brainspade.Renderer,
        image: np.ndarray,
        before: np.ndarray,
        contrast: str,
        size: float | None,
    ) -> None:
        self._work, self._renderer, self._contrast = work, renderer, contrast
        self.warp = None if size is None else VentricleWarp(before).to(size)
        self.classes, self.image = before, image
        if self.warp is not None:
            self.classes = moved(before, self.warp, order=0)
            self.image = moved(image, self.warp, order=1)

    @cached_property
    def _look(self) -> tuple[np.ndarray, np.ndarray]:
        style = brainspade.encode_style(self._renderer, self.image)
        return style, tissue_of(self._work, self._renderer, lesions.split_lesions(self.classes)[0])

    @cached_property
    def drawn(self) -> np.ndarray:
        """The brain as it is."""
        return self.of(self.classes)

    def of(self, classes: np.ndarray) -> np.ndarray:
        """The brain with other lesions."""
        style, tissue = self._look
        report, seed = self._work.stage("rendering"), self._work.request.seed
        return brainspade.render(
            self._renderer, classes, tissue, self._contrast, style=style, seed=seed, report=report
        )


def _share(before: np.ndarray, after: np.ndarray, wanted: float) -> float:
    """How much of the asked change of the ventricles there is."""
    had, has = (volume_conditions(classes, spaces.GRID_1MM.spacing)["ventricles"] for classes in (before, after))
    return round((has - had) / (wanted - had), 4) if abs(wanted - had) > counterfactuals.LEAST_ML else 1.0
