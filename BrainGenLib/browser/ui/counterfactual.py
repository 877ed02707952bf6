"""Counterfactual: what is known of a scan, and what is to change."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn
from trame_server.utils.typed_state import TypedState
from undo_stack import Signal

from BrainGenLib.browser.state import CounterfactualState, RunState, SceneState
from BrainGenLib.browser.ui.conditions import condition_rows
from BrainGenLib.browser.ui.parts import Section, caption, choose, run_button
from BrainGenLib.browser.ui.settings import drift, setting
from BrainGenLib.browser.ui.sweep import SweepLine

_LINE = {"classes": "braingen-row", "style": "grid-template-columns: 118px 1fr;"}


class CounterfactualUI:
    apply_clicked = Signal()
    find_clicked = Signal()
    cancel_clicked = Signal()
    scan_chosen = Signal(str)

    def __init__(self, server: Any) -> None:
        name = TypedState(server.state, CounterfactualState).name
        nodes = TypedState(server.state, SceneState).name
        running = TypedState(server.state, RunState).name.section
        with Section("Counterfactual", "counterfactual").body:
            with html.Div(**_LINE):
                html.Label("Scan")
                choose(
                    name.scan,
                    nodes.volumes,
                    "choose a scan",
                    change=(self.scan_chosen, "[$event.target.value]"),
                    id="braingen-counterfactual-scan",
                )
            with html.Div(**_LINE):
                html.Label("Model")
                choose(name.bundle, name.bundles)
            with html.Div(**_LINE):
                html.Label("Contrast")
                choose(name.contrast, name.contrasts, "recognised", id="braingen-counterfactual-contrast")
            with html.Div(title="Where the lesions of the scan are", **_LINE):
                html.Label("Its lesions")
                choose(name.segmentation, nodes.segmentations, "as the segmenter finds them")
            html.Div(
                f"{{{{ {name.lesions} }}}}",
                v_if=(name.lesions,),
                classes="braingen-note",
                role="status",
                id="braingen-lesions",
            )
            VBtn(
                "Find its lesions",
                v_if=(f"!{name.lesions}",),
                click=self.find_clicked,
                size="small",
                variant="tonal",
                disabled=(f"!{name.scan} || !!{running}",),
                title="The segmenter looks for them, so that you know what there is to change",
                id="braingen-find-lesions",
            )
            with html.Label(
                v_if=(name.diffusion,),
                classes="braingen-label d-flex align-center",
                style="gap: 5px;",
                title="Not ticked: they are rendered from labels, exactly. Ticked: by the model, hardly at all",
            ):
                html.Input(type="checkbox", v_model=(name.left,), id="braingen-lesions-left")
                html.Span("Leave lesions to the diffusion")
            with html.Div(v_if=(name.diffusion,)):
                caption("Known of the scan")
                condition_rows(name.known, "[]", "braingen-known", ticked=True)
            caption("Wanted")
            contrasts = f"({name.contrast} ? [{name.contrast}] : [])"
            condition_rows(name.wanted, contrasts, "braingen-wanted", ticked=True)
            with html.Div(v_if=(name.diffusion,), classes="mt-2"):
                drift(
                    name.drift,
                    name.auto_drift,
                    "auto",
                    "What the edit still lacks to the mean that the model expects",
                    name.delta,
                    name.curve,
                )
                setting(
                    "Strength",
                    name.strength,
                    f"Number({name.strength}).toFixed(2)",
                    "Share of the noise that the scan is taken back to; below 1 much less changes",
                    min=0.1,
                    max=1,
                    step=0.05,
                )
                setting(
                    "Guidance",
                    name.guidance,
                    f"Number({name.guidance}).toFixed(1)",
                    "How far beyond the difference of the two conditions the change goes; 1 is just that",
                    min=0,
                    max=10,
                    step=0.1,
                )
                setting(
                    "Variants",
                    name.variants,
                    name.variants,
                    "With other noise; from two on, a map tells how uncertain the change is",
                    min=1,
                    max=16,
                    step=1,
                )
            sweep = SweepLine(server, "counterfactual")
            asked = f"{name.wanted}.some(row => row.given && {name.pathologies}.includes(row.name))"
            unknown = f"({asked} && !{name.lesions})"
            first = "Find its lesions first, or choose a segmentation of them."
            html.Div(first, v_if=(unknown,), classes="braingen-note mt-2")
            wanted = f"({name.wanted}.some(row => row.given) || {sweep.wanted})"
            run_button(
                server,
                sweep.label("Apply"),
                "counterfactual",
                self.apply_clicked,
                self.cancel_clicked,
                f"{name.scan} && {name.bundle} && !{unknown} && {wanted}",
            )
