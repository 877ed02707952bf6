"""Verb ``counterfactual``: a scan as it would be if something were otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from BrainGenLib import anatomy, capabilities, counterfactuals, lesions, morphometry, requests, spaces
from BrainGenLib.case import Case
from BrainGenLib.counterfactuals import Aligned
from BrainGenLib.methods import segmentation
from BrainGenLib.methods.contrast import recognise
from BrainGenLib.reading.segmentations import read_segmentation
from BrainGenLib.reading.volume import Volume
from BrainGenLib.requests import Counterfactual
from BrainGenLib.verbs import by_diffusion, by_labels
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
    before, image = _with_painted(work, found), aligned.image()
    contrast = request.contrast or recognise(image, found.classes, bundle.metadata.contrasts)
    route = by_diffusion if bundle.metadata.family else by_labels
    changes = route.changes(work, asked, bundle, image, before, contrast)
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
    after = counterfactuals.changed_scan(change, aligned)
    changed_intensities = np.maximum(aligned.intensities + (after - scan.data), 0)
    classes = change.classes
    if classes is None:
        fine = spaces.to_grid(
            changed_intensities, scan.affine, spaces.GRID_1MM, template_to_scan=found.template_to_scan
        )
        classes = segmentation.segment_in_template(segmenter, np.where(aligned.brain, fine, 0))
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
