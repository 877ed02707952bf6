"""Counterfactual: a scan of the scene as it would look under other conditions."""

from __future__ import annotations

from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib import capabilities, requests
from BrainGenLib.browser.conditions import counterfactual_request, kept, rows
from BrainGenLib.browser.drift import described
from BrainGenLib.browser.logic.engine import EngineLogic
from BrainGenLib.browser.logic.inputs import InputFiles
from BrainGenLib.browser.logic.run import RunLogic
from BrainGenLib.browser.logic.sweep import SweepLogic
from BrainGenLib.browser.state import Choice, CounterfactualState, GenerateState, SceneState, still_there
from BrainGenLib.errors import BadInput
from BrainGenLib.lesion_findings import described as lesions_described
from BrainGenLib.requests import Counterfactual, Segment
from BrainGenLib.scene.cases import of_another
from BrainGenLib.scene.segmentation import found_in, lesions_ml

SECTION = "counterfactual"


class CounterfactualLogic:
    def __init__(self, server: Any, scene: Any, engine: EngineLogic, run: RunLogic) -> None:
        self._scene, self._engine, self._run = scene, engine, run
        self._typed: TypedState[CounterfactualState] = TypedState(server.state, CounterfactualState)
        self._generate: TypedState[GenerateState] = TypedState(server.state, GenerateState)
        self._sweep = SweepLogic(server, SECTION)
        data, name = self._typed.data, self._typed.name
        for setting in ("strength", "guidance", "variants"):
            setattr(data, setting, Counterfactual.model_fields[setting].default)
        able = engine.bundles_that("counterfactual")
        # What changes the image comes first: it understands more.
        data.bundles = [
            Choice(f"{choice.title} – {way}", choice.value)
            for diffusion, way in ((True, "by diffusion"), (False, "lesions and ventricles, by labels"))
            for choice in able
            if bool(engine.metadata_of(choice.value).family) == diffusion
        ]
        data.bundle = next((choice.value for choice in data.bundles), "")
        nodes: TypedState[SceneState] = TypedState(server.state, SceneState)
        nodes.bind_changes({nodes.name.volumes: self._keep_scan, nodes.name.segmentations: self._keep_segmentation})
        self._typed.bind_changes(
            {
                (name.bundle, name.left): lambda *_: self._offer(),
                name.contrast: lambda *_: self._offer_sweep(),
                name.scan: lambda *_: self._keep_to_scan(),
                (name.segmentation, name.wanted): lambda *_: self._tell_lesions(),
                (name.drift, name.auto_drift): lambda *_: self._draw_curve(),
            }
        )
        self._offer()

    def apply(self) -> None:
        """Run what is asked for."""
        state = self._typed.get_dataclass()
        with InputFiles(self._scene) as files:
            try:
                painted = files.segmentation(state.segmentation) if state.segmentation else None
                request = counterfactual_request(
                    state, self._engine.device, int(self._generate.data.seed), files.volume(state.scan), painted
                )
                asked = self._sweep.request(request) if self._sweep.chosen else request
                requests.check(asked, self._engine.changing(state.bundle, state.left))
                self._run.start(SECTION, [asked], files.paths, of=state.scan)
            except BadInput as error:
                self._run.refuse(error)

    def find_lesions(self) -> None:
        """Segment the scan, so that what there is to change is known beforehand."""
        state = self._typed.data
        with InputFiles(self._scene) as files:
            try:
                request = Segment(device=self._engine.device, scan=files.volume(state.scan))
                self._run.start(SECTION, [request], files.paths, of=state.scan)
            except BadInput as error:
                self._run.refuse(error)

    def _keep_to_scan(self) -> None:
        """Choose no segmentation that is known to be of another scan."""
        data = self._typed.data
        chosen, scan = (self._scene.GetNodeByID(one or "") for one in (data.segmentation, data.scan))
        if chosen is not None and scan is not None and of_another(chosen, scan):
            data.segmentation = ""
        self._tell_lesions()

    def _tell_lesions(self) -> None:
        """Say what is known of the lesions of the scan: as the user segmented them, or the segmenter."""
        data = self._typed.data
        removed = [row.name for row in data.wanted if row.given and row.value == 0 and row.name in data.pathologies]
        chosen = self._scene.GetNodeByID(data.segmentation or "")
        scan = self._scene.GetNodeByID(data.scan or "")
        found = chosen or (found_in(self._scene, scan) if scan is not None else None)
        segmenter = None if chosen is not None else self._engine.metadata_of(Segment.model_fields["bundle"].default)
        data.lesions = "" if found is None else lesions_described(lesions_ml(found), removed, segmenter)

    def _offer(self) -> None:
        data = self._typed.data
        if not data.bundle:
            return
        metadata = self._engine.changing(data.bundle, data.left)
        data.diffusion = bool(metadata.family)
        data.contrasts = [Choice(contrast, contrast) for contrast in metadata.contrasts]
        if data.contrast not in metadata.contrasts:
            data.contrast = ""
        data.known = kept(rows(capabilities.knowable(metadata, data.left), given=False), data.known)
        data.wanted = kept(rows(requests.changeable(metadata), given=False), data.wanted)
        by_labels = not data.left or not data.diffusion
        data.pathologies = [one.name for one in metadata.conditions if by_labels and one.kind == "pathology"]
        self._tell_lesions()
        self._offer_sweep()
        self._draw_curve()

    def _offer_sweep(self) -> None:
        data = self._typed.data
        if data.bundle:
            contrasts = [data.contrast] if data.contrast else []
            self._sweep.offer("counterfactual", self._engine.changing(data.bundle, data.left), contrasts)

    def _draw_curve(self) -> None:
        data = self._typed.data
        if not data.bundle:
            return
        units = None if data.auto_drift else float(data.drift)
        data.delta, data.curve = described(self._engine.metadata_of(data.bundle), units)

    def _keep_scan(self, volumes: list[Choice]) -> None:
        data = self._typed.data
        if data.scan and not still_there(data.scan, volumes):
            # With it goes what was said of it; no other scan has these lesions.
            data.scan = data.segmentation = ""
        self._tell_lesions()

    def _keep_segmentation(self, segmentations: list[Choice]) -> None:
        self._typed.data.segmentation = still_there(self._typed.data.segmentation, segmentations)
        self._tell_lesions()
