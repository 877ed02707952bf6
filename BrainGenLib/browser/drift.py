"""What stands beside and below a slider of drift."""

from __future__ import annotations

from BrainGenLib.bundles import Metadata
from BrainGenLib.drift_curve import DriftCurve

_WIDTH, _HEIGHT = 240, 44


def described(bundle: Metadata, units: float | None) -> tuple[str, str]:
    """The raw δ, and the bundle's curve as SVG with a ring at its lowest point and a dot where the slider stands.

    Both are empty where the bundle tells no curve; without ``units``, the model's own choice, δ and dot are left out.
    """
    curve = DriftCurve.of(bundle)
    if curve is None:
        return "", ""
    points = " ".join(f"{x},{y}" for x, y in curve.points(_WIDTH, _HEIGHT))
    none, _ = curve.place(0.0, _WIDTH, _HEIGHT)
    best_x, best_y = curve.place(curve.best, _WIDTH, _HEIGHT)
    marks = [f'<circle class="best" cx="{best_x}" cy="{best_y}" r="3.5"/>']
    if units is not None:
        x, y = curve.place(units, _WIDTH, _HEIGHT)
        marks.append(f'<circle class="now" cx="{x}" cy="{y}" r="3"/>')
    svg = (
        f'<svg class="braingen-curve" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f"<title>Distance (L1) of what is made to real {curve.contrast} scans, smallest at {curve.best:+.2g}</title>"
        f'<line x1="{none}" y1="0" x2="{none}" y2="{_HEIGHT}"/><polyline points="{points}"/>{"".join(marks)}</svg>'
    )
    return "" if units is None else f"δ = {curve.raw(units):.3f}", svg
