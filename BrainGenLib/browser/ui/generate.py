"""Generate: a slider for every condition of the bundle."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn, VIcon, VSlider
from trame_server.utils.typed_state import TypedState
from undo_stack import Signal

from BrainGenLib.browser.state import GenerateState, SceneState
from BrainGenLib.browser.ui.parts import Section, caption, check_boxes, choose, run_button


class GenerateUI:
    generate_clicked = Signal()
    cancel_clicked = Signal()
    new_seed_clicked = Signal()

    def __init__(self, server: Any) -> None:
        self._name = TypedState(server.state, GenerateState).name
        nodes = TypedState(server.state, SceneState).name
        name = self._name
        with Section("Generate", "generate").body:
            self._conditions("Pathology", name.pathologies, "row.value > row.minimum")
            self._conditions("Anatomy (drawn unless ticked)", name.anatomy, "row.given")
            caption("Contrasts")
            check_boxes(name.contrasts, name.known_contrasts, id="braingen-contrasts")
            with html.Div(classes="braingen-row mt-2", style="grid-template-columns: 118px 1fr;"):
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
                    classes="braingen-label d-flex align-center",
                    style="gap: 6px; justify-content: flex-end;",
                    title="Moving a slider makes a draft (labels of 2 mm) at once",
                ):
                    html.Input(type="checkbox", v_model=(name.live,), id="braingen-live")
                    html.Span("live drafts")
            run_button(
                server,
                "Generate",
                "generate",
                self.generate_clicked,
                self.cancel_clicked,
                f"{name.contrasts}.length",
            )

    def _conditions(self, title: str, rows: str, asked: str) -> None:
        caption(title)
        changed = f"flushState('{rows}')"
        with html.Div(v_for=(f"row in {rows}",), key="row.name"):
            with html.Div(classes="braingen-row", title=("row.hint",)):
                with html.Label(classes="d-flex align-center", style="gap: 5px;"):
                    # A pathology that is not wanted stands at its minimum; anatomy has no such place.
                    html.Input(
                        v_if=(f"'{rows}' === '{self._name.anatomy}'",),
                        type="checkbox",
                        v_model=("row.given",),
                        change=changed,
                    )
                    html.Span("{{ row.label }}")
                VSlider(
                    v_model=("row.value",),
                    update_modelValue=changed,
                    min=("row.minimum",),
                    max=("row.maximum",),
                    step=("row.step",),
                    disabled=("!row.given",),
                    color=(f"{asked} ? 'primary' : 'grey'",),
                    hide_details=True,
                    density="compact",
                    thumb_size=13,
                    track_size=3,
                    classes=("`braingen-slider-${row.name}`",),
                )
                html.Output(
                    "{{ !row.given ? 'drawn' : row.millilitres ? "
                    "(row.value * row.millilitres).toFixed(1) + ' mL' : Math.round(row.value) + ' mL' }}"
                )
            with html.Div(v_if=(f"row.locatable && {asked}",), classes="braingen-places"):
                html.Span()
                for field, places in (("side", self._name.sides), ("lobe", self._name.lobes)):
                    with html.Select(v_model=(f"row.{field}",), change=changed, title=field):
                        html.Option(
                            f"{{{{ place.value || 'any {field}' }}}}",
                            v_for=(f"place in {places}",),
                            key="place.value",
                            value=("place.value",),
                        )
