"""A slider for one condition of a bundle."""

import ctk
import qt
from slicer.i18n import tr as _

LABEL_WIDTH = 110  # pixels, of the column of names in a panel of usual width


class ConditionRow:
    """A slider for one condition; where it can be placed also side and lobe, where it may be left open a check box.

    Args:
        condition: :class:`BrainGenLib.bundles.Condition`.
        onChanged: called when the user has changed something.
        tick: what a tick means and none, for one that may be left open; empty for one that is asked for above 0.
        places: names of sides and of lobes that it can be asked for in, if it can.

    Attributes:
        offered: whether it can be asked for in the chosen contrasts.
    """

    def __init__(self, condition, onChanged, tick="", places=None) -> None:
        self.condition = condition
        self.isPathology = condition.kind == "pathology"
        self._onChanged = onChanged
        self._showing = False

        self.label = qt.QLabel(condition.label)
        self.label.setWordWrap(True)
        # A form gives a wrapped label no more height than its field has.
        self.label.setMinimumHeight(self.label.heightForWidth(LABEL_WIDTH))
        self.widget = qt.QWidget()
        self.widget.setObjectName(f"{condition.name}Row")
        column = qt.QVBoxLayout(self.widget)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        line = qt.QHBoxLayout()
        column.addLayout(line)
        self.given = None
        if tick:
            self.given = qt.QCheckBox()
            self.given.setToolTip(tick)
            self.given.connect("toggled(bool)", self._onToggled)
            line.addWidget(self.given)
        self.slider = ctk.ctkSliderWidget()
        self.slider.setDecimals(2 if condition.maximum <= 10 else 0)
        self.slider.minimum = condition.minimum
        self.slider.maximum = condition.maximum
        self.slider.singleStep = (condition.maximum - condition.minimum) / 100
        self.slider.setValue(condition.default)
        # A load is no number that anybody knows; its volume stands below.
        unit = "" if self.isPathology else condition.short_unit
        self.slider.suffix = f" {unit}" if unit else ""
        self.slider.connect("valueChanged(double)", self._onValueChanged)
        line.addWidget(self.slider)

        self.details = None
        self.volume = None
        self.side = self.lobe = None
        if self.isPathology:
            self.details = qt.QWidget()
            detailsLine = qt.QHBoxLayout(self.details)
            detailsLine.setContentsMargins(0, 0, 0, 0)
            self.volume = qt.QLabel()
            detailsLine.addWidget(self.volume)
            if places is not None and condition.locatable:
                self.side = self._choice(detailsLine, places[0], _("either side"))
                self.lobe = self._choice(detailsLine, places[1], _("any lobe"))
            column.addWidget(self.details)
        self.offerFor([])
        self._update()

    def value(self):
        """The number that is asked for, or None: no such pathology, or left open."""
        asked = self.slider.value > 0 if self.given is None else self.given.checked
        return float(self.slider.value) if asked else None

    def place(self) -> tuple:
        """Side and lobe that are asked for, each "" for anywhere."""
        if self.side is None or self.value() is None:
            return "", ""
        return tuple(str(box.itemData(box.currentIndex) or "") for box in (self.side, self.lobe))

    def show(self, value, side="", lobe="") -> None:
        """Show what the parameter node holds."""
        self._showing = True
        try:
            if self.given is not None:
                self.given.setChecked(value is not None)
            if value is not None or self.given is None:
                self.slider.setValue(value or 0.0)
            if self.side is not None:
                for box, name in ((self.side, side), (self.lobe, lobe)):
                    box.setCurrentIndex(max(0, box.findData(name)))
        finally:
            self._showing = False
        self._update()

    def offerFor(self, contrasts) -> None:
        """Let it be asked for where the data behind the bundle support it in all of these contrasts."""
        able = self.condition.contrasts
        lacking = [contrast for contrast in contrasts if able and contrast not in able]
        reason = ""
        if lacking:
            reason = _("This varied in too few {contrast} scans of one study; it can be asked for in {able}.").format(
                contrast=lacking[0], able=", ".join(able)
            )
        self.offered = not lacking
        for widget in (self.label, self.widget):
            widget.setEnabled(self.offered)
            widget.setToolTip(reason)
        self.slider.setToolTip(reason or self._explanation())

    def _choice(self, layout, names, anywhere: str):
        box = qt.QComboBox()
        box.addItem(anywhere, "")
        for name in names:
            box.addItem(name, name)
        box.connect("currentIndexChanged(int)", self._onValueChanged)
        layout.addWidget(box)
        return box

    def _explanation(self) -> str:
        text = f"{self.condition.label} ({self.condition.unit}). " if self.condition.unit else ""
        if self.condition.marks:
            marks = ", ".join(f"{mark:.3g}" for mark in self.condition.marks)
            text += _("Quartiles of the training data: {marks}. ").format(marks=marks)
        if self.condition.trained_on:
            text += _("Trained on {data}.").format(data=self.condition.trained_on)
        return text

    def _onToggled(self, _checked) -> None:
        self._changed()

    def _onValueChanged(self, _value) -> None:
        self._changed()

    def _changed(self) -> None:
        self._update()
        if not self._showing:
            self._onChanged()

    def _update(self) -> None:
        if self.given is not None:
            self.slider.setEnabled(self.given.checked)
        if self.details is not None:
            self.details.setVisible(self.value() is not None)
            if self.condition.millilitres:
                self.volume.setText(
                    _("{volume:.3g} mL").format(volume=self.slider.value * self.condition.millilitres)
                )
