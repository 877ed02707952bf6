"""Verb ``counterfactual``: a scan as it would be if something were otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from BrainGenLib import anatomy, bundles, counterfactuals, lesions, morphometry, requests, spaces
from BrainGenLib.bundles import Bundle
from BrainGenLib.case import Case
from BrainGenLib.counterfactuals import Aligned
from BrainGenLib.diffusion.drift import Drift
from BrainGenLib.inputs import Volume, read_segmentation
from BrainGenLib.lesions import PATHOLOGIES
from BrainGenLib.methods import brainspade, brainspade3d, label_edit, latent_drifting, segmentation, ventricle_warp
from BrainGenLib.methods.brain_ldm import BrainLDM, volume_conditions
from BrainGenLib.methods.contrast import recognise
from BrainGenLib.requests import Counterfactual
from BrainGenLib.verbs.drawing import tissue_of
from BrainGenLib.verbs.work import Work


def counterfactual(work: Work) -> Case:
    requests.check(work.request, bundles.find(work.request.bundle).metadata)
    (case,) = changed(work, [work.request])
    return case


def changed(work: Work, asked: Sequence[Counterfactual]) -> list[Case]:
    """Cases of requests that differ in what is wanted, drift, strength and guidance alone."""
    request: Counterfactual = work.request
    bundle = work.bundle(request.bundle)
    ruler = work.bundle("segmenter")
    given, found = work.segmented(request.scan, ruler, "changed")
    scan = Volume(*spaces.canonical(given.data, given.affine))
    aligned = Aligned.of(scan, found.template_to_scan, found.classes)
    before, image = _with_painted(work, found), aligned.image()
    contrast = request.contrast or recognise(image, found.classes, bundle.metadata.contrasts)
    make = _diffused if bundle.metadata.family else _relabelled
    changes = make(work, asked, bundle, image, before, contrast)
    cases = []
    segmenter = work.open(segmentation.Segmenter, ruler)
    for number, change in enumerate(changes):
        if change.classes is None:
            work.report.step("segmentation of it", number, len(changes))
        cases.append(_in_own_grid(given, aligned, found, before, segmenter, contrast, change))
    return cases


def _in_own_grid(
    given: Volume,
    aligned: Aligned,
    found: segmentation.Segmentation,
    before: np.ndarray,
    segmenter: segmentation.Segmenter,
    contrast: str,
    change: counterfactuals.TemplateChange,
) -> Case:
    """A scan with a change, in its own grid."""
    scan = aligned.scan
    still = scan.data if change.warp is None else counterfactuals.warped_scan(change.warp, aligned)
    after = np.clip(still + counterfactuals.to_scan(change.values, change.grid, aligned), aligned.low, None)
    classes = change.classes
    if classes is None:
        # Both by the segmenter: a painted lesion would seem to go, because it finds hardly any.
        before = found.classes
        fine = spaces.to_grid(after, scan.affine, spaces.GRID_1MM, template_to_scan=found.template_to_scan)
        classes = segmentation.segment_in_template(segmenter, np.where(aligned.brain, fine, aligned.low))

    def back(volume: np.ndarray) -> np.ndarray:
        """From axes R, A, S to those of the file."""
        return spaces.resample(volume, scan.affine, given.data.shape, given.affine, order=1)

    def labels_of(template: np.ndarray) -> np.ndarray:
        return segmentation.to_scan(template, found.template_to_scan, given.data.shape, given.affine)

    case = Case({contrast: back(after)}, anatomy.to_values(labels_of(classes)), given.affine)
    case.maps = {"difference": back(after - scan.data)}
    if change.spread is not None:
        case.maps["uncertainty"] = back(counterfactuals.to_scan(change.spread, change.grid, aligned))
    voxel_mm3 = abs(float(np.linalg.det(given.affine[:3, :3])))
    case.measurements = {
        "contrast": contrast,
        **change.measurements,
        "volumes_before_ml": morphometry.volumes_ml(labels_of(before), voxel_mm3),
        "similarity": counterfactuals.similarity(scan.data, after),
        "reached": {**change.reached, **counterfactuals.lesions_reached(before, classes, change.asked_ml)},
        "template_to_scan": found.template_to_scan.tolist(),
    }
    return case


def _with_painted(work: Work, found: segmentation.Segmentation) -> np.ndarray:
    """The scan's class map in template space, with what somebody labelled in it."""
    if work.request.segmentation is None:
        return found.classes
    painted = read_segmentation(work.inputs / work.request.segmentation)
    there = spaces.to_grid(
        painted.data, painted.affine, spaces.GRID_1MM, template_to_scan=found.template_to_scan, order="label"
    )
    return np.where(there > 0, there, found.classes).astype(np.uint8)


def _diffused(
    work: Work, asked: Sequence[Counterfactual], bundle: Bundle, image: np.ndarray, before: np.ndarray, contrast: str
) -> list[counterfactuals.TemplateChange]:
    """What the image diffusion changes."""
    model = work.open(BrainLDM, bundle)
    coarse = counterfactuals.halved(image)
    scan = torch.from_numpy(coarse)[None, None].to(work.device)
    changes = [_change(request, bundle, model, contrast, before) for request in asked]
    expected = latent_drifting.expected_change(model, scan, contrast, changes[-1])
    _show(work, contrast, coarse + counterfactuals.noticed(expected, spaces.GRID_2MM.spacing), "expected")
    generator = torch.Generator().manual_seed(work.request.seed)
    edits = latent_drifting.edit(model, scan, contrast, changes, generator, work.stage("counterfactual"))
    volumes = lesions.volumes_ml(before)
    found = []
    for request, change, edited in zip(asked, changes, edits, strict=True):
        values = counterfactuals.noticed(edited.change, spaces.GRID_2MM.spacing)
        after = np.clip(coarse + values, 0, 1)
        share = latent_drifting.reached(
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
                values,
                spaces.GRID_2MM,
                None,
                edited.spread if change.variants > 1 else None,
                {"own": dict(change.own), "wanted": dict(change.wanted), "drift": list(edited.delta)},
                {} if share is None else {"model": round(share, 4)},
                asked_ml,
            )
        )
    _show(work, contrast, after, "counterfactual")
    return found


def _show(work: Work, contrast: str, image: np.ndarray, name: str) -> None:
    """A preview on GRID_2MM."""
    work.report.preview(Case({contrast: np.clip(image, 0, 1)}, None, spaces.GRID_2MM.affine), name)


def _relabelled(
    work: Work, asked: Sequence[Counterfactual], bundle: Bundle, image: np.ndarray, before: np.ndarray, contrast: str
) -> list[counterfactuals.TemplateChange]:
    """What the label map shows otherwise: ventricles by moving tissue, lesions drawn by the renderer."""
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
    _show(work, contrast, counterfactuals.halved(drawing.image + values), "counterfactual")
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
        self.warp = None if size is None else ventricle_warp.displacement(before, size)
        self.classes, self.image = before, image
        if self.warp is not None:
            self.classes = ventricle_warp.moved(before, self.warp, order=0)
            self.image = ventricle_warp.moved(image, self.warp, order=1)

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


def _change(
    request: Counterfactual, bundle: Bundle, model: BrainLDM, contrast: str, classes: np.ndarray
) -> latent_drifting.Change:
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
    return latent_drifting.Change(
        own, wanted, request.strength, request.guidance, drift, auto, request.steps, request.variants
    )
