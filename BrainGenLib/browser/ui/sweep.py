"""The line of a section in which a sweep is chosen."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.state import SweepState
from BrainGenLib.browser.ui.parts import choose


class SweepLine:
    """Draws the line.

    Args:
        server: of trame.
        section: whose it is.
    """

    def __init__(self, server: Any, section: str) -> None:
        self._name = name = TypedState(server.state, SweepState, namespace=section).name
        hint = "Instead of one case a film, of frames that differ in this alone; it takes the place of what is chosen"
        with html.Div(classes="braingen-row mt-2", style="grid-template-columns: 118px 1fr;", title=hint):
            html.Label("Sweep")
            choose(name.over, name.axes, "— none —", id=f"braingen-sweep-{section}")
        with html.Div(
            v_if=(name.over,),
            v_for=(f"axis in {name.axes}.filter(axis => axis.value === {name.over})",),
            key="axis.value",
            classes="braingen-row mt-1",
            style="grid-template-columns: 118px 1fr 16px 1fr auto 50px auto;",
        ):
            html.Label("{{ axis.unit }}", style="text-align: right;")
            ends = {"type": "number", "min": ("axis.minimum",), "max": ("axis.maximum",), "step": "any"}
            html.Input(v_model_number=(name.start,), title="In the first frame", classes="braingen-field", **ends)
            html.Span("to", classes="braingen-label")
            html.Input(v_model_number=(name.stop,), title="In the last frame", classes="braingen-field", **ends)
            html.Span("in", classes="braingen-label")
            html.Input(
                v_model_number=(name.frames,),
                type="number",
                min=2,
                max=32,
                classes="braingen-field",
                id=f"braingen-frames-{section}",
            )
            html.Span("frames", classes="braingen-label")

    def label(self, otherwise: str) -> str:
        """Expression for what the section's button says."""
        return f"({self._name.over} ? 'Make sweep' : '{otherwise}')"

    @property
    def wanted(self) -> str:
        """Expression: whether a condition is swept over."""
        return f"{self._name.axes}.some(axis => axis.value === {self._name.over} && axis.wanted)"
