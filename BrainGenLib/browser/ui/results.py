"""Results: the cases of the scene; and files in."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn
from trame_server.utils.typed_state import TypedState
from undo_stack import Signal

from BrainGenLib.browser.state import ResultsState, UploadState
from BrainGenLib.browser.ui.parts import Section, caption


class ResultsUI:
    show_clicked = Signal(str)
    contrast_clicked = Signal(str, str)
    compare_clicked = Signal()
    delete_clicked = Signal()

    def __init__(self, server: Any) -> None:
        name = TypedState(server.state, ResultsState).name
        chosen = f"{name.cases}.filter(row => row.chosen)"
        query = f"{chosen}.map(row => 'case=' + encodeURIComponent(row.name)).join('&')"
        with Section("Results", "results").body:
            html.Div("No cases yet.", v_if=(f"!{name.cases}.length",), classes="braingen-note")
            with (
                html.Div(v_else=True, classes="braingen-list", id="braingen-cases"),
                html.Div(v_for=(f"row in {name.cases}",), key="row.name", classes="braingen-item"),
            ):
                html.Input(type="checkbox", v_model=("row.chosen",), change=f"flushState('{name.cases}')")
                with html.A(
                    style="flex: 1; cursor: pointer; line-height: 1.2;",
                    click=(self.show_clicked, "[row.name]"),
                    title="Show",
                ):
                    html.Span("{{ row.name }}", classes="mr-2")
                    html.Span("{{ row.summary }}", style="color: #98a0af;")
                html.A(
                    "{{ contrast }}",
                    v_for=("contrast in row.contrasts",),
                    key="contrast",
                    click=(self.contrast_clicked, "[row.name, contrast]"),
                    classes="braingen-contrast",
                    title=("'Show ' + contrast",),
                )
            with html.Div(classes="d-flex flex-wrap mt-2", style="gap: 6px;"):
                self._button("Compare two", f"{chosen}.length !== 2", click=self.compare_clicked)
                self._button("Delete", f"!{chosen}.length", click=self.delete_clicked)
                self._button("BIDS zip", f"!{chosen}.length", href=(f"'download?format=bids&' + {query}",))
                self._button(".mrb", f"{chosen}.length !== 1", href=(f"'download?format=mrb&' + {query}",))
            self._files(server)

    @staticmethod
    def _button(label: str, disabled: str, **attributes: Any) -> None:
        if "href" in attributes:
            attributes |= {"raw_attrs": ["download"], "prepend_icon": "mdi-download"}
        VBtn(label, size="small", variant="tonal", disabled=(disabled,), **attributes)

    @staticmethod
    def _files(server: Any) -> None:
        name = TypedState(server.state, UploadState).name
        caption("Add from files")
        with html.Div(classes="d-flex", style="gap: 6px;"):
            for kind, label in (("scan", "Scan"), ("segmentation", "Segmentation")):
                with VBtn(
                    size="small",
                    variant="tonal",
                    prepend_icon="mdi-upload",
                    loading=(name.busy,),
                    click=f"window.document.getElementById('braingen-upload-{kind}').click()",
                ):
                    html.Span(label)
                html.Input(
                    type="file",
                    id=f"braingen-upload-{kind}",
                    style="display: none;",
                    change=f"window.braingenUpload($event.target, '{kind}')",
                    raw_attrs=["multiple"],
                )
        html.Div("NIfTI or NRRD; a DICOM series as its files or a zip archive.", classes="braingen-note mt-1")
        html.Div(f"{{{{ {name.message} }}}}", v_if=(name.message,), classes="braingen-note mt-1")
        html.Div(f"{{{{ {name.failure} }}}}", v_if=(name.failure,), classes="braingen-failure mt-1")
