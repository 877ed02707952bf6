"""Arrays into volume nodes: MRML keeps arrays as (S, A, R), and axes at right angles that form a right hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg import polar

from BrainGenLib.errors import BadInput


def add_volume(scene: Any, volume: np.ndarray, affine: np.ndarray, name: str) -> Any:
    """A scalar volume node with its display node, in a grey window from air to the brightest 0.2 % of tissue.

    A left-handed grid is stored with its last axis turned round, as Slicer does when it reads a file.

    Args:
        scene: vtkMRMLScene.
        volume: (R, A, S) array, float32 or an integer type up to 32 bit.
        affine: 4×4 voxel-to-RAS matrix, mm.
        name: of the node.

    Raises:
        BadInput: the affine is sheared, which no volume node can hold.
    """
    import slicer

    node = volume_of(volume, affine)
    node.SetName(name)
    scene.AddNode(node)
    # Not CreateDefaultDisplayNodes: it would search the whole volume for a window that is known here.
    display = slicer.vtkMRMLScalarVolumeDisplayNode()
    display.SetDefaultColorMap()
    display.AutoWindowLevelOff()
    scene.AddNode(display)
    node.SetAndObserveDisplayNodeID(display.GetID())
    fit_window(node, [volume])
    return node


def volume_of(volume: np.ndarray, affine: np.ndarray, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
    """A volume node of a class that is in no scene; other arguments and errors as of :func:`add_volume`."""
    import slicer

    volume, affine = right_handed(volume, affine)
    node = getattr(slicer, kind)()
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(volume.T))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
    return node


def fit_window(node: Any, volumes: Sequence[np.ndarray]) -> None:
    """Set a grey window in which all of these volumes can be seen."""
    lows, highs = zip(*map(_window, volumes), strict=True)
    node.GetDisplayNode().SetWindowLevelMinMax(min(lows), max(highs))


def right_handed(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A volume and its affine as nodes can hold them; a left-handed grid gets its last axis turned round.

    Raises:
        BadInput: the affine is sheared.
    """
    affine = _orthonormal(affine)
    return turned(volume, affine) if is_left_handed(affine) else (volume, affine)


def is_left_handed(affine: np.ndarray) -> bool:
    """Whether the axes of a grid form a left hand, which nodes cannot hold."""
    return bool(np.linalg.det(affine[:3, :3]) < 0)


def turned(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A volume with its last axis turned round, where it was in the world; twice, it is as before."""
    affine = affine.copy()
    affine[:3, 3] += affine[:3, 2] * (volume.shape[2] - 1)
    affine[:3, 2] *= -1
    return np.flip(volume, 2), affine


def _window(volume: np.ndarray) -> tuple[float, float]:
    # Every second voxel tells as much, in an eighth of the time that a front end would stand still.
    volume = volume[::2, ::2, ::2]
    tissue = volume[volume > volume.min()]
    return min(0.0, float(volume.min())), float(np.quantile(tissue, 0.998)) if tissue.size else 1.0


def affine_of(node: Any) -> np.ndarray:
    """4×4 voxel-to-RAS matrix of a volume node, mm."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def world_affine(node: Any) -> np.ndarray:
    """4×4 voxel-to-world matrix of a volume node, mm: where its transforms put it.

    Raises:
        BadInput: a transform above it is not linear.
    """
    return to_world(node) @ affine_of(node)


def to_world(node: Any) -> np.ndarray:
    """4×4 matrix of the transforms above a node, mm.

    Raises:
        BadInput: one of them is not linear.
    """
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    if not slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(node.GetParentTransformNode(), None, matrix):
        raise BadInput(f"{node.GetName()!r} lies under a transform that is not linear; harden it first.")
    return slicer.util.arrayFromVTKMatrix(matrix)


def _orthonormal(affine: np.ndarray) -> np.ndarray:
    """The affine without the rounding error of its file header."""
    affine = np.asarray(affine, float)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    exact, _ = polar(directions)
    if np.abs(directions - exact).max() > 1e-3:
        raise BadInput(
            "The scan's axes are not at right angles, which Slicer cannot show; resample it to a plain grid."
        )
    clean = affine.copy()
    clean[:3, :3] = exact * spacing
    return clean
