"""Verb ``sweep``: cases that differ in one number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from BrainGenLib import capabilities, requests, sweeps
from BrainGenLib.case import Case, Frame
from BrainGenLib.requests import Counterfactual, Sweep
from BrainGenLib.verbs.counterfactual import changed
from BrainGenLib.verbs.generate import generated
from BrainGenLib.verbs.work import Work


def sweep(work: Work) -> Case:
    request: Sweep = work.request
    metadata = capabilities.asked_of(request)
    requests.check(request, metadata)
    asked: list[Any] = requests.frames(request, metadata)
    # What frames have in common is done once, as the request that they come from says.
    common = replace(work, request=request.of)
    cases = (changed if isinstance(request.of, Counterfactual) else generated)(common, asked)
    frames = [Frame(value, case) for value, case in zip(request.values, cases, strict=True)]
    return Case({}, None, cases[0].affine, sweeps.measured(request, metadata, frames), frames=frames)
