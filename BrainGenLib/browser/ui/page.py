"""The page: panel on the left, views on the right, as in Slicer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import html
from trame.widgets.vuetify3 import VAppBar, VExpansionPanels, VMain, VNavigationDrawer, VSpacer
from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.stage import Stage
from BrainGenLib.browser.state import ViewsState
from BrainGenLib.browser.ui.counterfactual import CounterfactualUI
from BrainGenLib.browser.ui.engine import EngineUI
from BrainGenLib.browser.ui.film import FilmUI
from BrainGenLib.browser.ui.generate import GenerateUI
from BrainGenLib.browser.ui.progress import ProgressUI
from BrainGenLib.browser.ui.render import RenderUI
from BrainGenLib.browser.ui.results import ResultsUI
from BrainGenLib.browser.ui.segment import SegmentUI

_STATIC = "braingen"
MODULE = {
    "serve": {_STATIC: str(Path(__file__).parents[1] / "static")},
    "scripts": [f"{_STATIC}/braingen.js"],
    "styles": [f"{_STATIC}/style.css"],
}
_PANEL_PIXELS = 390
# Takes the place of the page when its connection ends; braingen.js shows the second part if that server is no more.
_GONE = """
<div id="braingen-gone" role="alert">
  <p>The connection to the BrainGen server has ended. This page comes back by itself once the server can be reached;
  if the server was stopped, start it again (<code>braingen app</code>) and open the address that it prints. Scans and
  results are kept.</p>
  <p hidden>The BrainGen server was started anew. Open the address that it has printed: your scans and results are
  there.</p>
</div>
"""


class PageUI(VAppLayout):
    """Attributes are the sections."""

    def __init__(self, server: Any, stage: Stage) -> None:
        super().__init__(server)
        name = TypedState(server.state, ViewsState).name
        self.root.theme = "dark"
        server.state.trame__template_error = _GONE
        with self:
            with VAppBar(density="compact", height=44, elevation=0, border="b"):
                html.Span("BrainGen", classes="ml-4", style="font-size: 17px; font-weight: 600;")
                html.Span(
                    "Brain MRI made up by models. For research and teaching, not for diagnosis.",
                    classes="braingen-note ml-4",
                )
                VSpacer()
                with html.Label(classes="braingen-label d-flex align-center mr-6", style="gap: 6px;"):
                    html.Input(type="checkbox", v_model=(name.outlines,))
                    html.Span("Outlines")
                html.Span("Who opens this address shares this scene.", classes="braingen-note mr-3")
            with (
                VNavigationDrawer(permanent=True, width=_PANEL_PIXELS, location="left", classes="braingen-panel"),
                html.Div(classes="d-flex flex-column", style="height: 100%;"),
            ):
                with (
                    html.Div(style="flex: 1; overflow-y: auto;", id="braingen-panel"),
                    VExpansionPanels(
                        multiple=True,
                        variant="accordion",
                        model_value=("braingen_open", ["generate", "results"]),
                        update_modelValue="braingen_open = $event",
                    ),
                ):
                    self.engine = EngineUI(server)
                    self.generate = GenerateUI(server)
                    self.render = RenderUI(server)
                    self.segment = SegmentUI(server)
                    self.counterfactual = CounterfactualUI(server)
                    self.results = ResultsUI(server)
                ProgressUI(server)
            FilmUI(server)
            with VMain(style="height: 100vh;"):
                stage.layouts.initialize_layout_grid(self)
