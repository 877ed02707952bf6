"""What lies over a view: its plane, what it shows (as in the picture itself), and the slider of a slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from trame.widgets import html
from trame.widgets.vuetify3 import VBtn, VIcon
from trame_server.utils.typed_state import TypedState
from trame_slicer.app.ui.slider import Slider, SliderState

from BrainGenLib.browser.stage import plane_of
from BrainGenLib.browser.state import ViewsState
from BrainGenLib.case import MARK
from BrainGenLib.scene.showing import nodes_of_class

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
    """The state of a slider that moves a view, and those linked to it, and follows where they are moved elsewhere."""
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
            typed.data.min_value, typed.data.max_value = slice_range(view)
            typed.data.step, typed.data.value = view.get_slice_step(), view.get_slice_value()

    typed.bind_changes({typed.name.value: move})
    view.modified.connect(show)
    show(view)
    return typed


def slice_range(view: Any) -> tuple[float, float]:
    """From where to where, in mm, a slice view can be moved: in its volume, or in labels that stand alone."""
    node = view.get_view_node()
    alone = [
        segmentation
        for segmentation in nodes_of_class(node.GetScene(), "vtkMRMLSegmentationNode")
        if segmentation.GetDisplayNode() is not None and segmentation.GetDisplayNode().GetVisibility()
    ]
    if view.get_background_volume_id() or not alone:
        return view.get_slice_range()
    bounds = np.zeros(6)
    alone[-1].GetRASBounds(bounds)
    normal = [node.GetSliceToRAS().GetElement(axis, 2) for axis in range(3)]
    ends = np.sort(bounds.reshape(3, 2) * np.array(normal)[:, None], axis=1).sum(0)
    return float(ends[0]), float(ends[1])


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
