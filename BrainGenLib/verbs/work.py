"""One run of a request, as the verbs see it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from BrainGenLib import bundles, devices, spaces
from BrainGenLib.bundles import Bundle
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.methods import segmentation
from BrainGenLib.reading.scans import read_scan
from BrainGenLib.reading.volume import Volume
from BrainGenLib.reporting import Reporter

if TYPE_CHECKING:
    from BrainGenLib.engine import Engine


@dataclass
class Work:
    """One run: the request, where its files are, and the bundles that it used."""

    engine: Engine
    request: Any
    inputs: Path
    report: Reporter
    device: str
    used: list[Bundle] = field(default_factory=list)

    def bundle(self, name: str) -> Bundle:
        bundle = bundles.find(name)
        self.used.append(bundle)
        return bundle

    def open(self, kind: Any, bundle: Bundle) -> Any:
        self.report.step("loading", 0, 1, bundle.metadata.title)
        return self.engine.model(kind, bundle, self.device)

    def segmented(self, name: str, segmenter: Bundle, done: str) -> tuple[Volume, segmentation.Segmentation]:
        """A scan of the inputs and what it holds; ``done`` says what cannot be done to it if that fails.

        A user who moves a slider asks for the same scan again and again: the last one is remembered.
        """
        path = self.inputs / name
        scan = read_scan(path)
        network = self.open(segmentation.Segmenter, segmenter)
        report = self.stage("segmentation")
        # Of what was read, not of the file: formats keep voxels and their place in files of their own.
        key = (_digest(scan), segmenter.sha256, self.device)
        if self.engine.last_segmented is None or self.engine.last_segmented[0] != key:
            data, affine = spaces.canonical(scan.data, scan.affine)
            try:
                found = segmentation.segment(network, data, affine, report)
            except ValueError as error:
                raise BadInput(f"{Path(name).name} cannot be {done}: {error}") from error
            self.engine.last_segmented = key, found
        return scan, self.engine.last_segmented[1]

    def stage(self, name: str) -> Reporter:
        devices.trim_memory()
        return _Stage(self.report, name)

    def show(self, contrast: str, image: np.ndarray, name: str) -> None:
        """A preview on GRID_2MM."""
        self.report.preview(Case({contrast: np.clip(image, 0, 1)}, None, spaces.GRID_2MM.affine), name)


def _digest(scan: Volume) -> str:
    digest = hashlib.sha256(repr(scan.data.shape).encode() + scan.affine.tobytes())
    digest.update(np.ascontiguousarray(scan.data).data)
    return digest.hexdigest()


class _Stage:
    """Reports what a method calls its steps as the message, under the stage that the engine announced."""

    def __init__(self, report: Reporter, name: str) -> None:
        self._report = report
        self._name = name
        self.step("", 0, 1)

    def step(self, stage: str, step: int, of: int, message: str = "") -> None:
        self._report.step(self._name, step, of, " ".join(filter(None, (stage, message))))

    def preview(self, case: Case, name: str) -> None:
        self._report.preview(case, name)


class FrameReport:
    """Reports a frame of several; a job has room for each name of a preview once."""

    def __init__(self, report: Reporter, number: int) -> None:
        self._report = report
        self._number = number

    def step(self, stage: str, step: int, of: int, message: str = "") -> None:
        self._report.step(stage, step, of, message)

    def preview(self, case: Case, name: str) -> None:
        self._report.preview(case, f"frame-{self._number:02d}-{name}")
