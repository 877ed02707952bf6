"""What is laid over an image: signed volumes, such as the difference to another image, in two colours, and the map
of donors, each in a colour of its own."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np

from BrainGenLib.case import ATTRIBUTION
from BrainGenLib.scene.volumes import add_volume, volume_of

TITLES = {ATTRIBUTION: "whose anatomy"}
"""Of maps that are shown under another name than their own."""
COLOURS = "BrainGen change"
_DONORS, _DONOR_OPACITY = "BrainGen donors", 0.5
_GOLDEN = 0.618  # of the circle of hues: neighbours in the list differ most
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


def donors_of(values: np.ndarray, affine: np.ndarray) -> Any:
    """The map of donors as a label map volume node that is in no scene; arguments as of :func:`add_map`."""
    return volume_of(values, affine, "vtkMRMLLabelMapVolumeNode")


def add_donors(scene: Any, values: np.ndarray, affine: np.ndarray, name: str, donors: Sequence[str]) -> Any:
    """A label map volume node of the map of donors, for the label layer of views.

    Args:
        scene: vtkMRMLScene.
        values: (R, A, S) uint16, the number of the donor, from 1; 0 for nobody.
        affine, name: as of :func:`add_map`.
        donors: their names.
    """
    import slicer

    node = donors_of(values, affine)
    node.SetName(name)
    scene.AddNode(node)
    display = slicer.vtkMRMLLabelMapVolumeDisplayNode()
    scene.AddNode(display)
    display.SetAndObserveColorNodeID(_donor_colours(scene, donors).GetID())
    node.SetAndObserveDisplayNodeID(display.GetID())
    return node


def _donor_colours(scene: Any, donors: Sequence[str]) -> Any:
    """The colour table whose entries have the names of these donors, made once per scene."""
    entries = ["nobody", *donors]
    tables = scene.GetNodesByName(_DONORS)
    for index in range(tables.GetNumberOfItems()):
        table = tables.GetItemAsObject(index)
        if [table.GetColorName(number) for number in range(table.GetNumberOfColors())] == entries:
            return table
    import slicer

    table = slicer.vtkMRMLColorTableNode()
    table.SetName(_DONORS)
    table.SetTypeToUser()
    table.SetNumberOfColors(len(entries))
    table.SetColor(0, entries[0], 0.0, 0.0, 0.0, 0.0)
    for number, donor in enumerate(donors, 1):
        colour = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.75, 0.6 if number % 2 else 1.0)
        table.SetColor(number, donor, *colour, _DONOR_OPACITY)
    return scene.AddNode(table)


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
