"""Mass effect: tissue moves aside and keeps its volume, fluid gives way."""

from __future__ import annotations

import time

import numpy as np
import pytest
from phantoms import phantom
from scipy import ndimage
from typer.testing import CliRunner

from BrainGenLib import anatomy, bundles, requests, sweeps
from BrainGenLib.cli import app
from BrainGenLib.engine import Engine
from BrainGenLib.errors import BadInput
from BrainGenLib.methods import mass_effect
from BrainGenLib.methods.mass_effect import MassEffect
from BrainGenLib.requests import Generate
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.verbs import generate as verb

FLUID = anatomy.classes_of(tissue="csf")
CENTRE, RADIUS = (-42, -20, 30), 20


def ball(centre=CENTRE, radius=RADIUS, grid=GRID_2MM) -> np.ndarray:
    """A ball, RAS mm."""
    axes = np.ix_(*(first + grid.spacing * np.arange(n) for first, n in zip(grid.origin, grid.shape, strict=True)))
    return sum((axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True)) <= radius**2


def box(*sides: tuple[float, float]) -> list[np.ndarray]:
    """Which planes of GRID_2MM lie between two places, mm, axis by axis."""
    grid = np.ix_(
        *(first + GRID_2MM.spacing * np.arange(n) for first, n in zip(GRID_2MM.origin, GRID_2MM.shape, strict=True))
    )
    return [(low < axis) & (axis < high) for axis, (low, high) in zip(grid, sides, strict=False)]


def sided(name: str, left: np.ndarray) -> np.ndarray:
    return np.where(left, *anatomy.classes_of(name=name))


def determinants(displacement: np.ndarray) -> np.ndarray:
    gradient = np.stack([np.stack(np.gradient(part, GRID_2MM.spacing)) for part in displacement])
    return np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3))


@pytest.fixture(scope="module")
def brain() -> np.ndarray:
    """White matter on GRID_2MM, slender ventricles on either side of a septum in it, fluid around it."""
    depth = ndimage.distance_transform_edt(phantom() > 0)
    x, y, z = box((-10, 10), (-40, 25), (5, 30))
    ventricles = x & y & z & ~box((-2, 2))[0]
    left = np.arange(GRID_2MM.shape[0])[:, None, None] < GRID_2MM.shape[0] // 2
    fluid = anatomy.classes_of(name="extraventricular CSF")[0]
    brain = np.select([depth > 2, depth > 0], [sided("cerebral white matter", left), fluid], 0)
    return np.where(ventricles & (brain > 0), sided("lateral ventricle", left), brain).astype(np.uint8)


@pytest.fixture(scope="module")
def lesion(brain) -> np.ndarray:
    return ball() & (brain > 0) & ~np.isin(brain, FLUID)


@pytest.fixture(scope="module")
def effect(brain, lesion) -> MassEffect:
    return mass_effect.of_lesion(brain, lesion, 4.0)


def test_tissue_moves_away_from_the_lesion_as_far_as_asked_for(effect, lesion):
    assert effect.obtained == pytest.approx(4.0, rel=0.25)
    # What lies on either side of it came from nearer to its middle.
    r, a, s = (
        round((middle - first) / GRID_2MM.spacing) for middle, first in zip(CENTRE, GRID_2MM.origin, strict=True)
    )
    beyond = RADIUS // 2 + 2
    assert effect.displacement[0, r + beyond, a, s] < -1
    assert effect.displacement[1, r, a + beyond, s] < -1 < 1 < effect.displacement[1, r, a - beyond, s]


def test_the_midline_shifts_to_the_other_side(brain, lesion, effect):
    assert 0.2 < effect.midline_shift < 4
    mirrored = np.array(anatomy.mirrored_classes(), np.uint8)[brain[::-1]]
    other = mass_effect.of_lesion(mirrored, lesion[::-1], 4.0)
    assert other.midline_shift == pytest.approx(-effect.midline_shift, rel=0.1)


def test_the_changed_map_shows_the_shift(brain):
    large = ball((-40, -10, 20), 28) & (brain > 0) & ~np.isin(brain, FLUID)
    effect = mass_effect.of_lesion(brain, large, 10.0)
    fine = brain.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    before, after = (mass_effect.septum(classes)[:, 0].mean() for classes in (fine, effect.labels(fine)))
    assert effect.midline_shift > 1
    assert after - before == pytest.approx(effect.midline_shift, rel=0.3)


def test_no_septum_no_shift(brain, lesion):
    solid = np.where(np.isin(brain, FLUID), anatomy.classes_of(name="cerebral white matter")[0], brain)
    effect = mass_effect.of_lesion(solid.astype(np.uint8), lesion, 4.0)
    assert effect.midline_shift is None
    # Without fluid all tissue gives way, and nothing folds.
    assert effect.obtained > 1
    assert determinants(effect.displacement).min() > 0


@pytest.mark.parametrize("millimetres", [2.0, 10.0])
def test_nothing_folds_and_tissue_keeps_its_volume(brain, lesion, millimetres):
    effect = mass_effect.of_lesion(brain, lesion, millimetres)
    assert determinants(effect.displacement).min() > 0
    core, growth = mass_effect._core(lesion.astype(np.float32), millimetres)
    assert growth > 0
    np.testing.assert_array_equal(effect.labels(brain) > 0, brain > 0)
    # Shares: whole voxels of 2 mm are larger than most displacements.
    fluid = np.isin(brain, FLUID).astype(np.float32)
    tissue = (brain > 0) - fluid
    assert (effect.image(tissue) * ~lesion).sum() == pytest.approx(tissue.sum() - core.sum(), rel=0.02)
    assert fluid.sum() - effect.image(fluid).sum() == pytest.approx(growth, rel=0.35)


def test_a_finer_map_and_images_move_with_it(brain, lesion, effect):
    fine = brain.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    same = mass_effect.of_lesion(fine, lesion.repeat(2, 0).repeat(2, 1).repeat(2, 2), 4.0)
    np.testing.assert_allclose(same.displacement, effect.displacement, atol=1e-4)
    moved = effect.labels(fine)
    assert moved.dtype == np.uint8
    assert (moved[::2, ::2, ::2] == effect.labels(brain)).mean() > 0.98
    fluid = np.isin(fine, FLUID).astype(np.float32)
    assert ((effect.image(fluid) > 0.5) == np.isin(moved, FLUID))[moved > 0].mean() > 0.999


def test_small_lesions_displace_no_more_than_they_can(brain):
    effect = mass_effect.of_lesion(brain, ball(radius=5) & (brain > 0), 10.0)
    assert effect.requested == 10
    assert 0 < effect.obtained < 3


def test_no_lesion_displaces_nothing(brain):
    effect = mass_effect.of_lesion(brain, np.zeros_like(brain, bool), 10.0)
    assert not effect.displacement.any()
    assert (effect.obtained, effect.midline_shift) == (0, 0)
    np.testing.assert_array_equal(effect.labels(brain), brain)


def test_a_whole_brain_takes_few_seconds(brain, lesion):
    fine = [volume.repeat(2, 0).repeat(2, 1).repeat(2, 2) for volume in (brain, lesion)]
    start = time.process_time()
    mass_effect.of_lesion(*fine, 4.0).labels(fine[0])
    # 3 seconds of one core that is not shared.
    assert time.process_time() - start < 12


def test_a_draft_makes_room_and_loads_stay_exact(tiny_bundles):
    asked = Generate(seed=3, pathologies={"tumour": 0.8, "wmh": 0.1}, device="cpu", draft=True, steps=2)
    still = Engine().run(asked.model_copy(update={"mass_effect": 0.0}))
    pushed = Engine().run(asked)
    assert "mass_effect_mm" not in still.measurements
    assert pushed.measurements["mass_effect_mm"]["requested"] == requests.MASS_EFFECT
    assert pushed.measurements["mass_effect_mm"]["obtained"] > 1
    assert pushed.measurements["obtained"] == still.measurements["obtained"]
    lesions = [label.value for label in anatomy.lesions().values()]
    np.testing.assert_array_equal(np.isin(pushed.labels, lesions), np.isin(still.labels, lesions))
    assert (pushed.labels != still.labels).sum() > 1000


def test_labels_and_tissue_that_are_rendered_have_moved(tiny_bundles, monkeypatch):
    rendered = []

    def image_of(work, renderer, classes, tissue, contrast, style, where):
        rendered.append((classes, tissue))
        return np.zeros(classes.shape, np.float32)

    monkeypatch.setattr(verb, "image_of", image_of)
    monkeypatch.setattr(MassEffect, "image", lambda effect, volume: np.full_like(volume, 7))
    case = Engine().run(Generate(seed=3, pathologies={"tumour": 0.8}, device="cpu", steps=2))
    assert case.measurements["obtained"]["tumour"] == pytest.approx(0.8, rel=0.02)
    assert case.measurements["mass_effect_mm"]["obtained"] > 1
    ((classes, tissue),) = rendered
    np.testing.assert_array_equal(anatomy.to_values(classes), case.labels)
    assert (tissue == 7).all()


def test_only_brains_of_labels_are_displaced(tiny_folder):
    with pytest.raises(BadInput, match="leave the mass effect out"):
        requests.check(
            Generate(bundle="brain-ldm", mass_effect=2.0), bundles.Bundle(tiny_folder / "brain-ldm").metadata
        )
    requests.check(Generate(bundle="brain-ldm"), bundles.Bundle(tiny_folder / "brain-ldm").metadata)
    with pytest.raises(BadInput, match="mass_effect: input should be less than or equal to 10, not 11"):
        requests.parse({"verb": "generate", "mass_effect": 11})


def test_a_sweep_may_be_over_it(tiny_bundles):
    labels, images = (bundles.find(name).metadata for name in ("brainspade3d", "brain-ldm"))
    sweep = requests.parse({"verb": "sweep", "of": {"verb": "generate"}, "over": "mass_effect", "values": [0, 4, 8]})
    assert [frame.mass_effect for frame in requests.frames(sweep, labels)] == [0, 4, 8]
    (axis,) = [one for one in sweeps.axes("generate", labels, ["T1w"]) if one.name == "mass_effect"]
    assert (axis.label, axis.unit, axis.minimum, axis.maximum) == ("mass effect", "mm", 0, requests.MOST_MASS_EFFECT)
    assert "mass_effect" not in requests.sweepable("generate", images)


def test_the_command_line_takes_millimetres(tmp_path):
    run = CliRunner().invoke(app, ["generate", "--out", str(tmp_path / "out"), "--mass-effect", "12"])
    assert run.exit_code == 2
    assert "mass_effect: input should be less than or equal to 10, not 12" in " ".join(run.stderr.split())
