"""Controls that several sections use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VBtn, VExpansionPanel, VExpansionPanelText, VExpansionPanelTitle
from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.state import RunState


class Section(VExpansionPanel):
    """A section that opens and closes; fill it with ``with section.body``."""

    def __init__(self, title: str, value: str) -> None:
        super().__init__(value=value, elevation=0)
        with self:
            VExpansionPanelTitle(title)
            self.body = VExpansionPanelText()


def caption(text: str) -> None:
    """A small heading."""
    html.Div(text, classes="braingen-caps")


def choose(model: str, items: str, empty: str = "", **attributes: Any) -> None:
    """A list to choose from: ``items`` is the state's list of ``Choice``, ``empty`` the entry for none."""
    with html.Select(v_model=(model,), classes="braingen-field", **attributes):
        if empty:
            html.Option(empty, value="")
        html.Option("{{ item.title }}", v_for=(f"item in {items}",), key="item.value", value=("item.value",))


def check_boxes(model: str, items: str, **attributes: Any) -> None:
    """A check box for each name in the state's list ``items``; ``model`` holds those that are ticked."""
    with (
        html.Div(classes="d-flex flex-wrap", style="column-gap: 14px;", **attributes),
        html.Label(
            v_for=(f"name in {items}",), key="name", classes="braingen-label d-flex align-center", style="gap: 5px;"
        ),
    ):
        html.Input(type="checkbox", value=("name",), v_model=(model,))
        html.Span("{{ name }}")


def radio_buttons(model: str, items: str, **attributes: Any) -> None:
    """One of the names in the state's list ``items``; ``model`` is a list that holds it."""
    with (
        html.Div(classes="d-flex flex-wrap", style="column-gap: 14px;", **attributes),
        html.Label(
            v_for=(f"name in {items}",), key="name", classes="braingen-label d-flex align-center", style="gap: 5px;"
        ),
    ):
        html.Input(type="radio", checked=(f"{model}.includes(name)",), change=f"{model} = [name]")
        html.Span("{{ name }}")


def run_button(server: Any, label: str, section: str, run: Callable, cancel: Callable, ready: str) -> None:
    """A button that runs, and cancels while its own section runs.

    Args:
        server: of trame.
        label: expression for what it says; while another section runs, it says that.
        section: as in the run's state.
        run, cancel: what it does.
        ready: expression that tells whether everything is chosen.
    """
    name = TypedState(server.state, RunState).name
    mine = f"{name.section} === '{section}'"
    common = {"block": True, "density": "comfortable", "classes": "mt-3"}
    VBtn(
        f"{{{{ {name.busy} ? 'Busy: ' + {name.busy} : {label} }}}}",
        v_if=(f"!({mine})",),
        click=run,
        color="primary",
        disabled=(f"!!{name.busy} || !({ready})",),
        id=f"braingen-{section}",
        **common,
    )
    VBtn(
        "Cancel",
        v_else=True,
        click=cancel,
        color="warning",
        variant="tonal",
        prepend_icon="mdi-stop",
        disabled=(f"{name.stage} === 'stopping'",),
        id=f"braingen-cancel-{section}",
        **common,
    )
