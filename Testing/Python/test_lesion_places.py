"""Where focal lesions lie and spread when the label diffusion leaves it open."""

from __future__ import annotations

import numpy as np
import pytest
from phantoms import phantom
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.lesions import PATHOLOGIES, VOXEL_ML, region
from BrainGenLib.methods.lesion_loads import place_lesions
from BrainGenLib.requests import Location

WHITE = anatomy.classes_of(tissue="wm")
MASS = {"tumour": 6.0, "enhancing": 6.0, "oedema": 40.0}


@pytest.fixture(scope="module")
def structures() -> np.ndarray:
    """Cortex, white matter and ventricles with a cerebellum below and behind."""
    classes = phantom()
    left, right = anatomy.classes_of(name="cerebellar cortex")
    below = classes[:, :50, :34]
    middle = len(classes) // 2
    for side, index in ((below[:middle], left), (below[middle:], right)):
        side[side > 0] = index
    return classes


def placed(
    structures: np.ndarray,
    wanted: dict[str, float],
    seed: int,
    *likely: tuple[int, int, int],
    regions: dict[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Lesions of a decoder that says nothing but for likely places."""
    logits = np.zeros((1 + len(PATHOLOGIES), *structures.shape), np.float32)
    logits[0] = 6
    for place in likely:
        for name in wanted:
            logits[(PATHOLOGIES.index(name) + 1, *(slice(n - 3, n + 4) for n in place))] = 6
    regions = dict.fromkeys(PATHOLOGIES, region(Location())) | (regions or {})
    return place_lesions(logits, structures, wanted, regions, np.random.default_rng(seed))[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_glioma_is_one_mass_of_nested_parts_in_one_hemisphere(structures, seed):
    lesions = placed(structures, MASS, seed)
    parts = {name: lesions == PATHOLOGIES.index(name) + 1 for name in MASS}
    for name, millilitres in MASS.items():
        assert parts[name].sum() * VOXEL_ML == pytest.approx(millilitres, rel=0.05)
    sides = {anatomy.labels()[index].side for index in np.unique(structures[lesions > 0])}
    assert len(sides) == 1
    _, count = ndimage.label(lesions > 0, np.ones((3, 3, 3)))
    sizes = np.bincount(ndimage.label(lesions > 0, np.ones((3, 3, 3)))[0].ravel())[1:]
    assert sizes.max() / sizes.sum() > 0.9, count
    core = ndimage.distance_transform_edt(~parts["tumour"])
    assert core[parts["enhancing"]].mean() < core[parts["oedema"]].mean()


def test_oedema_spreads_along_white_matter(structures):
    lesions = placed(structures, MASS, 1)
    oedema, tumour = (lesions == PATHOLOGIES.index(name) + 1 for name in ("oedema", "tumour"))
    assert np.isin(structures[oedema], WHITE).mean() > 0.9
    assert tumour.any()
    # Where white matter has no room, it takes grey matter.
    large = placed(structures, {"oedema": 1.2 * np.isin(structures, WHITE).sum() * VOXEL_ML / 2}, 1)
    assert not np.isin(structures[large > 0], WHITE).all()


@pytest.mark.parametrize("place", [(25, 30, 20), (25, 66, 52)])
def test_a_stroke_stays_in_its_territory(structures, place):
    """In one hemisphere, or below the tentorium, also if the decoder finds other places likely too."""
    others = [(54, 66, 52), (25, 54, 40)]
    lesions = placed(structures, {"stroke": 60.0}, 4, place, *others)
    classes = [anatomy.labels()[index] for index in np.unique(structures[lesions > 0])]
    below = {label.name.endswith(("cerebellar cortex", "brainstem")) for label in classes}
    assert len(below) == 1
    if not below.pop():
        assert len({label.side for label in classes}) == 1
    sizes = np.bincount(ndimage.label(lesions > 0, np.ones((3, 3, 3)))[0].ravel())[1:]
    assert sizes.max() / sizes.sum() > 0.8


def test_what_is_asked_for_comes_before_what_is_likely(structures):
    """Parts of a mass on different sides, and a stroke larger than a hemisphere."""
    sides = {"tumour": region(Location(side="left")), "oedema": region(Location(side="right"))}
    lesions = placed(structures, MASS, 1, regions=sides)
    right = lesions[len(lesions) // 2 :] == PATHOLOGIES.index("oedema") + 1
    assert right.sum() * VOXEL_ML == pytest.approx(MASS["oedema"], rel=0.05)
    stroke = placed(structures, {"stroke": 1000.0}, 1)
    assert (stroke > 0).sum() * VOXEL_ML == pytest.approx(1000, rel=0.02)
