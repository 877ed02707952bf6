"""What lies over a view: its plane, what it shows (as in the picture itself), and the slider of a slice."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn, VIcon
from trame_server.utils.typed_state import TypedState
from trame_slicer.app.ui.slider import Slider, SliderState

from BrainGenLib.browser.stage import plane_of
from BrainGenLib.browser.state import ViewsState
from BrainGenLib.case import MARK

_COLORS = {"Red": "#F34A33", "Green": "#6DAD4A", "Yellow": "#EFD64D"}
_PLANES = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
# The left edge of the picture; radiologists look from the feet and from the front.
_LEFT = {"Red": "R", "Green": "R", "Yellow": "A"}


def draw_slice_view(server: Any, template: str, view: Any) -> None:
    """Called by trame-slicer for every slice view."""
    plane = plane_of(view.get_singleton_tag())
    with html.Div(classes="braingen-bar", style=f"border-top: 3px solid {_COLORS[plane]};"):
        html.Span(_PLANES[plane], classes="braingen-plane")
        _caption(server, view)
        _fit_button(view)
    html.Div(_LEFT[plane], classes="braingen-side")
    with html.Div(classes="braingen-slider"):
        Slider(
            typed_state=_follow(server, template, view),
            density="compact",
            color=_COLORS[plane],
            thumb_size=12,
            track_size=2,
        )


def draw_threed_view(server: Any, _template: str, view: Any) -> None:
    """Called by trame-slicer for every 3D view."""
    with html.Div(classes="braingen-bar", style="border-top: 3px solid #8f94c2;"):
        html.Span("3D", classes="braingen-plane")
        _caption(server, view)
        _fit_button(view)


def _follow(server: Any, template: str, view: Any) -> TypedState[SliderState]:
    """The state of a slider that moves a view, and those linked to it, and follows where they are moved otherwise."""
    import slicer

    typed: TypedState[SliderState] = TypedState(server.state, SliderState, namespace=template)

    def move(offset: float) -> None:
        # Linked views follow what a user does, not what a program does.
        node = view.get_view_node()
        node.SetInteractionFlags(slicer.vtkMRMLSliceNode.SliceToRASFlag)
        node.SetInteracting(True)
        with typed.suppress_change_listeners():
            view.set_slice_value(offset)
        node.SetInteracting(False)

    def show(_view: Any) -> None:
        with typed.suppress_change_listeners():
            typed.data.min_value, typed.data.max_value = view.get_slice_range()
            typed.data.step, typed.data.value = view.get_slice_step(), view.get_slice_value()

    typed.bind_changes({typed.name.value: move})
    view.modified.connect(show)
    show(view)
    return typed


def _caption(server: Any, view: Any) -> None:
    name = TypedState(server.state, ViewsState).name
    mark = f"({name.marks}['{view.get_singleton_tag()}'] || '')"
    with html.Span(classes="braingen-caption", role="status"):
        # A long name is cut off, what stands behind it never.
        html.Span(f"{{{{ {mark}.replace(/ ?{MARK}$/, '') }}}}")
        html.Span(f"{{{{ {mark}.endsWith('{MARK}') ? ' {MARK}' : '' }}}}")
    html.Span(style="flex: 1;")


def _fit_button(view: Any) -> None:
    with VBtn(size="x-small", variant="text", icon=True, click=view.reset_view, title="Show all of it"):
        VIcon("mdi-fit-to-screen-outline", size="small")
