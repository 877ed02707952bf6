"""Verb ``counterfactual``: a scan as it would be under other conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from BrainGenLib import anatomy, capabilities, counterfactuals, lesions, morphometry, requests, spaces
from BrainGenLib.case import Case
from BrainGenLib.counterfactuals import Aligned
from BrainGenLib.methods import segmentation
from BrainGenLib.methods.contrast import recognise
from BrainGenLib.reading.volume import Volume
from BrainGenLib.requests import Counterfactual
from BrainGenLib.verbs import by_diffusion, by_labels
from BrainGenLib.verbs.painted import with_painted
from BrainGenLib.verbs.work import Work


def counterfactual(work: Work) -> Case:
    requests.check(work.request, capabilities.asked_of(work.request))
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
    before, image = found.classes, aligned.image()
    if request.segmentation is not None:
        before = with_painted(work.inputs / request.segmentation, request.lesion_as, found)
    contrast = request.contrast or recognise(image, found.classes, bundle.metadata.contrasts)
    route = by_diffusion if bundle.metadata.family else by_labels
    changes = route.changes(work, asked, bundle, image, before, contrast)
    cases = []
    segmenter = work.open(segmentation.Segmenter, ruler)
    for number, (one, change) in enumerate(zip(asked, changes, strict=True)):
        if change.classes is None:
            work.report.step("segmentation of it", number, len(changes))
        case = _in_own_grid(given, aligned, found, before, segmenter, contrast, change)
        _report_lesions(case.measurements, one, change, found, before)
        cases.append(case)
    return cases


def _report_lesions(
    measurements: dict[str, Any],
    request: Counterfactual,
    change: counterfactuals.TemplateChange,
    found: segmentation.Segmentation,
    before: np.ndarray,
) -> None:
    """Add which lesions the scan has, found and given, in its own mL, and what of them was and was not taken away."""
    scale = float(abs(np.linalg.det(found.template_to_scan[:3, :3])))

    def volumes(classes: np.ndarray) -> dict[str, float]:
        return {name: round(millilitres * scale, 3) for name, millilitres in lesions.volumes_ml(classes).items()}

    given, had = request.segmentation is not None, volumes(before)
    measurements["lesions_found_ml"] = volumes(found.classes)
    if given:
        measurements["lesions_given_ml"] = had
    if request.lesions == "labels":
        less = [name for name, more in change.asked_ml.items() if more < 0 or request.wanted[name] == 0]
        measurements["remarks"] = counterfactuals.removal_remarks(less, had, request.wanted, given=given)
        measurements["remarks"] += [
            f"The {anatomy.lesions()[name].name} can still be seen: it stands out by {share:.0%} of what it did."
            for name, share in measurements["still_seen"].items()
            if share > counterfactuals.CLEARED
        ]
        if not given:
            # Of what the segmenter missed it knows nothing afterwards either.
            for name in less:
                measurements["reached"].pop(name, None)


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
    after = counterfactuals.changed_scan(change, aligned)
    changed_intensities = np.maximum(aligned.intensities + (after - scan.data), 0)
    classes = change.classes

    def in_template(volume: np.ndarray) -> np.ndarray:
        return spaces.to_grid(volume, scan.affine, spaces.GRID_1MM, template_to_scan=found.template_to_scan)

    if classes is None:
        fine = np.where(aligned.brain, in_template(changed_intensities), 0)
        classes = segmentation.segment_in_template(segmenter, fine)
        if change.lesions is None:
            # Both by the segmenter: a painted lesion would seem to go, because it finds hardly any.
            before = found.classes
        else:
            there = np.isin(change.lesions, anatomy.classes_of(kind="lesion"))
            classes = np.where(there, change.lesions, lesions.split_lesions(classes)[0])

    def back(volume: np.ndarray) -> np.ndarray:
        """From axes R, A, S to those of the file."""
        return spaces.resample(volume, scan.affine, given.data.shape, given.affine, order=1)

    def labels_of(template: np.ndarray) -> np.ndarray:
        return segmentation.to_scan(template, found.template_to_scan, given.data.shape, given.affine)

    reached = {**change.reached, **counterfactuals.lesions_reached(before, classes, change.asked_ml)}
    less = [name for name, more in change.asked_ml.items() if more < 0 and name in reached]
    seen: dict[str, float] = {}
    # Of lesions that moved, the places are others.
    if less and change.warp is None:
        image, changed = in_template(aligned.intensities), in_template(changed_intensities)
        seen = counterfactuals.still_seen(image, changed, before, classes, less)
    # Labels may say that a lesion is gone; its reader sees the image.
    reached |= {name: min(reached[name], round(max(1 - share, 0.0), 4)) for name, share in seen.items()}

    case = Case({contrast: back(after)}, anatomy.to_values(labels_of(classes)), given.affine)
    case.maps = {"difference": back(after - scan.data)}
    if change.spread is not None:
        case.maps["uncertainty"] = back(counterfactuals.to_scan(change.spread, change.grid, aligned))
    voxel_mm3 = abs(float(np.linalg.det(given.affine[:3, :3])))
    case.measurements = {
        "contrast": contrast,
        **change.measurements,
        "volumes_before_ml": morphometry.volumes_ml(labels_of(before), voxel_mm3),
        "similarity": counterfactuals.similarity(aligned.intensities, changed_intensities),
        "reached": reached,
        "still_seen": seen,
        "template_to_scan": found.template_to_scan.tolist(),
    }
    return case
