"""Verb ``generate``: a new case from conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from BrainGenLib import anatomy, attribution, bundles, requests, spaces
from BrainGenLib.case import ATTRIBUTION, Case
from BrainGenLib.lesions import DISPLACING, STRUCTURES
from BrainGenLib.methods import brainspade, brainspade3d, image_model, mass_effect
from BrainGenLib.methods.brain_ldm import BrainLDM, volume_conditions
from BrainGenLib.methods.image_model import ImageModel
from BrainGenLib.methods.latent_diffusion import LatentDiffusion
from BrainGenLib.methods.maisi import Maisi
from BrainGenLib.methods.mass_effect import MassEffect
from BrainGenLib.methods.scan_texture import intensities, with_lesions
from BrainGenLib.requests import Generate
from BrainGenLib.verbs.drawing import image_of, style_of, tissue_of
from BrainGenLib.verbs.work import FrameReport, Work

# By the family that a bundle names.
IMAGE_MODELS: dict[str, type[ImageModel]] = {
    "brain-ldm": BrainLDM,
    "latent-diffusion": LatentDiffusion,
    "rectified-flow": Maisi,
}


def generate(work: Work) -> Case:
    requests.check(work.request, bundles.find(work.request.bundle).metadata)
    (case,) = generated(work, [work.request])
    return case


def generated(work: Work, asked: Sequence[Generate]) -> list[Case]:
    """Cases of requests that differ in conditions, guidance and drift alone."""
    bundle = work.bundle(asked[0].bundle)
    if family := bundle.metadata.family:
        model = work.open(IMAGE_MODELS[family], bundle)
        return image_model.draw(model, asked, bundle.metadata, work.stage("image"))
    label_model = work.open(brainspade3d.LabelModel, bundle)
    each = (
        [work]
        if len(asked) == 1
        else [replace(work, report=FrameReport(work.report, n)) for n in range(1, len(asked) + 1)]
    )
    if asked[0].draft:
        return [_draft(one, label_model, request) for one, request in zip(each, asked, strict=True)]
    renderer = work.open(brainspade.Renderer, bundle)
    style = style_of(work, renderer)
    return [_labelled(one, label_model, renderer, style, request) for one, request in zip(each, asked, strict=True)]


def _draft(work: Work, label_model: brainspade3d.LabelModel, request: Generate) -> Case:
    sample = brainspade3d.sample_labels(label_model, request, work.stage("labels"))
    effect = _mass_effect(work, sample, request.mass_effect)
    classes = _classes_2mm(sample, effect)
    case = Case({}, anatomy.to_values(classes), spaces.GRID_2MM.affine)
    case.measurements = {
        "requested": sample.requested,
        "obtained": sample.obtained,
        "anatomy": sample.anatomy,
        **_person(label_model, sample, classes, spaces.GRID_2MM.spacing),
        **_measured(effect),
    }
    return case


def _person(
    label_model: brainspade3d.LabelModel, sample: brainspade3d.LabelSample, classes: np.ndarray, spacing: float
) -> dict[str, Any]:
    """Age and sex of a sample, and which percentiles the volumes of its class map have for them."""
    if not sample.person or label_model.normative is None:
        return {}
    percentiles = label_model.normative.percentiles(volume_conditions(classes, spacing), sample.person)
    return {"person": {**sample.person, "percentiles": percentiles}}


def _labelled(
    work: Work,
    label_model: brainspade3d.LabelModel,
    renderer: Any,
    style: np.ndarray | None,
    request: Generate,
) -> Case:
    """Labels and images of them."""
    sample = brainspade3d.sample_labels(label_model, request, work.stage("labels"))
    effect = _mass_effect(work, sample, request.mass_effect)
    coarse = Case({}, anatomy.to_values(_classes_2mm(sample, effect)), spaces.GRID_2MM.affine)
    work.report.preview(coarse, "labels")
    structures = sample.structures_1mm()
    sampled, donor = (None, None) if sample.folded is None else (sample.folded.image, sample.folded.donor)
    if effect is not None:
        structures = effect.labels(structures)
        sampled = None if sampled is None else effect.image(sampled)
        donor = None if donor is None else effect.labels(donor + 1) - 1
    classes = sample.with_lesions(structures)
    case = Case({}, anatomy.to_values(classes), spaces.GRID_1MM.affine)
    case.measurements = {
        "requested": sample.requested,
        # Of the map that is given out, not of the coarse one that the sampler measured.
        "obtained": {
            name: np.count_nonzero(classes == anatomy.lesions()[name].index) / (1000 * millilitres)
            for name, millilitres in label_model.millilitres.items()
        },
        "anatomy": sample.anatomy,
        **_person(label_model, sample, classes, spaces.GRID_1MM.spacing),
        **_measured(effect),
    }
    if donor is not None and label_model.people is not None:
        whose = attribution.map_of(donor, classes)
        of_donors = attribution.measured(
            label_model.people, label_model.among_donors, classes, sampled, whose, sample.rejected
        )
        case.measurements |= {ATTRIBUTION: of_donors, "remarks": attribution.remarks(of_donors)}
        case.maps[ATTRIBUTION] = whose
    lesion = classes >= STRUCTURES
    people = label_model.people
    # An image as T1w scans have it is a soft tissue map.
    soft = sampled if people is not None and people.contrast == "T1w" else None
    for contrast in request.contrasts:
        own = None
        if sampled is not None and people is not None and contrast == people.contrast and style is None:
            own = intensities(sampled, people.knots, classes > 0)
        if own is not None and not lesion.any():
            case.images[contrast] = own
        else:
            if soft is None:
                soft = tissue_of(work, renderer, classes)
            needed = None if own is None else lesion
            rendered = image_of(work, renderer, classes, soft, contrast, style, needed)
            case.images[contrast] = rendered if own is None else with_lesions(own, rendered, lesion)
        work.report.preview(case, contrast)
    return case


def _mass_effect(work: Work, sample: brainspade3d.LabelSample, millimetres: float) -> MassEffect | None:
    """What the sampled lesions do to the anatomy, if they displace any."""
    lesion = np.isin(sample.classes_2mm, [anatomy.lesions()[name].index for name in DISPLACING])
    if not millimetres or not lesion.any():
        return None
    work.stage("mass effect")
    return mass_effect.of_lesion(sample.structures_2mm, lesion, millimetres)


def _classes_2mm(sample: brainspade3d.LabelSample, effect: MassEffect | None) -> np.ndarray:
    if effect is None:
        return sample.classes_2mm
    return np.where(sample.classes_2mm >= STRUCTURES, sample.classes_2mm, effect.labels(sample.structures_2mm))


def _measured(effect: MassEffect | None) -> dict[str, Any]:
    return {} if effect is None else {"mass_effect_mm": effect.measurements()}
