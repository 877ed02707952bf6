"""Verb ``render``: images of a given segmentation."""

from __future__ import annotations

import numpy as np

from BrainGenLib import anatomy, requests, spaces
from BrainGenLib.case import Case
from BrainGenLib.methods import brainspade
from BrainGenLib.reading.segmentations import read_segmentation, without_holes
from BrainGenLib.reading.volume import Volume
from BrainGenLib.requests import Render
from BrainGenLib.verbs.drawing import image_of, style_of, tissue_of
from BrainGenLib.verbs.work import Work


def render(work: Work) -> Case:
    request: Render = work.request
    bundle = work.bundle(request.bundle)
    requests.check(request, bundle.metadata)
    given = read_segmentation(work.inputs / request.segmentation, request.lesion_as)
    given.data = without_holes(given.data)
    renderer = work.open(brainspade.Renderer, bundle)
    style = style_of(work, renderer)
    fine = _at_1mm(given)
    case = Case({}, anatomy.to_values(given.data), given.affine)
    tissue = tissue_of(work, renderer, fine.data)
    for contrast in request.contrasts:
        image = image_of(work, renderer, fine.data, tissue, contrast, style)
        own = spaces.resample(image, fine.affine, given.data.shape, given.affine, order=1)
        case.images[contrast] = np.clip(own, 0, 1)
        work.report.preview(case, contrast)
    return case


def _at_1mm(volume: Volume) -> Volume:
    """A segmentation along its own axes, in (R, A, S) order, with voxels of 1 mm; as it is if it has them already."""
    data, affine = spaces.canonical(volume.data, volume.affine)
    spacing = np.array(spaces.voxel_size(affine))
    if np.abs(spacing - 1).max() < 0.01:
        return Volume(data, affine)
    shape = np.maximum(np.round(data.shape * spacing), 1).astype(int)
    fine = affine.copy()
    fine[:3, :3] /= spacing
    # Voxel edges, not centres, stay where they are: the field of view is the same.
    fine[:3, 3] += affine[:3, :3] @ np.full(3, -0.5) - fine[:3, :3] @ np.full(3, -0.5)
    return Volume(spaces.resample(data, affine, tuple(shape), fine, order="label"), fine)
