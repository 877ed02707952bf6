"""A picture of a scene without a window: Slicer's own displayable managers drawn offscreen."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from BrainGenLib.errors import BadInput
from BrainGenLib.scene.annotations import Annotation
from BrainGenLib.scene.bootstrap import Headless
from BrainGenLib.scene.views import FourUp

# Slices are drawn larger and averaged, because lines in slice views are not smoothed.
OVERSAMPLING = 2
_LINE_WIDTH = 1.5  # pixels of the picture
_SIDES = {"Red": "R", "Green": "R", "Yellow": "A"}  # what the left edge of the view is


def write_screenshot(stage: Headless, views: FourUp, path: Path) -> None:
    """Write the four views as one PNG, each with the name of what it shows and, where that is so, SYNTHETIC.

    Args:
        stage: the scene.
        views: its views; slices must be ``OVERSAMPLING`` times as large as they appear in the picture.
        path: of the PNG.

    Raises:
        BadInput: the machine has no library that draws offscreen.
    """
    for index in range(stage.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationDisplayNode")):
        display = stage.scene.GetNthNodeByClass(index, "vtkMRMLSegmentationDisplayNode")
        display.SetSliceIntersectionThickness(round(_LINE_WIDTH * OVERSAMPLING))
    slices = {name: _shrink(_slice(stage, logic, _SIDES[name])) for name, logic in views.slices.items()}
    threed = _threed(stage, views.threed, slices["Red"].shape[0])
    _write(path, np.vstack([np.hstack([slices["Red"], threed]), np.hstack([slices["Green"], slices["Yellow"]])]))


def _slice(stage: Headless, logic: Any, side: str) -> np.ndarray:
    import slicer
    import vtk

    pixels = logic.GetSliceNode().GetDimensions()[0]
    renderer, window = _window(pixels)
    renderer.GetActiveCamera().ParallelProjectionOn()
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    image = vtk.vtkActor2D()
    image.SetMapper(mapper)
    image.GetProperty().SetDisplayLocationToBackground()
    renderer.AddViewProp(image)
    _text(renderer, side, 0.03, 0.5, pixels // 24)
    Annotation(logic.GetSliceNode(), window, pixels // 32)
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    shown = _show(stage, factory, ["vtkMRMLSegmentationsDisplayableManager2D"], renderer, logic.GetSliceNode())
    return _pixels(window, shown)


def _threed(stage: Headless, view: Any, pixels: int) -> np.ndarray:
    import slicer

    renderer, window = _window(pixels)
    renderer.UseFXAAOn()
    Annotation(view, window, pixels // 32)
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    names = [
        "vtkMRMLCameraDisplayableManager",
        "vtkMRMLViewDisplayableManager",
        "vtkMRMLSegmentationsDisplayableManager3D",
    ]
    return _pixels(window, _show(stage, factory, names, renderer, view))


def render_window() -> Any:
    """A window that draws without a display, as all later ones of this process then do.

    Raises:
        BadInput: the machine has no library for it.
    """
    import vtk

    if sys.platform == "linux":
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    window = vtk.vtkRenderWindow()
    # VTK's last resort, with which it crashes where OSMesa is not installed.
    if window.GetClassName() == "vtkOSOpenGLRenderWindow" and not _loads("libOSMesa.so.8", "libOSMesa.so.6"):
        raise BadInput(
            "Drawing needs a library that works without a display; "
            "install one, e.g. `apt-get install libegl1 libgl1-mesa-dri`."
        )
    window.SetOffScreenRendering(True)
    return window


def _window(pixels: int) -> tuple[Any, Any]:
    import vtk

    renderer = vtk.vtkRenderer()
    window = render_window()
    window.SetMultiSamples(0)  # slow without a graphics card; slices are averaged and surfaces filtered instead
    window.SetSize(pixels, pixels)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()  # the displayable managers ask the window for one
    interactor.SetRenderWindow(window)
    interactor.Initialize()
    return renderer, window


def _loads(*libraries: str) -> bool:
    for library in libraries:
        with suppress(OSError):
            ctypes.CDLL(library)
            return True
    return False


def _show(stage: Headless, factory: Any, names: list[str], renderer: Any, view: Any) -> Any:
    """The displayable managers that put the scene's nodes into the renderer for as long as the result lives."""
    import slicer

    factory.SetMRMLApplicationLogic(stage.application)
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(view)
    return group


def _text(renderer: Any, text: str, x: float, y: float, size: int) -> None:
    import vtk

    actor = vtk.vtkTextActor()
    actor.SetInput(text)
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    actor.SetPosition(x, y)
    actor.GetTextProperty().SetFontSize(size)
    actor.GetTextProperty().SetColor(0.9, 0.9, 0.9)
    renderer.AddViewProp(actor)


def _pixels(window: Any, shown: Any) -> np.ndarray:
    """(height, width, 3) uint8 of what the window shows, first row on top."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    width, height, _ = grab.GetOutput().GetDimensions()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(height, width, 3)[::-1].copy()
    del shown
    window.Finalize()
    return pixels


def _shrink(picture: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    blocks = picture.reshape(height // OVERSAMPLING, OVERSAMPLING, width // OVERSAMPLING, OVERSAMPLING, 3)
    return blocks.mean((1, 3)).round().astype(np.uint8)


def _write(path: Path, picture: np.ndarray) -> None:
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    height, width, _ = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(picture[::-1]).reshape(-1, 3), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()
