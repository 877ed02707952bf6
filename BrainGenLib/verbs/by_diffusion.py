"""Counterfactuals by diffusion: ventricles by moving tissue, as far as it moves, lesions by labels, unless they are
left to the image model, and the rest by that.

An edit of a latent can brighten and darken; that a border lies elsewhere it shows as a blur. What is known to be a
movement is therefore made as one, and the model is asked for what else goes with the wanted conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from BrainGenLib import capabilities, counterfactuals, lesions, requests, spaces
from BrainGenLib.bundles import Bundle
from BrainGenLib.diffusion.drift import Drift
from BrainGenLib.errors import BadInput
from BrainGenLib.lesion_findings import LEAST_ML
from BrainGenLib.methods import latent_drifting
from BrainGenLib.methods.brain_ldm import BrainLDM, volume_conditions
from BrainGenLib.methods.latent_drifting import Change, Edit
from BrainGenLib.methods.ventricle_warp import VentricleWarp, moved
from BrainGenLib.requests import Counterfactual
from BrainGenLib.verbs.lesion_drawing import LesionDrawing, loads_of
from BrainGenLib.verbs.work import Work

LEAST_YEARS = 5.0
"""Fewer are too few for the judge of age to tell."""


def changes(
    work: Work, asked: Sequence[Counterfactual], bundle: Bundle, image: np.ndarray, before: np.ndarray, contrast: str
) -> list[counterfactuals.TemplateChange]:
    """What moves, what the image diffusion changes, and which lesions are drawn."""
    model = work.open(BrainLDM, bundle)
    coarse = counterfactuals.halved(image)
    scan = torch.from_numpy(coarse)[None, None].to(work.device)
    whole = [_change(request, bundle, model, contrast, before) for request in asked]
    movement = _Movement(before)
    rest = [movement.left(change) for change in whole]
    expected = latent_drifting.expected_change(model, scan, contrast, rest[-1])
    still = counterfactuals.noticed(expected, spaces.GRID_2MM.spacing)
    work.show(contrast, _coarsely(coarse + still, movement.warp(whole[-1])), "expected")
    generator = torch.Generator().manual_seed(work.request.seed)
    report = work.stage("counterfactual")
    if any(change.wanted != change.own or change.auto or any(change.drift.channels) for change in whole):
        edits = latent_drifting.edit(model, scan, contrast, rest, generator, report)
    else:
        # Lesions alone are asked for.
        none = np.zeros_like(coarse)
        edits = [Edit(coarse, none, none, (0.0,))] * len(asked)
    drawing = _Lesions(work, image, before, contrast)
    found = []
    for request, change, edited in zip(asked, whole, edits, strict=True):
        warp = movement.warp(change)
        values = counterfactuals.noticed(edited.change, spaces.GRID_2MM.spacing)
        after, drawn, classes = coarse + values, None, None
        if request.lesions == "labels":
            drawn, classes = drawing.changed(loads_of(request))
            classes = _finely(classes, warp, 0)
        if drawn is not None:
            after = after + counterfactuals.halved(drawn)
        after = _coarsely(np.clip(after, 0, 1), warp)
        reached, judged = _verdicts(
            model, scan, torch.from_numpy(after)[None, None].to(work.device), contrast, change
        )
        wanted = {**change.wanted, **loads_of(request)}
        made = counterfactuals.TemplateChange(
            _coarsely(values, warp),
            spaces.GRID_2MM,
            None,
            _coarsely(edited.spread, warp) if change.variants > 1 else None,
            {"own": dict(change.own), "wanted": wanted, "drift": list(edited.delta), **judged},
            reached,
            drawing.more_ml(request, change.own),
            warp,
            classes,
        )
        found.append(made if drawn is None else _with_drawn(made, _finely(drawn, warp, 1)))
    work.show(contrast, after, "counterfactual")
    return found


class _Lesions:
    """Lesions of a brain (image and class map on GRID_1MM), of which labels show another image."""

    def __init__(self, work: Work, image: np.ndarray, classes: np.ndarray, contrast: str) -> None:
        self._work, self._image, self._classes, self._contrast = work, image, classes, contrast

    def changed(self, loads: Mapping[str, float]) -> tuple[np.ndarray | None, np.ndarray]:
        """What to add to the image for other loads, None if there are none, and the class map then."""
        return self._drawing.changed(loads) if loads else (None, self._classes)

    def more_ml(self, request: Counterfactual, own: Mapping[str, float]) -> dict[str, float]:
        """By how much lesions are to become more; where they are left to the diffusion, beside what is known."""
        had, loads = lesions.volumes_ml(self._classes), loads_of(request)
        conditions = {one.name: one for one in capabilities.asked_of(request).conditions}
        if request.lesions == "diffusion":
            had |= {name: own[name] * (conditions[name].millilitres or 0) for name in loads if name in own}
        return {name: load * (conditions[name].millilitres or 0) - had[name] for name, load in loads.items()}

    @cached_property
    def _drawing(self) -> LesionDrawing:
        bundle = self._work.bundle(capabilities.LABELS)
        if self._contrast not in bundle.metadata.contrasts:
            raise BadInput(
                f"Bundle {bundle.name} cannot render lesions in {self._contrast}; leave them to the diffusion or out."
            )
        return LesionDrawing(self._work, bundle, self._image, self._classes, self._contrast)


def _with_drawn(change: counterfactuals.TemplateChange, drawn: np.ndarray) -> counterfactuals.TemplateChange:
    """A change on GRID_2MM and what was drawn on GRID_1MM, as one."""
    spread = None if change.spread is None else counterfactuals.doubled(change.spread)
    return replace(change, values=counterfactuals.doubled(change.values) + drawn, grid=spaces.GRID_1MM, spread=spread)


@torch.no_grad()
def _verdicts(
    model: BrainLDM, before: torch.Tensor, after: torch.Tensor, contrast: str, change: Change
) -> tuple[dict[str, float], dict[str, Any]]:
    """How much of what was asked for two images (1, 1, R, A, S) show, by judge, and what is reported beside it."""
    share = latent_drifting.reached(model, before, after, contrast, change)
    reached = {} if share is None else {"model": round(share, 4)}
    judge, years = model.judge, change.wanted.get("age", 0.0) - change.own.get("age", np.inf)
    if judge is None or judge.contrast != contrast or not LEAST_YEARS <= abs(years) < np.inf:
        return reached, {}
    reached["age"] = round(judge.moved(before, after) / years, 4)
    names = {"before": before, "after": after}
    return reached, {"looks_years_old": {name: round(float(judge(image)), 1) for name, image in names.items()}}


def _coarsely(volume: np.ndarray, warp: np.ndarray | None) -> np.ndarray:
    """A volume on GRID_2MM, moved by a warp on GRID_1MM in mm."""
    if warp is None:
        return volume
    ratio = spaces.GRID_1MM.spacing / spaces.GRID_2MM.spacing
    return moved(volume, np.stack([counterfactuals.halved(part) for part in warp]) * ratio, order=1)


def _finely(volume: np.ndarray, warp: np.ndarray | None, order: int) -> np.ndarray:
    """A volume on GRID_1MM, moved by a warp there in mm, which are its voxels."""
    return volume if warp is None else moved(volume, warp, order)


class _Movement:
    """How the ventricles of a brain (class map on GRID_1MM) move; if it shows none, nothing does."""

    def __init__(self, classes: np.ndarray) -> None:
        self._classes = classes
        self._had = volume_conditions(classes, spaces.GRID_1MM.spacing)["ventricles"]
        self._warps: dict[float, np.ndarray] = {}

    @cached_property
    def _ways(self) -> VentricleWarp:
        return VentricleWarp(self._classes)

    def _share(self, change: Change) -> float:
        """How many times as large the ventricles become, as far as tissue can be moved."""
        # What is given of the scan need not be what is measured on it, but its ratio to what is wanted is meant.
        ratio = change.wanted["ventricles"] / max(change.own["ventricles"], LEAST_ML)
        if abs(ratio - 1) * self._had < LEAST_ML:
            return 1.0
        return float(np.clip(ratio * self._had, self._ways.least, self._ways.most)) / self._had

    def left(self, change: Change) -> Change:
        """What is left to the diffusion: all but what moves."""
        ventricles = change.wanted["ventricles"] / self._share(change)
        return replace(change, wanted={**change.wanted, "ventricles": ventricles})

    def warp(self, change: Change) -> np.ndarray | None:
        """Where tissue comes from, mm (3, R, A, S) on GRID_1MM. Less strength or guidance than 1 move it less."""
        share = self._share(change) ** (change.strength * min(change.guidance, 1.0))
        if share == 1:
            return None
        if share not in self._warps:
            # Rounding may leave it beyond the ends.
            size = np.clip(share * self._had, self._ways.least, self._ways.most)
            self._warps[share] = self._ways.to(float(size))
        return self._warps[share]


def _change(request: Counterfactual, bundle: Bundle, model: BrainLDM, contrast: str, classes: np.ndarray) -> Change:
    """What to change, from what is known of the scan, what is measured on it, and what is asked for."""
    requests.check_offered(request.wanted, capabilities.asked_of(request), contrast)
    own = volume_conditions(classes, spaces.GRID_1MM.spacing)
    if request.segmentation is not None:
        volumes = lesions.volumes_ml(classes)
        own |= {
            condition.name: min(volumes[condition.name] / condition.millilitres, condition.maximum)
            for condition in bundle.metadata.conditions
            if condition.millilitres and volumes[condition.name] > 0
        }
    own |= request.known
    # Pathologies that nobody named, or that are drawn, are to the diffusion the same on both sides.
    drawn = loads_of(request) if request.lesions == "labels" else {}
    wanted = {**own, **{name: value for name, value in request.wanted.items() if name not in drawn}}
    wanted |= {
        name: value
        for name, value in counterfactuals.expected_volumes(own, request.wanted, model.ageing).items()
        if name not in request.wanted
    }
    auto = request.drift == "auto"
    drift = Drift(0.0, step=request.drift_step)
    steps = model.steps(request.steps)
    if request.drift != "auto" and request.drift:
        drift = Drift(latent_drifting.raw_delta(model, request.drift, drift, steps), step=request.drift_step)
    return Change(own, wanted, request.strength, request.guidance, drift, auto, request.steps, request.variants)
