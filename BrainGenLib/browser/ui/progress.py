"""How the run stands: stage, bar and time left, or why there is no result."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VProgressLinear
from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.state import RunState


class ProgressUI:
    def __init__(self, server: Any) -> None:
        name = TypedState(server.state, RunState).name
        with html.Div(classes="px-4 py-2", id="braingen-state", style="border-top: 1px solid #3a3f4b;"):
            with html.Div(v_if=(name.section,)):
                with html.Div(classes="d-flex justify-space-between braingen-label mb-1"):
                    html.Span(f"{{{{ {name.stage} }}}}")
                    html.Span(f"{{{{ {name.left} }}}}")
                VProgressLinear(
                    model_value=(name.percent,),
                    indeterminate=(f"!{name.percent}",),
                    color="primary",
                    height=6,
                    rounded=True,
                    id="braingen-progress",
                )
            with html.Div(v_else_if=(name.failure,), classes="braingen-failure"):
                html.Div(f"{{{{ {name.failure} }}}}", id="braingen-failure")
                html.Div(f"{{{{ {name.advice} }}}}")
                with html.Details(v_if=(name.details,)):
                    html.Summary("Text for a bug report")
                    html.Pre(f"{{{{ {name.details} }}}}", style="max-height: 160px; overflow: auto; font-size: 11px;")
            html.Div(f"{{{{ {name.ended} || 'Ready.' }}}}", v_else=True, classes="braingen-note")
