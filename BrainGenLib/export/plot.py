"""A plot of what a sweep trades: flip against identity, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np

from BrainGenLib import sweeps
from BrainGenLib.case import Case

_SIZE, _LEFT, _TOP, _WIDTH, _HEIGHT = (560, 400), 70, 40, 460, 290
_BLUE, _RED = "#2166e6", "#e6331f"


def trade_off(case: Case) -> str:
    """Every frame of a sweep as a point with its value, the Pareto front as a line, the best frame as a ring.

    Args:
        case: of a sweep whose measurements name a front.
    """
    frames = [frame.case for frame in case.frames]
    x, y = [sweeps.identity(one) for one in frames], [sweeps.flip(one) or 0.0 for one in frames]
    across, up = _ticks(x), _ticks([*y, 1.0])

    def place(identity: float, flip: float) -> tuple[float, float]:
        return (
            _LEFT + _WIDTH * (identity - across[0]) / (across[-1] - across[0]),
            _TOP + _HEIGHT * (up[-1] - flip) / (up[-1] - up[0]),
        )

    points = [place(*pair) for pair in zip(x, y, strict=True)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_SIZE[0]}" height="{_SIZE[1]}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(_LEFT, 24, f"SYNTHETIC: flip and identity over {case.measurements['over']}", "start"),
    ]
    for tick in across:
        at = place(tick, up[0])
        parts += [_line(at, place(tick, up[-1]), "#dddddd"), _text(at[0], at[1] + 18, f"{tick:.4g}")]
    for tick in up:
        at = place(across[0], tick)
        parts += [_line(at, place(across[-1], tick), "#dddddd"), _text(at[0] - 8, at[1] + 4, f"{tick:.4g}", "end")]
    # What is asked for, and no more.
    parts.append(_line(place(across[0], 1.0), place(across[-1], 1.0), "#888888"))
    parts.append(_text(_LEFT + _WIDTH / 2, _SIZE[1] - 20, "identity: structural similarity to the scan"))
    turned = f'transform="rotate(-90 20 {_TOP + _HEIGHT / 2})"'
    parts.append(_text(20, _TOP + _HEIGHT / 2, "flip: share of what was asked for", more=turned))
    edge = sorted(points[number - 1] for number in case.measurements["front"])
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in edge)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{_RED}" stroke-width="1.5"/>')
    for number, ((a, b), frame) in enumerate(zip(points, case.frames, strict=True), 1):
        colour = _RED if number in case.measurements["front"] else _BLUE
        parts += [
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}"/>',
            _text(a + 7, b - 6, f"{frame.value:g}", "start"),
        ]
        if number == case.measurements["best"]:
            parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="9" fill="none" stroke="{_RED}" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>", ""])


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers, evenly apart, from below the smallest value to above the largest."""
    low, high = min(values), max(values)
    rough = max(high - low, 1e-3) / 6
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * 0.999))
    first, last = int(np.floor(low / step)), int(np.ceil(high / step))
    return [step * number for number in range(first, max(last, first + 1) + 1)]


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _line(start: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    return f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="{colour}"/>'
