"""Sliders for settings that are not conditions."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets.vuetify3 import VSlider

from BrainGenLib.drift_curve import REACH


def setting(label: str, model: str, shown: str, hint: str, **slider: Any) -> None:
    """A slider with a label and, as an expression, what it shows."""
    with html.Div(classes="braingen-row", title=hint):
        html.Label(label)
        VSlider(
            v_model=(model,),
            color="primary",
            hide_details=True,
            density="compact",
            thumb_size=13,
            track_size=3,
            classes=f"braingen-slider-{label.lower().replace(' ', '-')}",
            **slider,
        )
        html.Output(f"{{{{ {shown} }}}}")


def drift(model: str, left: str, word: str, hint: str, delta: str, curve: str) -> None:
    """The slider of drift; a box leaves it to the model, and below stands how near to real scans each place draws.

    Args:
        model, left: names of the number and of what the box ticks.
        word, hint: beside the box.
        delta, curve: names of the raw number and of the picture; both may be empty.
    """
    setting(
        "Drift",
        model,
        f"{left} ? '' : Number({model}).toFixed(2) + ' SD'",
        "Shifts the noise that the image begins as, in standard deviations (SD) between subjects",
        min=-REACH,
        max=REACH,
        step=0.05,
        disabled=(left,),
    )
    with html.Div(classes="d-flex align-center justify-space-between", style="padding-left: 126px;"):
        with html.Label(classes="braingen-label d-flex align-center", style="gap: 5px;", title=hint):
            html.Input(type="checkbox", v_model=(left,))
            html.Span(word)
        html.Span(f"{{{{ {delta} }}}}", classes="braingen-note")
    # As wide as the slider's track, so that the dot lies below the thumb.
    with html.Div(v_if=(curve,), classes="braingen-row"):
        html.Span()
        html.Div(v_html=(curve,), style="padding: 0 5px;")
