"""The slider of drift, beside it the raw number, and below it how near to real scans each drift draws."""

from itertools import pairwise

import qt
from slicer.i18n import tr as _

WIDTH, HEIGHT = 240, 44
CURVE, NOTHING, BEST, NOW = "#7f8894", "#c9ced6", "#2e9e5b", "#d9622b"


class DriftControl:
    """Shows what the choices of a section mean; the parameter node moves the slider and ticks the box.

    Args:
        slider: in standard deviations between subjects.
        box: ticked leaves the drift to the model.
        delta, picture: labels of the raw number and of the curve.
    """

    def __init__(self, slider, box, delta, picture) -> None:
        self._slider = slider
        self._box = box
        self._delta = delta
        self._picture = picture

    def update(self, metadata) -> None:
        """Show the drift that is chosen with a bundle, of which the curve may be known."""
        from BrainGenLib.drift_curve import DriftCurve

        curve = DriftCurve.of(metadata)
        chosen = not self._box.checked
        self._slider.setEnabled(chosen)
        self._delta.setVisible(curve is not None)
        self._picture.setVisible(curve is not None)
        if curve is None:
            return
        units = float(self._slider.value)
        self._delta.setText(_("δ = {delta:.3f}").format(delta=curve.raw(units)) if chosen else "")
        self._picture.setPixmap(_drawn(curve, units if chosen else None))
        self._picture.setToolTip(
            _(
                "Distance (L1) of what is made to real {contrast} scans, for each drift: smallest at {best:+.2g} "
                "(ring). The dot is where the slider stands."
            ).format(contrast=curve.contrast, best=curve.best)
        )


def _drawn(curve, units):
    """The curve with a line at no drift, a ring at its lowest point, and a dot where the slider stands."""
    pixmap = qt.QPixmap(WIDTH, HEIGHT)
    pixmap.fill(qt.QColor(0, 0, 0, 0))
    painter = qt.QPainter(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing)
    none, _y = curve.place(0.0, WIDTH, HEIGHT)
    painter.setPen(_pen(NOTHING, 1))
    painter.drawLine(round(none), 0, round(none), HEIGHT)
    painter.setPen(_pen(CURVE, 2))
    points = curve.points(WIDTH, HEIGHT)
    for (x0, y0), (x1, y1) in pairwise(points):
        painter.drawLine(round(x0), round(y0), round(x1), round(y1))
    marks = [(curve.best, BEST, 3)] if units is None else [(curve.best, BEST, 3), (units, NOW, 2)]
    for where, colour, radius in marks:
        x, y = curve.place(where, WIDTH, HEIGHT)
        painter.setPen(_pen(colour, 2))
        painter.drawEllipse(round(x) - radius, round(y) - radius, 2 * radius, 2 * radius)
    painter.end()
    return pixmap


def _pen(colour: str, width: int):
    pen = qt.QPen(qt.QColor(colour))
    pen.setWidth(width)
    return pen
