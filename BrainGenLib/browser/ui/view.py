"""What lies over a view: its name, what it shows, the word SYNTHETIC, and the slider of a slice."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn, VIcon
from trame_server.utils.typed_state import TypedState
from trame_slicer.app.logic.slice_view_logic import connect_slice_view_slider_to_state
from trame_slicer.app.ui.slider import Slider

from BrainGenLib.browser.state import ViewsState
from BrainGenLib.scene.case_to_scene import MARK

_COLORS = {"Red": "#F34A33", "Green": "#6DAD4A", "Yellow": "#EFD64D"}
_PLANES = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
# The left edge of the picture; radiologists look from the feet and from the front.
_LEFT = {"Red": "R", "Green": "R", "Yellow": "A"}


def draw_slice_view(server: Any, _template: str, view: Any) -> None:
    """Called by trame-slicer for every slice view."""
    plane = view.get_singleton_tag().rstrip("+")
    with html.Div(classes="braingen-bar", style=f"border-top: 3px solid {_COLORS[plane]};"):
        html.Span(_PLANES[plane], classes="braingen-plane")
        _caption(server, view)
        _fit_button(view)
    html.Div(_LEFT[plane], classes="braingen-side")
    _chip(server, view)
    with html.Div(classes="braingen-slider"):
        Slider(
            typed_state=connect_slice_view_slider_to_state(server, view),
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
    _chip(server, view)


def _caption(server: Any, view: Any) -> None:
    name = TypedState(server.state, ViewsState).name
    html.Span(f"{{{{ {name.marks}['{view.get_singleton_tag()}'] }}}}", classes="braingen-caption")


def _fit_button(view: Any) -> None:
    with VBtn(size="x-small", variant="text", icon=True, click=view.reset_view, title="Show all of it"):
        VIcon("mdi-fit-to-screen-outline", size="small")


def _chip(server: Any, view: Any) -> None:
    name = TypedState(server.state, ViewsState).name
    shown = f"{name.synthetic}['{view.get_singleton_tag()}']"
    html.Div(MARK, v_if=(shown,), classes="braingen-synthetic")
