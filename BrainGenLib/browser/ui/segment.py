"""Segment a scan."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame_server.utils.typed_state import TypedState
from undo_stack import Signal

from BrainGenLib.browser.state import SceneState, SegmentState
from BrainGenLib.browser.ui.parts import Section, choose, run_button


class SegmentUI:
    segment_clicked = Signal()
    cancel_clicked = Signal()
    scan_chosen = Signal(str)

    def __init__(self, server: Any) -> None:
        name = TypedState(server.state, SegmentState).name
        nodes = TypedState(server.state, SceneState).name
        with Section("Segment a scan", "segment").body:
            choose(
                name.scan,
                nodes.volumes,
                "choose a scan",
                change=(self.scan_chosen, "[$event.target.value]"),
                id="braingen-segment-scan",
            )
            with html.Div(v_if=(f"{name.bundles}.length > 1",), classes="mt-2"):
                choose(name.bundle, name.bundles)
            html.Div("Any contrast, with or without skull.", classes="braingen-note mt-1")
            run_button(
                server,
                "'Segment'",
                "segment",
                self.segment_clicked,
                self.cancel_clicked,
                f"{name.scan} && {name.bundle}",
            )
