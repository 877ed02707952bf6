"""Islands and handles of label maps, on maps whose topology is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from BrainGenLib import anatomy
from BrainGenLib.methods import topology

(WHITE,) = anatomy.classes_of(name="left cerebral white matter")[:1]
(CORTEX,) = anatomy.classes_of(name="left cerebral cortex")[:1]


def euler(mask: np.ndarray) -> int:
    """Vertices - edges + faces - cubes of closed voxels."""
    m = np.pad(mask, 1)
    total = -int(m.sum())
    for axes, sign in (((0,), 1), ((1,), 1), ((2,), 1), ((0, 1), -1), ((0, 2), -1), ((1, 2), -1), ((0, 1, 2), 1)):
        cells = m
        for axis in axes:
            cells = np.take(cells, range(cells.shape[axis] - 1), axis) | np.take(
                cells, range(1, cells.shape[axis]), axis
            )
        total += sign * int(cells.sum())
    return total


@pytest.fixture
def ball() -> np.ndarray:
    """White matter in cortex, with a bridge of white matter 2 voxels thick over the cortex."""
    x, y, z = np.indices((48, 48, 48)) - 24
    r = np.sqrt(x**2 + y**2 + z**2)
    classes = np.where(r < 12, WHITE, np.where(r < 18, CORTEX, 0)).astype(np.uint8)
    bridge = (np.abs(np.hypot(y, z) - 14.5) < 1) & (np.abs(x) < 1.5) & (y > 0) & (np.abs(z) < 9)
    feet = (np.abs(np.abs(z) - 8) < 1.5) & (np.abs(x) < 1.5) & (y > 0) & (r < 16)
    classes[bridge | feet] = WHITE
    return classes


def test_handles_are_cut(ball: np.ndarray) -> None:
    assert euler(ball == WHITE) == 0
    cut = topology.without_handles(ball)
    assert euler(cut == WHITE) == 1
    changed = cut != ball
    assert 0 < changed.sum() < 40
    assert (cut[changed] == CORTEX).all()


def test_without_handles_nothing_changes(ball: np.ndarray) -> None:
    whole = topology.without_handles(ball)
    np.testing.assert_array_equal(topology.without_handles(whole), whole)
    np.testing.assert_array_equal(topology.without_handles(np.zeros((4, 4, 4), np.uint8)), 0)


def test_islands_go_to_their_surroundings(ball: np.ndarray) -> None:
    speckled = ball.copy()
    speckled[24, 24, 24] = CORTEX
    speckled[24:26, 24, 40] = WHITE
    clean = topology.without_islands(speckled)
    assert clean[24, 24, 24] == WHITE
    assert clean[24, 24, 40] == ball[24, 24, 40]
    np.testing.assert_array_equal(topology.without_islands(ball), ball)


def test_islands_go_to_the_nearest_voxel_that_stays() -> None:
    rng = np.random.default_rng(0)
    classes = np.full((30, 30, 30), CORTEX, np.uint8)
    classes[15:] = WHITE
    # At the border of the grid, too, and next to each other.
    for corner in rng.integers(0, 27, (40, 3)):
        i, j, k = (int(at) for at in corner)
        classes[i : i + 3, j : j + 2, k : k + 3] = anatomy.classes_of(tissue="deep_gm")[0]
    # Of a structure that lies elsewhere, too: its parts here are islands, not its largest.
    classes[2:9, 2:9, 2:9] = anatomy.classes_of(tissue="deep_gm")[0]
    clean = topology.without_islands(classes)
    changed = clean != classes
    assert changed.sum() > 100
    stays = np.argwhere(~changed)
    for at in np.argwhere(changed)[::7]:
        apart = np.square(stays - at).sum(1)
        assert clean[tuple(at)] in {classes[tuple(place)] for place in stays[apart == apart.min()]}


def test_simple_places_are_those_of_one_part_inside_and_one_outside() -> None:
    """Every neighbourhood of 200: by connected parts as scipy labels them."""
    kernels = pytest.importorskip("BrainGenLib.methods.topology_kernels")
    rng = np.random.default_rng(1)
    faces = ndimage.generate_binary_structure(3, 1)
    corner = np.abs(np.indices((3, 3, 3)) - 1).sum(0) == 3
    beside = np.abs(np.indices((3, 3, 3)) - 1).sum(0) == 1
    bits = 1 << np.arange(27)
    outcomes = set()
    for _ in range(200):
        near = rng.random((3, 3, 3)) < rng.choice([0.2, 0.5, 0.8])
        near[1, 1, 1] = False
        outside = ~near
        outside[1, 1, 1] = False
        _, count = ndimage.label(near, np.ones((3, 3, 3)))
        one_inside = count == 1
        parts, _ = ndimage.label(outside & ~corner, faces)
        one_outside = len(set(parts[beside].tolist()) - {0}) == 1
        found = (
            kernels.one_part(int(near.ravel() @ bits), kernels.CORNERS, (1 << 27) - 1),
            kernels.one_part(int(outside.ravel() @ bits), kernels.FACES, kernels.BESIDE),
        )
        assert found == (one_inside, one_outside)
        outcomes.add(found)
    assert len(outcomes) == 4
