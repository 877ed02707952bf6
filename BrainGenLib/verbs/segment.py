"""Verb ``segment``: the label map of a scan."""

from __future__ import annotations

from BrainGenLib import anatomy, requests, spaces
from BrainGenLib.case import Case
from BrainGenLib.methods import segmentation
from BrainGenLib.requests import Segment
from BrainGenLib.verbs.work import Work


def segment(work: Work) -> Case:
    request: Segment = work.request
    bundle = work.bundle(request.bundle)
    requests.check(request, bundle.metadata)
    scan, found = work.segmented(request.scan, bundle, "segmented")
    labels = segmentation.to_scan(found.classes, found.template_to_scan, scan.data.shape, scan.affine)
    case = Case({}, anatomy.to_values(labels), scan.affine, synthetic=False)
    case.measurements["template_to_scan"] = found.template_to_scan.tolist()
    case.template = Case({}, anatomy.to_values(found.classes), spaces.GRID_1MM.affine, synthetic=False)
    return case
