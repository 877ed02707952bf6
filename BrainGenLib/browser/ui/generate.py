"""Generate: a slider for every condition of the bundle."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn, VIcon
from trame_server.utils.typed_state import TypedState
from undo_stack import Signal

from BrainGenLib.browser.state import GenerateState, SceneState
from BrainGenLib.browser.ui.conditions import condition_rows
from BrainGenLib.browser.ui.parts import Section, caption, check_boxes, choose, radio_buttons, run_button
from BrainGenLib.browser.ui.settings import drift, setting
from BrainGenLib.browser.ui.sweep import SweepLine
from BrainGenLib.requests import LEAST_MAX_SHARE, MOST_MASS_EFFECT


class GenerateUI:
    generate_clicked = Signal()
    cancel_clicked = Signal()
    new_seed_clicked = Signal()

    def __init__(self, server: Any) -> None:
        name = TypedState(server.state, GenerateState).name
        nodes = TypedState(server.state, SceneState).name
        with Section("Generate", "generate").body:
            caption("Pathology")
            condition_rows(
                name.pathologies, name.contrasts, "braingen-slider", ticked=False, places=(name.sides, name.lobes)
            )
            with html.Div(v_if=(name.labels,)):
                setting(
                    "Mass effect",
                    name.mass_effect,
                    f"Number({name.mass_effect}).toFixed(1) + ' mm'",
                    "How far gliomas and strokes push the tissue at their border aside: ventricles and sulci give "
                    "way, the midline shifts. 0: nothing moves",
                    min=0,
                    max=MOST_MASS_EFFECT,
                    step=0.5,
                )
            caption("Anatomy")
            condition_rows(name.anatomy, name.contrasts, "braingen-slider", ticked=True, unasked="left open")
            with html.Div(v_if=(name.donors,)):
                setting(
                    "Of one donor",
                    name.max_share,
                    f"'at most ' + (100 * {name.max_share}).toFixed(0) + ' %'",
                    "Largest share of the brain that may be of one of the people whom the anatomy is a mosaic of. "
                    "The lower, the less it is like one of them, and the more borders between them it has. 100 %: "
                    "no limit",
                    min=LEAST_MAX_SHARE,
                    max=1,
                    step=0.05,
                )
            with html.Div(v_if=(name.labels,)):
                caption("Contrasts")
                check_boxes(name.contrasts, name.known_contrasts, id="braingen-contrasts")
            with html.Div(v_else=True):
                caption("Contrast")
                radio_buttons(name.contrasts, name.known_contrasts, id="braingen-contrast")
            with html.Div(v_if=(name.drifts,), classes="mt-2"):
                drift(
                    name.drift,
                    name.own_drift,
                    "as trained",
                    "The drift that the model was fine-tuned with, if any",
                    name.delta,
                    name.curve,
                )
            with html.Div(
                v_if=(name.labels,), classes="braingen-row mt-2", style="grid-template-columns: 118px 1fr;"
            ):
                html.Label("Style of")
                choose(name.style, nodes.volumes, "the contrast's own look")
            with html.Div(classes="braingen-row", style="grid-template-columns: 118px 74px 30px auto;"):
                html.Label("Seed")
                html.Input(v_model_number=(name.seed,), type="number", min=0, classes="braingen-field")
                with VBtn(size="x-small", variant="text", icon=True, click=self.new_seed_clicked, title="New seed"):
                    VIcon("mdi-dice-5-outline", size="small")
                with html.Label(classes="braingen-label d-flex align-center", style="gap: 5px;"):
                    html.Input(type="checkbox", v_model=(name.keep_seed,), disabled=(name.live,))
                    html.Span("keep it")
            with html.Div(classes="braingen-row", style="grid-template-columns: 118px 74px 1fr;"):
                html.Label("How many")
                html.Input(v_model_number=(name.count,), type="number", min=1, max=100, classes="braingen-field")
                with html.Label(
                    v_if=(name.labels,),
                    classes="braingen-label d-flex align-center",
                    style="gap: 6px; justify-content: flex-end;",
                    title="Moving a slider makes a draft (labels of 2 mm) at once",
                ):
                    html.Input(type="checkbox", v_model=(name.live,), id="braingen-live")
                    html.Span("live drafts")
            sweep = SweepLine(server, "generate")
            run_button(
                server,
                sweep.label("Generate"),
                "generate",
                self.generate_clicked,
                self.cancel_clicked,
                f"{name.contrasts}.length",
            )
