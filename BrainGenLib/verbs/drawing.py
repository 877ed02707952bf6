"""What several verbs draw with: soft tissue, image and style of the renderer."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from BrainGenLib import morphometry, spaces
from BrainGenLib.errors import BadInput
from BrainGenLib.methods import brainspade, segmentation, soft_tissue
from BrainGenLib.methods.lesion_texture import LesionTexture
from BrainGenLib.reading.scans import above_air, read_scan
from BrainGenLib.verbs.work import Work


def tissue_of(work: Work, renderer: Any, classes: np.ndarray) -> np.ndarray:
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


def image_of(
    work: Work,
    renderer: Any,
    classes: np.ndarray,
    tissue: np.ndarray,
    contrast: str,
    style: np.ndarray | None,
    where: np.ndarray | None = None,
) -> np.ndarray:
    """A rendered image, with lesions as scans show them; ``where`` is that of :func:`brainspade.render`."""
    # A seed per contrast: with one for all, T1w and FLAIR would carry the same noise.
    seed = (work.request.seed + zlib.crc32(contrast.encode())) % 2**32
    report = work.stage(f"rendering {contrast}")
    image = brainspade.render(renderer, classes, tissue, contrast, style=style, seed=seed, report=report, where=where)
    # With one seed for all: contrasts differ from place to place alike.
    return LesionTexture(classes, work.request.seed).on(image, contrast)


def style_of(work: Work, renderer: Any) -> np.ndarray | None:
    """The style code of the reference scan, which may be a whole head in any grid."""
    if work.request.style is None:
        return None
    path = work.inputs / work.request.style
    report = work.stage("style")
    scan = read_scan(path)
    data, affine = spaces.canonical(above_air(scan.data), scan.affine)
    try:
        report.step("registration", 0, 1)
        registration, brain = placed = segmentation.brain_or_head(data, affine)
        if brain is None:
            segmenter = work.open(segmentation.Segmenter, work.bundle("segmenter"))
            found = segmentation.segment(segmenter, data, affine, report, placed)
            mask, matrix = morphometry.brain_mask(found.classes), found.template_to_scan
        else:
            matrix = registration.template_to_scan
            mask = spaces.to_grid(brain, affine, spaces.GRID_1MM, template_to_scan=matrix, order=0) > 0
    except ValueError as error:
        raise BadInput(f"{path.name} cannot be used as style: {error}") from error
    image = spaces.to_grid(data, affine, spaces.GRID_1MM, template_to_scan=matrix)
    scaled = np.clip(image / max(np.percentile(image[mask], 99.5), np.finfo(np.float32).tiny), 0, 1)
    return brainspade.encode_style(renderer, np.where(mask, scaled, 0).astype(np.float32))
