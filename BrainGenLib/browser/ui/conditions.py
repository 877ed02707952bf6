"""Sliders for the conditions of a bundle."""

from __future__ import annotations

from trame.widgets import html
from trame.widgets.vuetify3 import VSlider


def condition_rows(
    rows: str, contrasts: str, css: str, *, ticked: bool, unasked: str = "", places: tuple[str, str] | None = None
) -> None:
    """A slider for every row of the state's list; one that cannot be asked for is grey and says why.

    Args:
        rows: the state's list of ``ConditionRow``.
        contrasts: expression for a list of the contrasts that are chosen.
        css: beginning of the sliders' class, which ends in the name of the condition.
        ticked: whether a tick asks for it, as against a place above the minimum.
        unasked: what stands in place of the value without a tick.
        places: the state's lists of sides and lobes, where these can be asked for.
    """
    asked = "row.given" if ticked else "row.value > row.minimum"
    lacking = f"row.contrasts.length ? {contrasts}.filter(name => !row.contrasts.includes(name)) : []"
    refused = f"({lacking}).length > 0"
    reason = "'This varied in too few ' + lacking[0] + ' scans of one study; it can be asked for in ' + "
    changed = f"flushState('{rows}')"
    with html.Div(v_for=(f"row in {rows}",), key="row.name"):
        with html.Div(
            classes="braingen-row",
            title=(f"((lacking) => lacking.length ? {reason}row.contrasts.join(', ') + '.' : row.hint)({lacking})",),
        ):
            with html.Label(classes="d-flex align-center", style="gap: 5px;"):
                if ticked:
                    html.Input(
                        type="checkbox",
                        v_model=("row.given",),
                        change=changed,
                        disabled=(refused,),
                        classes=(f"`{css}-${{row.name}}-given`",),
                    )
                html.Span("{{ row.label }}")
            VSlider(
                v_model=("row.value",),
                update_modelValue=changed,
                min=("row.minimum",),
                max=("row.maximum",),
                step=("row.step",),
                disabled=(f"!row.given || {refused}",),
                color=(f"{asked} ? 'primary' : 'grey'",),
                hide_details=True,
                density="compact",
                thumb_size=13,
                track_size=3,
                classes=(f"`{css}-${{row.name}}`",),
            )
            html.Output(
                f"{{{{ !row.given ? '{unasked}' : row.millilitres ? (row.value * row.millilitres).toFixed(1) + ' mL' "
                ": row.value.toFixed(row.maximum > 10 ? 0 : 2) + ' ' + row.unit }}"
            )
        if places is not None:
            with html.Div(v_if=(f"row.locatable && {asked}",), classes="braingen-places"):
                html.Span()
                for field, names in zip(("side", "lobe"), places, strict=True):
                    with html.Select(v_model=(f"row.{field}",), change=changed, title=field):
                        html.Option(
                            f"{{{{ place.value || 'any {field}' }}}}",
                            v_for=(f"place in {names}",),
                            key="place.value",
                            value=("place.value",),
                        )
