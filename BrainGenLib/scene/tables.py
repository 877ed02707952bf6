"""Columns of text and numbers into table nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def add_table(scene: Any, columns: Mapping[str, Sequence[str] | Sequence[float]], name: str) -> Any:
    """A table node.

    Args:
        scene: vtkMRMLScene.
        columns: by their names, of one length.
        name: of the node.
    """
    import vtk

    node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    for title, values in columns.items():
        array = vtk.vtkStringArray() if isinstance(values[0], str) else vtk.vtkDoubleArray()
        array.SetName(title)
        for value in values:
            array.InsertNextValue(value)
        node.AddColumn(array)
    return node
