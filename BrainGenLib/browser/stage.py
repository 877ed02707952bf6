"""The scene with its views: trame-slicer's stand-in for the application, laid out and named as Slicer does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from BrainGenLib.scene import changes

if TYPE_CHECKING:
    from trame_server import Server
    from trame_slicer.core import LayoutManager, SlicerApp
    from trame_slicer.views import Layout, ViewLayoutDefinition

FOUR_UP, TWO_ROWS, THREE_COLUMNS = "Four-up", "Two rows of three", "Three columns"
# The name of a view becomes part of a JavaScript variable, which may hold no plus sign.
_PLUS = "Plus"
COLUMNS = tuple(tuple(name.replace("+", _PLUS) for name in names) for names in changes.COLUMNS)
"""Three views for each of up to three volumes."""
_THREE_D = "ThreeD"
# The page's bar lies over the upper edge of the picture.
_BAR_PIXELS = 34
_MAX_FPS, _IDLE_FPS = 20.0, 10.0


class Stage:
    """A scene of its own and the views on it.

    Attributes:
        app: trame-slicer's application.
        layouts: its layouts, :data:`FOUR_UP`, :data:`TWO_ROWS` and :data:`THREE_COLUMNS`.

    Raises:
        BadInput: the machine has no library that draws without a display.
    """

    def __init__(self, server: Server) -> None:
        import slicer
        import vtk
        from trame_slicer.core import LayoutManager, SlicerApp
        from trame_slicer.rca_view import register_rca_factories
        from trame_slicer.views import vue_layout_to_slicer

        from BrainGenLib.browser.ui.view import draw_slice_view, draw_threed_view
        from BrainGenLib.scene.annotations import Annotation
        from BrainGenLib.scene.screenshot import render_window

        render_window()
        # trame-slicer asks for an event that VTK gives up; one line for every view would bury what matters.
        vtk.vtkObject.GlobalWarningDisplayOff()
        self.app: SlicerApp = SlicerApp()
        self.scene: Any = self.app.scene
        # Slicer's node for the arrangement of views: what compares two cases writes to it.
        self.arrangement: Any = self.scene.AddNewNodeByClass("vtkMRMLLayoutNode")
        register_rca_factories(
            self.app.view_manager,
            server,
            slice_view_ui_f=draw_slice_view,
            three_d_view_ui_f=draw_threed_view,
            target_fps=_MAX_FPS,
            blur_fps=_IDLE_FPS,
            interactive_quality=70,
        )
        self.layouts: LayoutManager = LayoutManager(self.scene, self.app.view_manager, server)
        arrangements = {
            FOUR_UP: slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView,
            TWO_ROWS: slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView,
            THREE_COLUMNS: changes.LAYOUT,
        }
        for name, layout in _layouts().items():
            self.layouts.register_layout(name, layout)
            self.arrangement.AddLayoutDescription(arrangements[name], vue_layout_to_slicer(layout))
        for view in self.app.view_manager.get_views():
            # Without a graphics card a picture would take seconds.
            view.render_window().SetMultiSamples(0)
            view.first_renderer().SetUseDepthPeeling(False)
            Annotation(view.get_view_node(), view.render_window(), top=_BAR_PIXELS)
        for view in self.app.view_manager.get_threed_views():
            view.get_view_node().SetUseDepthPeeling(False)
        vtk.vtkObject.GlobalWarningDisplayOn()


def plane_of(view: str) -> str:
    """The name of the view of the first volume that shows the same plane."""
    return view.partition(_PLUS)[0]


def _layouts() -> dict[str, Layout]:
    from trame_slicer.views import Layout, LayoutDirection, ViewLayoutDefinition

    make = (
        ViewLayoutDefinition.axial_view,
        ViewLayoutDefinition.coronal_view,
        ViewLayoutDefinition.sagittal_view,
    )
    first, second, third = ([one(label=name) for one, name in zip(make, row, strict=True)] for row in COLUMNS)
    threed: ViewLayoutDefinition = ViewLayoutDefinition.threed_view(
        name=_THREE_D, background_color=("#c3c8e6", "#7478a8")
    )
    across, down = LayoutDirection.Horizontal, LayoutDirection.Vertical
    return {
        FOUR_UP: Layout(down, [Layout(across, [first[0], threed]), Layout(across, [first[1], first[2]])]),
        TWO_ROWS: Layout(down, [Layout(across, list(first)), Layout(across, list(second))]),
        THREE_COLUMNS: Layout(down, [Layout(across, list(row)) for row in zip(first, second, third, strict=True)]),
    }
