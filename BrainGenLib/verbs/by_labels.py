"""Counterfactuals by labels: ventricles by moving tissue, lesions drawn by the renderer in the scan's style."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from BrainGenLib import counterfactuals, lesions, spaces
from BrainGenLib.bundles import Bundle
from BrainGenLib.lesion_findings import LEAST_ML
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.methods.ventricle_warp import VentricleWarp, moved
from BrainGenLib.requests import Counterfactual
from BrainGenLib.verbs.lesion_drawing import LesionDrawing, loads_of
from BrainGenLib.verbs.work import Work


def changes(
    work: Work, asked: Sequence[Counterfactual], bundle: Bundle, image: np.ndarray, before: np.ndarray, contrast: str
) -> list[counterfactuals.TemplateChange]:
    """What changes in the label map."""
    had = lesions.volumes_ml(before)
    sized: dict[float | None, _Sized] = {}
    found = []
    for one in asked:
        size = one.wanted.get("ventricles")
        if size not in sized:
            sized[size] = _Sized(work, bundle, image, before, contrast, size)
        brain = sized[size]
        loads = loads_of(one)
        values, after = brain.lesions.changed(loads)
        found.append(
            counterfactuals.TemplateChange(
                values,
                spaces.GRID_1MM,
                after,
                None,
                {"wanted": one.wanted},
                {} if size is None else _share(before, after, size),
                {name: wanted - had[name] for name, wanted in brain.lesions.millilitres(loads).items()},
                brain.warp,
            )
        )
    work.show(contrast, counterfactuals.halved(brain.image + values), "counterfactual")
    return found


class _Sized:
    """A brain with ventricles of a size, to draw its lesions in."""

    def __init__(
        self, work: Work, bundle: Bundle, image: np.ndarray, before: np.ndarray, contrast: str, size: float | None
    ) -> None:
        self.warp = None if size is None else VentricleWarp(before).to(size)
        self.image, classes = image, before
        if self.warp is not None:
            self.image, classes = moved(image, self.warp, order=1), moved(before, self.warp, order=0)
        self.lesions = LesionDrawing(work, bundle, self.image, classes, contrast)


def _share(before: np.ndarray, after: np.ndarray, wanted: float) -> dict[str, float]:
    """How much of the asked change of the ventricles there is; nothing where none to speak of was asked for."""
    had, has = (volume_conditions(classes, spaces.GRID_1MM.spacing)["ventricles"] for classes in (before, after))
    if abs(wanted - had) < LEAST_ML:
        return {}
    return {"ventricles": round((has - had) / (wanted - had), 4)}
