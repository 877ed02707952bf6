"""Counterfactuals by diffusion: ventricles by moving tissue, as far as it moves, and the rest by the image model.

An edit of a latent can brighten and darken; that a border lies elsewhere it shows as a blur. What is known to be a
movement is therefore made as one, and the model is asked for what else goes with the wanted conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from BrainGenLib import counterfactuals, lesions, requests, spaces
from BrainGenLib.bundles import Bundle
from BrainGenLib.diffusion.drift import Drift
from BrainGenLib.methods import latent_drifting
from BrainGenLib.methods.brain_ldm import BrainLDM, volume_conditions
from BrainGenLib.methods.latent_drifting import Change
from BrainGenLib.methods.ventricle_warp import VentricleWarp, moved
from BrainGenLib.requests import Counterfactual
from BrainGenLib.verbs.work import Work

LEAST_YEARS = 5.0
"""Fewer are too few for the judge of age to tell."""


def changes(
    work: Work, asked: Sequence[Counterfactual], bundle: Bundle, image: np.ndarray, before: np.ndarray, contrast: str
) -> list[counterfactuals.TemplateChange]:
    """What moves, and what the image diffusion changes."""
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
    edits = latent_drifting.edit(model, scan, contrast, rest, generator, work.stage("counterfactual"))
    volumes = lesions.volumes_ml(before)
    found = []
    for request, change, edited in zip(asked, whole, edits, strict=True):
        warp = movement.warp(change)
        values = counterfactuals.noticed(edited.change, spaces.GRID_2MM.spacing)
        after = _coarsely(np.clip(coarse + values, 0, 1), warp)
        reached, judged = _verdicts(
            model, scan, torch.from_numpy(after)[None, None].to(work.device), contrast, change
        )
        asked_ml = {
            one.name: request.wanted[one.name] * one.millilitres
            - (change.own[one.name] * one.millilitres if one.name in change.own else volumes[one.name])
            for one in bundle.metadata.conditions
            if one.millilitres and one.name in request.wanted
        }
        found.append(
            counterfactuals.TemplateChange(
                _coarsely(values, warp),
                spaces.GRID_2MM,
                None,
                _coarsely(edited.spread, warp) if change.variants > 1 else None,
                {"own": dict(change.own), "wanted": dict(change.wanted), "drift": list(edited.delta), **judged},
                reached,
                asked_ml,
                warp,
            )
        )
    work.show(contrast, after, "counterfactual")
    return found


@torch.no_grad()
def _verdicts(
    model: BrainLDM, before: torch.Tensor, after: torch.Tensor, contrast: str, change: Change
) -> tuple[dict[str, float], dict[str, Any]]:
    """How much of what was asked for two images (1, 1, R, A, S) show, by judge, and what is to be told beside it."""
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
        # What is told of the scan need not be what is measured on it, but its ratio to what is wanted is meant.
        ratio = change.wanted["ventricles"] / max(change.own["ventricles"], counterfactuals.LEAST_ML)
        if abs(ratio - 1) * self._had < counterfactuals.LEAST_ML:
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
    requests.check_offered(request.wanted, bundle.metadata, contrast)
    own = volume_conditions(classes, spaces.GRID_1MM.spacing)
    if request.segmentation is not None:
        volumes = lesions.volumes_ml(classes)
        own |= {
            condition.name: min(volumes[condition.name] / condition.millilitres, condition.maximum)
            for condition in bundle.metadata.conditions
            if condition.millilitres and volumes[condition.name] > 0
        }
    own |= request.known
    # Pathologies that nobody named stay as they are: unknown on both sides.
    wanted = {**own, **request.wanted}
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
