"""Islands and handles of label maps, on maps whose topology is known."""

from __future__ import annotations

import numpy as np
import pytest

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
