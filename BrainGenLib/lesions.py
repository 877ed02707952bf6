"""What is known of pathologies beforehand: their order, the tissue that they affect, the places to ask for."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.reading.volume import read_volume
from BrainGenLib.requests import Location
from BrainGenLib.spaces import GRID_2MM, resources

PATHOLOGIES = list(anatomy.lesions())
STRUCTURES = len(anatomy.labels()) - len(PATHOLOGIES)
"""Number of classes that are not lesions, background among them; lesion classes follow them."""

GLIOMA = ("tumour", "enhancing", "oedema")
"""Three parts of one mass, from the inside out."""
DISPLACING = (*GLIOMA, "stroke")
"""Pathologies that push the brain around them aside."""
SCATTERED = ("wmh", "ms")
"""Pathologies of many small lesions; the others are one or a few large ones."""

LOBES = ("frontal", "parietal", "temporal", "occipital", "central", "cerebellum", "brainstem")
"""In the order of the values 1 … 7 of ``Resources/Templates/lobes_2mm.nii.gz``."""

VOXEL_ML = GRID_2MM.spacing**3 / 1000


def affected_classes(pathology: str) -> list[int]:
    """Where a pathology is placed: white matter for WMH and MS, cerebrum for masses, the whole brain for strokes."""

    def named(*names: str) -> list[int]:
        return [index for name in names for index in anatomy.classes_of(name=name)]

    white = named("cerebral white matter")
    if pathology in SCATTERED:
        return white
    cerebrum = white + named("cerebral cortex", "hippocampus", "amygdala") + anatomy.classes_of(tissue="deep_gm")
    if pathology in GLIOMA:
        return cerebrum
    return cerebrum + named("cerebellar white matter", "cerebellar cortex", "brainstem")


def split_lesions(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A class map as (anatomy, lesions), both uint8 on its grid.

    Lesions are numbered 1 … in the order of :data:`PATHOLOGIES`. The anatomy below a lesion is that of the nearest
    voxel that is neither lesion nor fluid nor background.
    """
    is_lesion = classes >= STRUCTURES
    lesions = np.where(is_lesion, classes - (STRUCTURES - 1), 0).astype(np.uint8)
    if not is_lesion.any():
        return classes, lesions
    tissue = np.isin(classes, [c for kind in ("wm", "gm", "deep_gm") for c in anatomy.classes_of(tissue=kind)])
    nearest = ndimage.distance_transform_edt(~tissue, return_distances=False, return_indices=True)
    return np.where(is_lesion, classes[tuple(nearest)], classes).astype(np.uint8), lesions


def volumes_ml(classes: np.ndarray) -> dict[str, float]:
    """Volume of every pathology in a class map on GRID_1MM."""
    return {name: np.count_nonzero(classes == label.index) / 1000 for name, label in anatomy.lesions().items()}


@cache
def lobe_atlas() -> np.ndarray:
    """The lobe of every voxel of GRID_2MM (uint8, 1 + its index in :data:`LOBES`, 0 outside the brain)."""
    return read_volume(resources("Templates/lobes_2mm.nii.gz")).data.astype(np.uint8)


def region(location: Location) -> np.ndarray:
    """Voxels of GRID_2MM (bool) that a location admits; all of them if neither side nor lobe is given."""
    inside = np.ones(GRID_2MM.shape, bool)
    if location.lobe is not None:
        inside &= lobe_atlas() == LOBES.index(location.lobe) + 1
    middle = GRID_2MM.shape[0] // 2
    if location.side == "left":
        inside[middle:] = False
    elif location.side == "right":
        inside[:middle] = False
    return inside
