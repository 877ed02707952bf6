"""Engine: device, bundle, and the bundle's own words about itself."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn, VCard, VCardText, VCardTitle, VDialog
from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.state import EngineState
from BrainGenLib.browser.ui.parts import Section, choose


class EngineUI:
    def __init__(self, server: Any) -> None:
        typed = TypedState(server.state, EngineState)
        name = typed.name
        with Section("Engine", "engine").body:
            with html.Div(classes="braingen-row", style="grid-template-columns: 118px 1fr;"):
                html.Label("Computed by")
                html.Span(f"{{{{ {name.where} }}}}")
            with html.Div(classes="braingen-row", style="grid-template-columns: 118px 1fr;"):
                html.Label("Device")
                choose(name.device, name.devices)
            with html.Div(
                v_if=(f"{name.bundles}.length > 1",),
                classes="braingen-row",
                style="grid-template-columns: 118px 1fr;",
            ):
                html.Label("Bundle")
                choose(name.bundle, name.bundles, id="braingen-bundle")
            with html.Div(classes="braingen-note mt-1"):
                html.B(f"{{{{ {name.title} }}}}")
                html.Span(f" {{{{ {name.description} }}}} ")
                html.Span("{{ limit }} ", v_for=(f"limit in {name.limits}",), key="limit")
                html.Span(f"Licence {{{{ {name.licence} }}}}.")
            VBtn(
                "Model card",
                size="x-small",
                variant="tonal",
                classes="mt-2",
                click=f"{name.card_open} = true",
                disabled=(f"!{name.card}",),
            )
        with (
            VDialog(v_model=(name.card_open,), max_width=820, scrollable=True),
            VCard(),
        ):
            VCardTitle(f"{{{{ {name.title} }}}}")
            with VCardText():
                html.Pre(f"{{{{ {name.card} }}}}", style="white-space: pre-wrap; font-size: 12.5px;")
