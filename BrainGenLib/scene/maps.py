"""What is laid over an image: signed volumes, such as the difference to another image, in two colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from BrainGenLib.scene.volumes import add_volume

COLOURS = "BrainGen change"
_NUMBER = 255  # odd, so that the middle is 0
_LESS, _MORE = (0.13, 0.40, 0.90), (0.90, 0.20, 0.12)


def add_map(scene: Any, volume: np.ndarray, affine: np.ndarray, name: str) -> Any:
    """A volume node in which less than 0 is blue, more is red, and 0 is black: to be added to the image below.

    Args:
        scene: vtkMRMLScene.
        volume, affine, name: as of :func:`BrainGenLib.scene.volumes.add_volume`.
    """
    node = add_volume(scene, volume, affine, name)
    node.GetDisplayNode().SetAndObserveColorNodeID(_colours(scene).GetID())
    fit_colours(node, [volume])
    return node


def fit_colours(node: Any, volumes: Sequence[np.ndarray]) -> None:
    """Show half of the largest change of these volumes in full colour."""
    top = max(float(np.abs(volume[::2, ::2, ::2]).max()) / 2 for volume in volumes)
    node.GetDisplayNode().SetWindowLevelMinMax(-max(top, 1e-6), max(top, 1e-6))


def _colours(scene: Any) -> Any:
    """The colour table, made once per scene."""
    found = scene.GetFirstNodeByName(COLOURS)
    if found is not None:
        return found
    import slicer

    table = slicer.vtkMRMLColorTableNode()
    table.SetName(COLOURS)
    table.SetTypeToUser()
    table.SetNumberOfColors(_NUMBER)
    for index in range(_NUMBER):
        share = 2 * index / (_NUMBER - 1) - 1
        colour = _LESS if share < 0 else _MORE
        table.SetColor(index, f"{share:+.2f}", *(abs(share) * part for part in colour), 1.0)
    return scene.AddNode(table)
