"""Render from segmentation: choose one, erase what should not be there, make the image."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn, VIcon
from trame_server.utils.typed_state import TypedState
from undo_stack import Signal

from BrainGenLib.browser.state import GenerateState, RenderState, SceneState
from BrainGenLib.browser.ui.parts import Section, caption, check_boxes, choose, run_button


class RenderUI:
    render_clicked = Signal()
    cancel_clicked = Signal()
    erase_clicked = Signal(str)
    restore_clicked = Signal(str)
    segmentation_chosen = Signal(str)

    def __init__(self, server: Any) -> None:
        name = TypedState(server.state, RenderState).name
        nodes = TypedState(server.state, SceneState).name
        offered = TypedState(server.state, GenerateState).name
        with Section("Render from segmentation", "render").body:
            choose(
                name.segmentation,
                nodes.segmentations,
                "choose a segmentation",
                change=(self.segmentation_chosen, "[$event.target.value]"),
                id="braingen-render-segmentation",
            )
            with html.Div(v_if=(f"{name.segments}.length + {name.erased}.length",)):
                caption("Segments")
                with html.Div(classes="braingen-list", id="braingen-segments"):
                    self._segments(name.erased, self.restore_clicked, "mdi-undo", "Restore", "opacity: .45;")
                    self._segments(name.segments, self.erase_clicked, "mdi-delete-outline", "Erase", "")
            caption("Contrasts")
            check_boxes(name.contrasts, offered.known_contrasts)
            with html.Div(classes="braingen-row mt-2", style="grid-template-columns: 118px 1fr;"):
                html.Label("Style of")
                choose(name.style, nodes.volumes, "the contrast's own look")
            html.Div(f"{{{{ {name.refused} }}}}", v_if=(name.refused,), classes="braingen-note mt-1")
            run_button(
                server,
                "'Render'",
                "render",
                self.render_clicked,
                self.cancel_clicked,
                f"!{name.refused} && {name.segmentation} && {name.contrasts}.length",
            )

    def _segments(self, rows: str, clicked: Signal, icon: str, verb: str, style: str) -> None:
        with html.Div(v_for=(f"segment in {rows}",), key="segment.id", classes="braingen-item"):
            html.Span(classes="braingen-swatch", style=("{ background: segment.color }",))
            html.Span("{{ segment.name }}", style=f"flex: 1; {style}")
            with VBtn(
                size="x-small",
                variant="text",
                icon=True,
                density="comfortable",
                click=(clicked, "[segment.id]"),
                title=(f"'{verb} ' + segment.name",),
            ):
                VIcon(icon, size="small")
