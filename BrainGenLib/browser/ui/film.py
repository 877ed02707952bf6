"""What plays a film, below the views that show it."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn, VFooter, VIcon
from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.state import FilmState


class FilmUI:
    def __init__(self, server: Any) -> None:
        name = TypedState(server.state, FilmState).name
        with VFooter(app=True, v_if=(name.case,), border="t", height=42, classes="px-4", id="braingen-film"):
            with VBtn(
                size="small",
                variant="text",
                icon=True,
                click=f"{name.playing} = !{name.playing}",
                title=(f"{name.playing} ? 'Pause' : 'Play'",),
                id="braingen-play",
            ):
                VIcon(f"{{{{ {name.playing} ? 'mdi-pause' : 'mdi-play' }}}}")
            html.Input(
                type="range",
                v_model_number=(name.number,),
                min=0,
                max=(f"{name.values}.length - 1",),
                step=1,
                style="flex: 1; margin: 0 12px;",
                id="braingen-frame",
            )
            html.Output(
                f"{{{{ {name.over} }}}} {{{{ {name.values}[{name.number}] }}}} {{{{ {name.unit} }}}}",
                classes="braingen-label",
                style="min-width: 150px;",
            )
