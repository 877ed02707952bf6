"""Results: the cases of the scene and the files of the user; and files in."""

from __future__ import annotations

import json
from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn, VCard, VCardActions, VCardText, VCardTitle, VDialog, VIcon
from trame_server.utils.typed_state import TypedState
from undo_stack import Signal

from BrainGenLib.browser.state import ResultsState, SceneState, UploadState, ViewsState
from BrainGenLib.browser.ui.parts import Section, caption, choose
from BrainGenLib.scene.maps import TITLES


class ResultsUI:
    show_clicked = Signal(str)
    hide_clicked = Signal()
    contrast_clicked = Signal(str, str)
    compare_clicked = Signal()
    delete_clicked = Signal()
    answer_clicked = Signal()
    drop_clicked = Signal()

    def __init__(self, server: Any) -> None:
        name = TypedState(server.state, ResultsState).name
        shown = f"{TypedState(server.state, ViewsState).name.shown}.includes(row.name)"
        chosen = f"{name.cases}.filter(row => row.chosen)"
        title = f"({json.dumps(TITLES)}[contrast] || contrast)".replace('"', "'")
        query = f"{chosen}.map(row => 'case=' + encodeURIComponent(row.name)).join('&')"
        with Section("Results", "results").body:
            html.Div("No cases yet.", v_if=(f"!{name.cases}.length",), classes="braingen-note")
            with (
                html.Div(v_else=True, classes="braingen-list", id="braingen-cases"),
                html.Div(
                    v_for=(f"row in {name.cases}",),
                    key="row.name",
                    classes=(f"'braingen-item' + ({shown} ? ' braingen-shown' : '')",),
                ),
            ):
                html.Input(
                    type="checkbox",
                    v_model=("row.chosen",),
                    change=f"flushState('{name.cases}')",
                    title=("'Choose ' + row.name",),
                )
                with html.Button(
                    style="flex: 1; text-align: left; line-height: 1.2;",
                    click=(self.show_clicked, "[row.name]"),
                    title=("'Show ' + row.name",),
                ):
                    html.Span("{{ row.name }}", classes="mr-2")
                    html.Span("{{ row.summary }}", style="color: #98a0af;")
                html.Button(
                    f"{{{{ {title} }}}}",
                    v_for=("contrast in row.contrasts",),
                    key="contrast",
                    click=(self.contrast_clicked, "[row.name, contrast]"),
                    classes="braingen-contrast",
                    title=(f"'Show ' + {title}",),
                )
                with VBtn(
                    v_if=(shown,),
                    size="x-small",
                    variant="text",
                    icon=True,
                    density="comfortable",
                    click=self.hide_clicked,
                    title=("'Hide ' + row.name",),
                ):
                    VIcon("mdi-eye-off-outline", size="small")
            with html.Div(classes="d-flex flex-wrap mt-2", style="gap: 6px;"):
                self._button("Compare two", f"{chosen}.length !== 2", click=self.compare_clicked)
                self._button("Delete", f"!{chosen}.length", click=self.delete_clicked, id="braingen-delete")
                datasets = f"{chosen}.length && {chosen}.every(row => row.exported)"
                self._button("BIDS zip", f"!({datasets})", href=(f"'download?format=bids&' + {query}",))
                self._button(".mrb", f"{chosen}.length !== 1", href=(f"'download?format=mrb&' + {query}",))
            html.Div(
                f"Scans and results are kept in {{{{ {name.kept} }}}} until they are deleted here.",
                classes="braingen-note mt-1",
            )
            self._files(server)
            self._question(server)

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
        with html.Div(
            "NIfTI, NRRD or MGH; a DICOM series as its files or a zip archive. ", classes="braingen-note mt-1"
        ):
            html.A("Values of segmentations", href="labels", target="_blank", style="color: #9fc5f8;")
        html.Div(f"{{{{ {name.message} }}}}", v_if=(name.message,), classes="braingen-note mt-1")
        html.Div(f"{{{{ {name.failure} }}}}", v_if=(name.failure,), classes="braingen-failure mt-1")

    def _question(self, server: Any) -> None:
        """What the file of a segmentation does not say."""
        name = TypedState(server.state, UploadState).name
        nodes = TypedState(server.state, SceneState).name
        line = {"classes": "braingen-row mt-2", "style": "grid-template-columns: 118px 1fr;"}
        with (
            VDialog(model_value=(f"!!{name.asking}",), persistent=True, max_width=460),
            VCard(id="braingen-question"),
        ):
            VCardTitle(f"{{{{ {name.asking} }}}}")
            with VCardText():
                with html.Div(v_if=(f"{name.lesions}.length",), **line):
                    html.Label("Which lesion is this?")
                    choose(name.lesion, name.lesions, "choose", id="braingen-which-lesion")
                with html.Div(v_if=(f"{nodes.volumes}.length",), **line):
                    html.Label("Of which scan?")
                    choose(name.of, nodes.volumes, "none of these", id="braingen-which-scan")
            with VCardActions():
                VBtn("Leave it out", click=self.drop_clicked)
                VBtn(
                    "Add",
                    click=self.answer_clicked,
                    color="primary",
                    disabled=(f"{name.lesions}.length && !{name.lesion}",),
                    id="braingen-answer",
                )
