"""The line of a section in which a sweep is chosen: over what, from where to where, in how many frames."""

import slicer
from slicer.i18n import tr as _


class SweepControl:
    """Shows what may be swept over with the choices of a section; the parameter node keeps what the user chose.

    Args:
        ui: widgets of the panel by name.
        name: how its widgets and its parameters begin.
    """

    def __init__(self, ui, name: str) -> None:
        self._name = name
        self._selector, self._range, self._from, self._to = (
            getattr(ui, name + part) for part in ("Selector", "Range", "From", "To")
        )
        self._node = None
        self._axes = {}
        self._showing = False
        self._selector.connect("activated(int)", self.onChosen)
        self._from.connect("valueChanged(double)", self.onMoved)
        self._to.connect("valueChanged(double)", self.onMoved)

    @property
    def axis(self):
        """The :class:`BrainGenLib.sweeps.Axis` that is chosen, or None: no sweep."""
        return self._axes.get(self._parameter("Over")) if self._node else None

    @property
    def values(self) -> list:
        """Of the frames, of the axis that is chosen."""
        return self.axis.values(*(self._parameter(part) for part in ("From", "To", "Frames")))

    def update(self, node, axes) -> None:
        """Show the choices, of which another bundle or contrast may not know some."""
        self._node = node
        offered = {axis.name: axis for axis in axes}
        self._showing = True
        try:
            if offered != self._axes or not self._selector.count:
                self._axes = offered
                self._selector.clear()
                self._selector.addItem(_("— none —"), "")
                for axis in axes:
                    self._selector.addItem(axis.label, axis.name)
            chosen = self.axis
            self._selector.setCurrentIndex(self._selector.findData(chosen.name if chosen else ""))
            self._range.setVisible(chosen is not None)
            if chosen is not None:
                self._showRange(chosen)
        finally:
            self._showing = False

    def onChosen(self, index) -> None:
        name = str(self._selector.itemData(index))
        with slicer.util.NodeModify(self._node.parameterNode):
            self._choose("Over", name)
            if name:
                self._choose("From", float(self._axes[name].minimum))
                self._choose("To", float(self._axes[name].maximum))

    def onMoved(self, _value) -> None:
        if self._showing:
            return
        with slicer.util.NodeModify(self._node.parameterNode):
            self._choose("From", float(self._from.value))
            self._choose("To", float(self._to.value))

    def _showRange(self, axis) -> None:
        for part, box in (("From", self._from), ("To", self._to)):
            box.setDecimals(2 if axis.maximum <= 10 else 0)
            box.setSingleStep((axis.maximum - axis.minimum) / 20)
            box.setMinimum(axis.minimum)
            box.setMaximum(axis.maximum)
            box.setSuffix(f" {axis.unit}" if axis.unit else "")
            box.setValue(self._parameter(part))

    def _parameter(self, part: str):
        return getattr(self._node, self._name + part)

    def _choose(self, part: str, value) -> None:
        setattr(self._node, self._name + part, value)
