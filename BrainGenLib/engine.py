"""A request in, a case out. Opens bundles once per device and keeps them.

>>> from BrainGenLib.engine import Engine
>>> from BrainGenLib.requests import Generate
>>> case = Engine().run(Generate(pathologies={"wmh": 0.05}, contrasts=["T1w", "FLAIR"], seed=7))  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from BrainGenLib import anatomy, bundles, devices, morphometry, provenance
from BrainGenLib.bundles import Bundle
from BrainGenLib.case import Case
from BrainGenLib.errors import OutOfMemory
from BrainGenLib.lesions import PATHOLOGIES
from BrainGenLib.methods.segmentation import Segmentation
from BrainGenLib.reporting import Reporter, Silent
from BrainGenLib.requests import Counterfactual, Generate, Request, Segment, Sweep
from BrainGenLib.verbs.counterfactual import counterfactual
from BrainGenLib.verbs.generate import generate
from BrainGenLib.verbs.render import render
from BrainGenLib.verbs.segment import segment
from BrainGenLib.verbs.sweep import sweep
from BrainGenLib.verbs.work import Work


def stages(request: Request) -> list[str]:
    """The stages that :meth:`Engine.run` reports for a request, in order.

    Raises:
        BadInput: there is no such bundle.
    """
    if isinstance(request, Segment):
        return ["loading", "segmentation"]
    family = bundles.find(request.bundle).metadata.family
    count, over = 1, ""
    if isinstance(request, Sweep):
        count, over, request = len(request.values), request.over, request.of
    if isinstance(request, Counterfactual):
        asked = {*request.wanted, over} & set(PATHOLOGIES)
        drawn = ["tissue", "rendering"] if not family or (asked and request.lesions == "labels") else []
        last = ["segmentation of it"] if family else []
        return ["loading", "segmentation", "counterfactual", *drawn, *last]
    if family:
        return ["loading", "image"]
    if isinstance(request, Generate) and request.draft:
        return ["loading", "labels"]
    style = ["style"] if request.style else []
    anatomy_ = ["labels"] if isinstance(request, Generate) else ["tissue"]
    each = [*anatomy_, *(f"rendering {contrast}" for contrast in request.contrasts)]
    return ["loading", *style, *each * count]


class Engine:
    """Runs requests. All that it keeps is models in memory, and what the last scan was found to hold."""

    def __init__(self) -> None:
        # Deterministic matrix products on CUDA need this before the library is initialised.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self._models: dict[tuple[str, str, str], Any] = {}
        self.last_segmented: tuple[tuple[str, str, str], Segmentation] | None = None

    def run(self, request: Request, inputs: Path = Path(), report: Reporter | None = None) -> Case:
        """Run a request.

        Args:
            request: what is asked for.
            inputs: folder of the files that the request names.
            report: receives progress and previews.

        Returns:
            The case: on GRID_1MM for ``generate`` (a draft on GRID_2MM; from a model that draws images without
            labels, on its own grid), on the grid of the given file for ``render``, ``segment`` and
            ``counterfactual``. That of a sweep holds such cases as frames.

        Raises:
            BadInput: the request or a file cannot be used.
            OutOfMemory: the device has too little memory.
            Cancelled: ``report`` says so.
        """
        device = devices.pick(request.device)
        # The same seed gives the same bits; operations without such a kernel only warn. The same flags by
        # `use_deterministic_algorithms` import PyTorch's compiler: a CPU-second and 66 MB.
        torch.set_deterministic_debug_mode("warn")
        # It would also fill all new memory with NaN, which costs time and is for debugging.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        work = Work(self, request, inputs, report or Silent(), device)
        try:
            with torch.inference_mode():
                case = _VERBS[request.verb](work)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, OutOfMemory):
                raise
            # PyTorch's CPU allocator raises a plain RuntimeError.
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
                raise OutOfMemory(_memory_advice(device)) from error
            raise
        for one in (case, *(frame.case for frame in case.frames)):
            if one.labels is not None:
                voxel_mm3 = abs(float(np.linalg.det(one.affine[:3, :3])))
                one.measurements["volumes_ml"] = morphometry.volumes_ml(anatomy.to_classes(one.labels), voxel_mm3)
        case.provenance = provenance.record(request, work.used, inputs, device, case)
        for number, frame in enumerate(case.frames, 1):
            frame.case.provenance = provenance.of_frame(case.provenance, number)
        return case

    def model(self, kind: Any, bundle: Bundle, device: str) -> Any:
        """The model of class ``kind`` from a bundle, loaded on first use."""
        key = (kind.__name__, bundle.sha256, device)
        if key not in self._models:
            bundle.verify()
            self._models[key] = kind.from_bundle(bundle, device)
        return self._models[key]


_VERBS: dict[str, Callable[[Work], Case]] = {
    "generate": generate,
    "render": render,
    "segment": segment,
    "counterfactual": counterfactual,
    "sweep": sweep,
}


def _memory_advice(device: str) -> str:
    if device == "cpu":
        return "The computer ran out of memory; close other programs, or use a machine with at least 8 GB free."
    return f"The graphics card {device} ran out of memory; close what else uses it, or choose the device cpu."
