"""A request in, a case out. Opens bundles once per device and keeps them.

>>> from BrainGenLib.engine import Engine
>>> from BrainGenLib.requests import Generate
>>> case = Engine().run(Generate(pathologies={"wmh": 0.05}, contrasts=["T1w", "FLAIR"], seed=7))  # doctest: +SKIP
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from BrainGenLib import (
    anatomy,
    bundles,
    counterfactuals,
    devices,
    lesions,
    morphometry,
    provenance,
    requests,
    spaces,
    sweeps,
)
from BrainGenLib.bundles import Bundle
from BrainGenLib.case import Case, Frame
from BrainGenLib.counterfactuals import Aligned
from BrainGenLib.diffusion.drift import Drift
from BrainGenLib.errors import BadInput, OutOfMemory
from BrainGenLib.inputs import Volume, read_scan, read_segmentation, without_holes
from BrainGenLib.methods import (
    brainspade,
    brainspade3d,
    image_model,
    label_edit,
    latent_drifting,
    segmentation,
    soft_tissue,
)
from BrainGenLib.methods.brain_ldm import BrainLDM, volume_conditions
from BrainGenLib.methods.contrast import recognise
from BrainGenLib.methods.image_model import ImageModel
from BrainGenLib.methods.latent_diffusion import LatentDiffusion
from BrainGenLib.methods.maisi import Maisi
from BrainGenLib.reporting import Reporter, Silent
from BrainGenLib.requests import Counterfactual, Generate, Render, Request, Segment, Sweep

# By the family that a bundle names.
_IMAGE_MODELS: dict[str, type[ImageModel]] = {
    "brain-ldm": BrainLDM,
    "latent-diffusion": LatentDiffusion,
    "rectified-flow": Maisi,
}


def stages(request: Request) -> list[str]:
    """The stages that :meth:`Engine.run` reports for a request, in order.

    Raises:
        BadInput: there is no such bundle.
    """
    if isinstance(request, Segment):
        return ["loading", "segmentation"]
    family = bundles.find(request.bundle).metadata.family
    count = len(request.values) if isinstance(request, Sweep) else 1
    if isinstance(request, Sweep):
        request = request.of
    if isinstance(request, Counterfactual):
        last = ["segmentation of it"] if family else ["tissue", "rendering"]
        return ["loading", "segmentation", "counterfactual", *last]
    if family:
        return ["loading", "image"]
    if isinstance(request, Generate) and request.draft:
        return ["loading", "labels"]
    style = ["style"] if request.style else []
    anatomy_ = ["labels"] if isinstance(request, Generate) else ["tissue"]
    each = [*anatomy_, *(f"rendering {contrast}" for contrast in request.contrasts)]
    return ["loading", *style, *each * count]


class Engine:
    """Runs requests. Everything that it keeps is models in memory."""

    def __init__(self) -> None:
        # Deterministic matrix products on CUDA need this before the library is initialised.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self._models: dict[tuple[str, str, str], Any] = {}

    def run(self, request: Request, inputs: Path = Path(), report: Reporter | None = None) -> Case:
        """Run a request.

        Args:
            request: what is asked for.
            inputs: folder of the files that the request names.
            report: told of progress and previews.

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
        # The same seed gives the same bits; operations without such a kernel only warn.
        torch.use_deterministic_algorithms(True, warn_only=True)
        # It would also fill all new memory with NaN, which costs time and is for debugging.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        work = _Work(self, request, inputs, report or Silent(), device)
        try:
            with torch.inference_mode():
                case = _VERBS[request.verb](work)
        except (MemoryError, RuntimeError) as error:
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


@dataclass
class _Work:
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

    def stage(self, name: str) -> Reporter:
        return _Stage(self.report, name)


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


class _Frame:
    """Reports a frame of several; a job has room for each name of a preview once."""

    def __init__(self, report: Reporter, number: int) -> None:
        self._report = report
        self._number = number

    def step(self, stage: str, step: int, of: int, message: str = "") -> None:
        self._report.step(stage, step, of, message)

    def preview(self, case: Case, name: str) -> None:
        self._report.preview(case, f"frame-{self._number:02d}-{name}")


def _generate(work: _Work) -> Case:
    requests.check(work.request, bundles.find(work.request.bundle).metadata)
    (case,) = _generated(work, [work.request])
    return case


def _generated(work: _Work, asked: Sequence[Generate]) -> list[Case]:
    """Cases of requests that differ in conditions, guidance and drift alone."""
    bundle = work.bundle(asked[0].bundle)
    if family := bundle.metadata.family:
        model = work.open(_IMAGE_MODELS[family], bundle)
        return image_model.draw(model, asked, bundle.metadata, work.stage("image"))
    label_model = work.open(brainspade3d.LabelModel, bundle)
    each = (
        [work]
        if len(asked) == 1
        else [replace(work, report=_Frame(work.report, n)) for n in range(1, len(asked) + 1)]
    )
    if asked[0].draft:
        return [_draft(one, label_model, request) for one, request in zip(each, asked, strict=True)]
    renderer = work.open(brainspade.Renderer, bundle)
    style = _style(work, renderer)
    return [_labelled(one, label_model, renderer, style, request) for one, request in zip(each, asked, strict=True)]


def _draft(work: _Work, label_model: brainspade3d.LabelModel, request: Generate) -> Case:
    sample = brainspade3d.sample_labels(label_model, request, work.stage("labels"))
    case = Case({}, anatomy.to_values(sample.classes_2mm), spaces.GRID_2MM.affine)
    case.measurements = {"requested": sample.requested, "obtained": sample.obtained, "anatomy": sample.anatomy}
    return case


def _labelled(
    work: _Work,
    label_model: brainspade3d.LabelModel,
    renderer: Any,
    style: np.ndarray | None,
    request: Generate,
) -> Case:
    """Labels and images of them."""
    sample = brainspade3d.sample_labels(label_model, request, work.stage("labels"))
    coarse = Case({}, anatomy.to_values(sample.classes_2mm), spaces.GRID_2MM.affine)
    work.report.preview(coarse, "labels")
    classes = sample.classes_1mm()
    case = Case({}, anatomy.to_values(classes), spaces.GRID_1MM.affine)
    case.measurements = {
        "requested": sample.requested,
        # Of the map that is given out, not of the coarse one that the sampler measured.
        "obtained": {
            name: np.count_nonzero(classes == anatomy.lesions()[name].index) / (1000 * millilitres)
            for name, millilitres in label_model.millilitres.items()
        },
        "anatomy": sample.anatomy,
    }
    for contrast in request.contrasts:
        case.images[contrast] = _image(work, renderer, classes, sample.tissue, contrast, style)
        work.report.preview(case, contrast)
    return case


def _render(work: _Work) -> Case:
    request: Render = work.request
    bundle = work.bundle(request.bundle)
    requests.check(request, bundle.metadata)
    segmentation_ = read_segmentation(work.inputs / request.segmentation)
    segmentation_.data = without_holes(segmentation_.data)
    renderer = work.open(brainspade.Renderer, bundle)
    style = _style(work, renderer)
    fine = _at_1mm(segmentation_, "label")
    case = Case({}, anatomy.to_values(segmentation_.data), segmentation_.affine)
    tissue = _tissue(work, renderer, fine.data)
    for contrast in request.contrasts:
        image = _image(work, renderer, fine.data, tissue, contrast, style)
        case.images[contrast] = np.clip(_on_grid_of(segmentation_, Volume(image, fine.affine), 1), 0, 1)
        work.report.preview(case, contrast)
    return case


def _segment(work: _Work) -> Case:
    request: Segment = work.request
    bundle = work.bundle(request.bundle)
    requests.check(request, bundle.metadata)
    scan = read_scan(work.inputs / request.scan)
    segmenter = work.open(segmentation.Segmenter, bundle)
    data, affine = spaces.canonical(scan.data, scan.affine)
    try:
        found = segmentation.segment(segmenter, data, affine, work.stage("segmentation"))
    except ValueError as error:
        raise BadInput(f"{Path(request.scan).name} cannot be segmented: {error}") from error
    labels = segmentation.to_scan(found.classes, found.template_to_scan, scan.data.shape, scan.affine)
    case = Case({}, anatomy.to_values(labels), scan.affine, synthetic=False)
    case.measurements["template_to_scan"] = found.template_to_scan.tolist()
    case.template = Case({}, anatomy.to_values(found.classes), spaces.GRID_1MM.affine, synthetic=False)
    return case


def _counterfactual(work: _Work) -> Case:
    requests.check(work.request, bundles.find(work.request.bundle).metadata)
    (case,) = _counterfactuals(work, [work.request])
    return case


def _counterfactuals(work: _Work, asked: Sequence[Counterfactual]) -> list[Case]:
    """Cases of requests that differ in what is wanted, drift, strength and guidance alone."""
    request: Counterfactual = work.request
    bundle = work.bundle(request.bundle)
    given = read_scan(work.inputs / request.scan)
    segmenter = work.open(segmentation.Segmenter, work.bundle("segmenter"))
    scan = Volume(*spaces.canonical(given.data, given.affine))
    try:
        found = segmentation.segment(segmenter, scan.data, scan.affine, work.stage("segmentation"))
    except ValueError as error:
        raise BadInput(f"{Path(request.scan).name} cannot be changed: {error}") from error
    aligned = Aligned.of(scan, found.template_to_scan, found.classes)
    before, image = _with_painted(work, found), aligned.image()
    contrast = request.contrast or recognise(image, found.classes, bundle.metadata.contrasts)
    make = _diffused if bundle.metadata.family else _relabelled
    changes = make(work, asked, bundle, image, before, contrast)
    cases = []
    for number, change in enumerate(changes):
        if change.classes is None:
            work.report.step("segmentation of it", number, len(changes))
        cases.append(_changed(given, aligned, found, before, segmenter, contrast, change))
    return cases


def _changed(
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
    difference = counterfactuals.to_scan(change.values, change.grid, aligned)
    after = np.clip(scan.data + difference, aligned.low, None)
    classes = change.classes
    if classes is None:
        # Both by the segmenter: a painted lesion would seem to go, because it finds hardly any.
        before = found.classes
        fine = spaces.to_grid(after, scan.affine, spaces.GRID_1MM, template_to_scan=found.template_to_scan)
        classes = segmentation.segment_in_template(segmenter, np.where(aligned.brain, fine, aligned.low))

    def back(volume: np.ndarray) -> np.ndarray:
        """From axes R, A, S to those of the file."""
        return _on_grid_of(given, Volume(volume, scan.affine), 1)

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


def _with_painted(work: _Work, found: segmentation.Segmentation) -> np.ndarray:
    """The scan's class map in template space, with what somebody labelled in it."""
    if work.request.segmentation is None:
        return found.classes
    painted = read_segmentation(work.inputs / work.request.segmentation)
    there = spaces.to_grid(
        painted.data, painted.affine, spaces.GRID_1MM, template_to_scan=found.template_to_scan, order="label"
    )
    return np.where(there > 0, there, found.classes).astype(np.uint8)


def _diffused(
    work: _Work, asked: Sequence[Counterfactual], bundle: Bundle, image: np.ndarray, before: np.ndarray, contrast: str
) -> list[counterfactuals.TemplateChange]:
    """What the image diffusion changes."""
    model = work.open(BrainLDM, bundle)
    coarse = counterfactuals.halved(image)
    scan = torch.from_numpy(coarse)[None, None].to(work.device)
    changes = [_change(request, bundle, model, contrast, before) for request in asked]
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
    work.report.preview(Case({contrast: after}, None, spaces.GRID_2MM.affine), "counterfactual")
    return found


def _relabelled(
    work: _Work, asked: Sequence[Counterfactual], bundle: Bundle, image: np.ndarray, before: np.ndarray, contrast: str
) -> list[counterfactuals.TemplateChange]:
    """What the renderer draws where labels of lesions change."""
    request: Counterfactual = work.request
    renderer, labels = work.open(brainspade.Renderer, bundle), work.open(brainspade3d.LabelModel, bundle)
    report = work.stage("counterfactual")

    def progress(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
        report.step("places", index, 2 * brainspade3d.STEPS)

    wanted = [{name: load * labels.millilitres[name] for name, load in one.wanted.items()} for one in asked]
    after = [label_edit.with_loads(before, loads, labels, request.seed, progress) for loads in wanted]
    style = brainspade.encode_style(renderer, image)
    tissue = _tissue(work, renderer, lesions.split_lesions(before)[0])
    report = work.stage("rendering")
    drawn, *redrawn = (
        brainspade.render(renderer, classes, tissue, contrast, style=style, seed=request.seed, report=report)
        for classes in (before, *after)
    )
    volumes = lesions.volumes_ml(before)
    return [
        counterfactuals.TemplateChange(
            counterfactuals.rendered_change(image, drawn, picture, before, classes),
            spaces.GRID_1MM,
            classes,
            None,
            {"wanted": one.wanted},
            {},
            {name: millilitres - volumes[name] for name, millilitres in loads.items()},
        )
        for one, loads, classes, picture in zip(asked, wanted, after, redrawn, strict=True)
    ]


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


def _tissue(work: _Work, renderer: Any, classes: np.ndarray) -> np.ndarray:
    """Soft tissue for a given segmentation; the same seed gives the same folds after an edit elsewhere."""
    report = work.stage("tissue")

    def progress(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
        report.step("", index, soft_tissue.STEPS)

    generator = torch.Generator().manual_seed(work.request.seed)
    try:
        return soft_tissue.tissue_of_classes(renderer.tissue, classes, generator, progress).cpu().numpy()
    except ValueError as error:
        raise BadInput(
            f"{Path(work.request.segmentation).name} cannot be rendered: it labels lesions but no brain around them; "
            "label that too."
        ) from error


def _image(
    work: _Work, renderer: Any, classes: np.ndarray, tissue: np.ndarray, contrast: str, style: np.ndarray | None
) -> np.ndarray:
    # A seed per contrast: with one for all, T1w and FLAIR would carry the same noise.
    seed = (work.request.seed + zlib.crc32(contrast.encode())) % 2**32
    report = work.stage(f"rendering {contrast}")
    return brainspade.render(renderer, classes, tissue, contrast, style=style, seed=seed, report=report)


def _style(work: _Work, renderer: Any) -> np.ndarray | None:
    """The style code of the reference scan, which may be a whole head in any grid."""
    if work.request.style is None:
        return None
    path = work.inputs / work.request.style
    report = work.stage("style")
    scan = read_scan(path)
    data, affine = spaces.canonical(scan.data, scan.affine)
    brain = segmentation.stripped_brain(data, affine)
    try:
        if brain is None:
            segmenter = work.open(segmentation.Segmenter, work.bundle("segmenter"))
            found = segmentation.segment(segmenter, data, affine, report)
            mask, matrix = morphometry.brain_mask(found.classes), found.template_to_scan
        else:
            report.step("registration", 0, 1)
            matrix = segmentation.align(data, affine, brain)
            mask = spaces.to_grid(brain, affine, spaces.GRID_1MM, template_to_scan=matrix, order=0) > 0
    except ValueError as error:
        raise BadInput(f"{path.name} cannot be used as style: {error}") from error
    image = spaces.to_grid(data, affine, spaces.GRID_1MM, template_to_scan=matrix)
    low, high = data.min(), np.percentile(image[mask], 99.5)
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    return brainspade.encode_style(renderer, np.where(mask, scaled, 0).astype(np.float32))


def _at_1mm(volume: Volume, order: Literal[1, "label"]) -> Volume:
    """A volume along its own axes, in (R, A, S) order, with voxels of 1 mm; not resampled if it has them already."""
    data, affine = spaces.canonical(volume.data, volume.affine)
    spacing = np.array(spaces.voxel_size(affine))
    if np.abs(spacing - 1).max() < 0.01:
        return Volume(data, affine)
    shape = np.maximum(np.round(data.shape * spacing), 1).astype(int)
    fine = affine.copy()
    fine[:3, :3] /= spacing
    # Voxel edges, not centres, stay where they are: the field of view is the same.
    fine[:3, 3] += affine[:3, :3] @ np.full(3, -0.5) - fine[:3, :3] @ np.full(3, -0.5)
    return Volume(spaces.resample(data, affine, tuple(shape), fine, order=order), fine)


def _on_grid_of(target: Volume, volume: Volume, order: Literal[1, "label"]) -> np.ndarray:
    return spaces.resample(volume.data, volume.affine, target.data.shape, target.affine, order=order)


def _sweep(work: _Work) -> Case:
    request: Sweep = work.request
    metadata = bundles.find(request.bundle).metadata
    requests.check(request, metadata)
    asked: list[Any] = requests.frames(request, metadata)
    # What frames have in common is done once, as the request that they come from says.
    common = replace(work, request=request.of)
    cases = (_counterfactuals if isinstance(request.of, Counterfactual) else _generated)(common, asked)
    frames = [Frame(value, case) for value, case in zip(request.values, cases, strict=True)]
    return Case({}, None, cases[0].affine, sweeps.measured(request, metadata, frames), frames=frames)


_VERBS: dict[str, Callable[[_Work], Case]] = {
    "generate": _generate,
    "render": _render,
    "segment": _segment,
    "counterfactual": _counterfactual,
    "sweep": _sweep,
}


def _memory_advice(device: str) -> str:
    if device == "cpu":
        return "The computer ran out of memory; close other programs, or use a machine with at least 8 GB free."
    return f"The graphics card {device} ran out of memory; close what else uses it, or choose the device cpu."
