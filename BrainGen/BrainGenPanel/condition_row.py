"""A slider for one condition of a bundle."""

import ctk
import qt
from slicer.i18n import tr as _


class ConditionRow:
    """A slider for one condition; for a lesion that can be placed also side and lobe, for anatomy a check box.

    Args:
        condition: :class:`BrainGenLib.bundles.Condition`.
        sides, lobes: names of the places that can be asked for.
        onChanged: called when the user has changed something.
    """

    def __init__(self, condition, sides, lobes, onChanged) -> None:
        self.condition = condition
        self.isPathology = condition.kind == "pathology"
        self._onChanged = onChanged
        self._showing = False

        self.label = qt.QLabel(condition.label)
        self.label.setWordWrap(True)
        self.widget = qt.QWidget()
        self.widget.setObjectName(f"{condition.name}Row")
        column = qt.QVBoxLayout(self.widget)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        line = qt.QHBoxLayout()
        column.addLayout(line)
        self.given = None
        if not self.isPathology:
            self.given = qt.QCheckBox()
            self.given.setToolTip(_("Ticked: as asked. Not ticked: drawn anew for each case."))
            self.given.connect("toggled(bool)", self._onToggled)
            line.addWidget(self.given)
        self.slider = ctk.ctkSliderWidget()
        self.slider.setDecimals(2 if condition.maximum <= 10 else 0)
        self.slider.setMinimum(condition.minimum)
        self.slider.setMaximum(condition.maximum)
        self.slider.setSingleStep((condition.maximum - condition.minimum) / 100)
        self.slider.setValue(condition.default)
        self.slider.setToolTip(self._explanation())
        self.slider.connect("valueChanged(double)", self._onValueChanged)
        line.addWidget(self.slider)

        self.places = None
        self.volume = None
        self.side = self.lobe = None
        if self.isPathology:
            self.places = qt.QWidget()
            placeLine = qt.QHBoxLayout(self.places)
            placeLine.setContentsMargins(0, 0, 0, 0)
            self.volume = qt.QLabel()
            placeLine.addWidget(self.volume)
            if condition.locatable:
                self.side = self._choice(placeLine, sides, _("either side"))
                self.lobe = self._choice(placeLine, lobes, _("any lobe"))
            column.addWidget(self.places)
        self._update()

    def value(self):
        """The number that is asked for, or None: no such pathology, or an anatomy that is drawn."""
        asked = self.slider.value > 0 if self.isPathology else self.given.checked
        return float(self.slider.value) if asked else None

    def place(self) -> tuple:
        """Side and lobe that are asked for, each "" for anywhere."""
        if self.side is None or self.value() is None:
            return "", ""
        return tuple(str(box.itemData(box.currentIndex) or "") for box in (self.side, self.lobe))

    def show(self, value, side: str, lobe: str) -> None:
        """Show what the parameter node holds."""
        self._showing = True
        try:
            if self.given is not None:
                self.given.setChecked(value is not None)
            if value is not None or self.isPathology:
                self.slider.setValue(value or 0.0)
            if self.side is not None:
                for box, name in ((self.side, side), (self.lobe, lobe)):
                    box.setCurrentIndex(max(0, box.findData(name)))
        finally:
            self._showing = False
        self._update()

    def _choice(self, layout, names, anywhere: str):
        box = qt.QComboBox()
        box.addItem(anywhere, "")
        for name in names:
            box.addItem(name, name)
        box.connect("currentIndexChanged(int)", self._onValueChanged)
        layout.addWidget(box)
        return box

    def _explanation(self) -> str:
        text = f"{self.condition.label} ({self.condition.unit}). "
        if self.condition.marks:
            marks = ", ".join(f"{mark:.3g}" for mark in self.condition.marks)
            text += _("Quartiles of the training data: {marks}. ").format(marks=marks)
        return text + _("Trained on {data}.").format(data=self.condition.trained_on)

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
        if self.places is not None:
            self.places.setVisible(self.value() is not None)
            if self.condition.millilitres:
                self.volume.setText(
                    _("{volume:.3g} mL").format(volume=self.slider.value * self.condition.millilitres)
                )
