"""What a view shows, rendered into its picture: names, and SYNTHETIC where anything in it was made by a model.

The text is read from the nodes of the view at the start of every rendering, so picture and text cannot come apart,
whatever changed the layers: this library, the page, or the controls of Slicer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from BrainGenLib.scene.case_to_scene import CASE, MAP, MARK, SYNTHETIC
from BrainGenLib.scene.maps import TITLES
from BrainGenLib.scene.segmentation import source_of
from BrainGenLib.scene.showing import nodes_of_class

_SIZE = 14
_COLOUR, _MARK_COLOUR = (1.0, 1.0, 1.0), (1.0, 0.45, 0.4)
_BEHIND = 0.6


@dataclass(frozen=True)
class Shown:
    """``name``: of what a view shows, empty if nothing; ``synthetic``: whether any of it was made by a model."""

    name: str
    synthetic: bool


def shown_in(view: Any) -> Shown:
    """What a view shows now.

    Args:
        view: vtkMRMLSliceNode or vtkMRMLViewNode of a scene.
    """
    volumes = _volumes_in(view) if view.IsA("vtkMRMLSliceNode") else _volumes_in_3d(view)
    segmentations = [
        node for node in nodes_of_class(view.GetScene(), "vtkMRMLSegmentationNode") if _visible(node, view)
    ]
    cases = {node.GetAttribute(CASE) for node in volumes} - {None}
    kinds = {node: node.GetAttribute(MAP) for node in volumes}
    names = [TITLES.get(kind, kind) or node.GetName().removesuffix(f" {MARK}") for node, kind in kinds.items()]
    # Outlines of the image's own case say nothing new.
    names += [_labels(node) for node in segmentations if node.GetAttribute(CASE) not in cases]
    sources = [source for source in map(source_of, segmentations) if source is not None]
    synthetic = any(map(_synthetic, (*volumes, *segmentations, *sources)))
    return Shown(" + ".join(dict.fromkeys(names)), synthetic)


class Annotation:
    """The text in the picture of one view, up to date at every rendering; it lasts as long as the window.

    Args:
        view: vtkMRMLSliceNode or vtkMRMLViewNode of a scene.
        window: vtkRenderWindow of the view, e.g. ``sliceWidget.sliceView().renderWindow()`` in Slicer.
        size: of the text, pixels.
        top: pixels between the upper edge of the picture and the text.
        marked_only: leave pictures without a text that show nothing SYNTHETIC.
    """

    def __init__(self, view: Any, window: Any, size: int = _SIZE, top: int = 4, *, marked_only: bool = False) -> None:
        import vtk

        self._view, self._size, self._top, self._marked_only = view, size, top, marked_only
        # Above all that views show, and out of the way of their interaction.
        self._renderer = vtk.vtkRenderer()
        self._renderer.SetLayer(window.GetNumberOfLayers())
        self._renderer.InteractiveOff()
        window.SetNumberOfLayers(window.GetNumberOfLayers() + 1)
        window.AddRenderer(self._renderer)
        self._name, self._mark = (self._text(colour) for colour in (_COLOUR, _MARK_COLOUR))
        self._mark.GetTextProperty().BoldOn()
        window.AddObserver("StartEvent", self._update)

    @property
    def text(self) -> str:
        """What the last picture says."""
        return " ".join(filter(None, (self._name.GetInput(), self._mark.GetInput()))).replace(r"\$", "$")

    def _update(self, window: Any, _event: str) -> None:
        shown = shown_in(self._view)
        if self._marked_only and not shown.synthetic:
            shown = Shown("", False)
        width, height = window.GetSize()
        name = _fitted(printable(shown.name), self._name.GetTextProperty(), width)
        for line, (actor, text) in enumerate(((self._name, name), (self._mark, MARK if shown.synthetic else ""))):
            # Between two dollar signs VTK would set formulas.
            actor.SetInput(text.replace("$", r"\$"))
            actor.SetVisibility(bool(text))
            actor.SetDisplayPosition(width // 2, height - self._top - round(1.4 * self._size * line))

    def _text(self, colour: tuple[float, float, float]) -> Any:
        import vtk

        actor = vtk.vtkTextActor()
        look = actor.GetTextProperty()
        look.SetFontSize(self._size)
        look.SetColor(*colour)
        look.SetBackgroundColor(0, 0, 0)
        look.SetBackgroundOpacity(_BEHIND)
        look.SetJustificationToCentered()
        look.SetVerticalJustificationToTop()
        self._renderer.AddViewProp(actor)
        return actor


def printable(name: str) -> str:
    """A name with a question mark for each character that VTK's font lacks, as of Chinese: it would be left out."""
    return "".join(character if _in_font(character) else "?" for character in name)


@lru_cache(4096)
def _in_font(character: str) -> bool:
    import vtk

    look = vtk.vtkTextProperty()
    # At that size the narrowest is wider than nothing.
    look.SetFontSize(48)
    return character == " " or _pixels(character.replace("$", "S"), look) > 1


def _fitted(name: str, look: Any, width: int) -> str:
    """A name without its middle where it is wider (pixels) than the picture: both ends tell names apart."""
    kept, text = len(name), name
    while kept > 2 and _pixels(text.replace("$", "S"), look) > width:
        kept -= max(1, kept // 20)
        text = f"{name[: kept - kept // 2]}...{name[len(name) - kept // 2 :]}"
    return text


def _pixels(text: str, look: Any) -> int:
    """Width of a text."""
    import vtk

    box = [0, 0, 0, 0]
    vtk.vtkTextRenderer.GetInstance().GetBoundingBox(look, text, box, 72)
    return box[1] - box[0]


def _synthetic(node: Any) -> bool:
    """Whether a model made it: so it is marked, or its name says so, as that of a file that Slicer saved."""
    return node.GetAttribute(SYNTHETIC) == MARK or MARK in (node.GetName() or "")


def _volumes_in(view: Any) -> list[Any]:
    """The volumes in the layers of a slice view that can be seen."""
    scene = view.GetScene()
    for composite in nodes_of_class(scene, "vtkMRMLSliceCompositeNode"):
        if composite.GetLayoutName() == view.GetLayoutName():
            layers = [composite.GetBackgroundVolumeID()]
            if composite.GetForegroundOpacity() > 0:
                layers.append(composite.GetForegroundVolumeID())
            if composite.GetLabelOpacity() > 0:
                layers.append(composite.GetLabelVolumeID())
            return [node for node in (scene.GetNodeByID(layer) for layer in layers if layer) if node is not None]
    return []


def _volumes_in_3d(view: Any) -> list[Any]:
    """The volumes that a 3D view shows: in slices that stand in it, or rendered as a whole."""
    scene = view.GetScene()
    slices = [
        node for node in nodes_of_class(scene, "vtkMRMLSliceNode") if node.IsDisplayableInThreeDView(view.GetID())
    ]
    found = [volume for node in slices if node.GetSliceVisible() for volume in _volumes_in(node)]
    for volume in nodes_of_class(scene, "vtkMRMLScalarVolumeNode"):
        displays = [volume.GetNthDisplayNode(index) for index in range(volume.GetNumberOfDisplayNodes())]
        rendered = [display for display in displays if display and display.IsA("vtkMRMLVolumeRenderingDisplayNode")]
        if any(one.GetVisibility() and one.IsDisplayableInView(view.GetID()) for one in rendered):
            found.append(volume)
    return list(dict.fromkeys(found))


def _visible(segmentation: Any, view: Any) -> bool:
    display = segmentation.GetDisplayNode()
    if display is None or not display.GetVisibility() or not display.IsDisplayableInView(view.GetID()):
        return False
    if view.IsA("vtkMRMLSliceNode"):
        return bool(display.GetVisibility2DFill() or display.GetVisibility2DOutline())
    return bool(display.GetVisibility3D())


def _labels(segmentation: Any) -> str:
    case = segmentation.GetAttribute(CASE)
    return f"{case} labels" if case else segmentation.GetName()
