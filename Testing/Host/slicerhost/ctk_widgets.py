"""Stand-ins for the widgets of CTK that panels use."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Property, QDir, QRect, QSize, Qt, QTimer, Signal
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSlider,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QToolButton,
    QWidget,
)

from slicerhost.dialogs import dialogs


def stored(kind: Any, name: str, changed: Callable[[Any], None] | None = None) -> Property:
    """A Q_PROPERTY kept in the attribute ``_<name>``; ``changed`` is called after it was set."""

    def read(self: Any) -> Any:
        return getattr(self, f"_{name}")

    def write(self: Any, value: Any) -> None:
        setattr(self, f"_{name}", value)
        if changed is not None:
            changed(self)

    return Property(kind, read, write)


class ctkCheckBox(QCheckBox):
    """A check box."""


class ctkComboBox(QComboBox):
    """A combo box."""


class ctkMessageBox(QMessageBox):
    """A message box."""


class ctkCollapsibleButton(QAbstractButton):
    """A header that hides what is below it; checked means open."""

    contentsCollapsed = Signal(bool)
    _HEADER = 24

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setContentsMargins(0, self._HEADER, 0, 0)
        self.setCheckable(True)
        self.setChecked(True)
        # Hidden by the section, not by the panel; only these reappear.
        self._hidden: list[QWidget] = []
        self.toggled.connect(self._open)

    def _is_collapsed(self) -> bool:
        return not self.isChecked()

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, _is_collapsed, setCollapsed)

    def _open(self, opened: bool) -> None:
        if opened:
            for widget in self._hidden:
                widget.show()
            self._hidden = []
        else:
            self._hide_children()
        self.updateGeometry()
        self.contentsCollapsed.emit(not opened)

    def _hide_children(self) -> None:
        if not self.isChecked():
            shown = [child for child in self.children() if isinstance(child, QWidget) and not child.isHidden()]
            self._hidden += shown
            for widget in shown:
                widget.hide()

    def childEvent(self, event: Any) -> None:
        super().childEvent(event)
        # Children of a section that is closed already, as in a .ui file that sets the property first. Not now: to
        # PySide6 a widget that is being made would remain a plain QWidget.
        if event.added() and not self.isChecked():
            QTimer.singleShot(0, self, self._hide_children)

    def hitButton(self, point: Any) -> bool:
        return self._header().contains(point)

    def sizeHint(self) -> QSize:
        width = self.fontMetrics().horizontalAdvance(self.text()) + 2 * self._HEADER
        contents = self.layout().totalSizeHint() if self.layout() and self.isChecked() else QSize(0, self._HEADER)
        return contents.expandedTo(QSize(width, self._HEADER))

    def minimumSizeHint(self) -> QSize:
        if self.layout() and self.isChecked():
            return self.layout().totalMinimumSize()
        return QSize(0, self._HEADER)

    def paintEvent(self, _event: Any) -> None:
        header = self._header()
        option = QStyleOptionButton()
        option.initFrom(self)
        option.rect = header
        painter = QStylePainter(self)
        painter.drawControl(QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = QStyle.PrimitiveElement.PE_IndicatorArrowDown
        if not self.isChecked():
            arrow = QStyle.PrimitiveElement.PE_IndicatorArrowRight
        option.rect = QRect(0, 0, self._HEADER, self._HEADER).adjusted(6, 6, -6, -6)
        painter.drawPrimitive(arrow, option)
        left = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        painter.drawText(header.adjusted(self._HEADER, 0, 0, 0), left, self.text())

    def _header(self) -> QRect:
        return QRect(0, 0, self.width(), self._HEADER)


class ctkDoubleSpinBox(QWidget):
    """A spin box of decimals: a widget around one of Qt's, with fewer setters than that."""

    valueChanged = Signal(float)
    editingFinished = Signal()
    decimalsChanged = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = QDoubleSpinBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self.valueChanged)
        self._box.editingFinished.connect(self.editingFinished)

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def setReadOnly(self, read_only: bool) -> None:
        self._box.setReadOnly(read_only)

    def setDecimals(self, decimals: int) -> None:
        changed = decimals != self._box.decimals()
        self._box.setDecimals(decimals)
        if changed:
            self.decimalsChanged.emit(decimals)

    def stepUp(self) -> None:
        self._box.stepUp()

    def stepDown(self) -> None:
        self._box.stepDown()

    value = Property(float, lambda self: self._box.value(), setValue)
    decimals = Property(int, lambda self: self._box.decimals(), setDecimals)
    readOnly = Property(bool, lambda self: self._box.isReadOnly(), setReadOnly)
    minimum = Property(float, lambda self: self._box.minimum(), lambda self, value: self._box.setMinimum(value))
    maximum = Property(float, lambda self: self._box.maximum(), lambda self, value: self._box.setMaximum(value))
    singleStep = Property(
        float, lambda self: self._box.singleStep(), lambda self, value: self._box.setSingleStep(value)
    )
    prefix = Property(str, lambda self: self._box.prefix(), lambda self, text: self._box.setPrefix(text))
    suffix = Property(str, lambda self: self._box.suffix(), lambda self, text: self._box.setSuffix(text))


class ctkSliderWidget(QWidget):
    """A slider with a spin box; ``value`` is what both show."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._value, self._minimum, self._maximum = 0.0, 0.0, 100.0
        self._singleStep, self._pageStep, self._decimals = 1.0, 10.0, 2
        self._prefix, self._suffix, self._tracking = "", "", True
        self._slider, self._spin_box = QSlider(Qt.Orientation.Horizontal), QDoubleSpinBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._spin_box)
        self._show()
        self._spin_box.valueChanged.connect(self.setValue)
        self._slider.valueChanged.connect(self._slide)

    def _get_value(self) -> float:
        return self._value

    def setValue(self, value: float) -> None:
        value = round(min(max(value, self._minimum), self._maximum), self._decimals)
        changed, self._value = value != self._value, value
        self._show()
        if changed:
            self.valueIsChanging.emit(value)
            self.valueChanged.emit(value)

    def setDecimals(self, decimals: int) -> None:
        changed, self._decimals = decimals != self._decimals, decimals
        self._reshape()
        if changed:
            self.decimalsChanged.emit(decimals)

    def reset(self) -> None:
        self.setValue(self._minimum)

    def _slide(self, position: int) -> None:
        self.setValue(self._minimum + position * self._step())

    def _step(self) -> float:
        return self._singleStep or 1.0

    def _reshape(self) -> None:
        self._maximum = max(self._minimum, self._maximum)
        self.setValue(self._value)

    def _show(self) -> None:
        for widget in (self._slider, self._spin_box):
            widget.blockSignals(True)
        self._spin_box.setPrefix(self._prefix)
        self._spin_box.setSuffix(self._suffix)
        self._spin_box.setDecimals(self._decimals)
        self._spin_box.setSingleStep(self._step())
        self._spin_box.setRange(self._minimum, self._maximum)
        self._spin_box.setValue(self._value)
        self._slider.setRange(0, round(min((self._maximum - self._minimum) / self._step(), 2**30)))
        self._slider.setValue(round((self._value - self._minimum) / self._step()))
        for widget in (self._slider, self._spin_box):
            widget.blockSignals(False)

    value = Property(float, _get_value, setValue)
    minimum = stored(float, "minimum", _reshape)
    maximum = stored(float, "maximum", _reshape)
    decimals = Property(int, lambda self: self._decimals, setDecimals)
    singleStep = stored(float, "singleStep", _reshape)
    pageStep = stored(float, "pageStep")
    prefix = stored(str, "prefix", _reshape)
    suffix = stored(str, "suffix", _reshape)
    tracking = stored(bool, "tracking")


class ctkRangeWidget(QWidget):
    """Two spin boxes: the ends of a range."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._minimum, self._maximum, self._singleStep, self._decimals = 0.0, 99.0, 1.0, 2
        self._minimumValue, self._maximumValue = 0.0, 99.0
        self._low, self._high = QDoubleSpinBox(), QDoubleSpinBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for spin_box in (self._low, self._high):
            layout.addWidget(spin_box)
        self._show()
        self._low.valueChanged.connect(lambda low: self.setValues(low, self._maximumValue))
        self._high.valueChanged.connect(lambda high: self.setValues(self._minimumValue, high))

    def setRange(self, minimum: float, maximum: float) -> None:
        self._minimum, self._maximum = minimum, maximum
        self._reshape()

    def setValues(self, low: float, high: float) -> None:
        low, high = (min(max(value, self._minimum), self._maximum) for value in sorted((low, high)))
        moved = low != self._minimumValue, high != self._maximumValue
        self._minimumValue, self._maximumValue = low, high
        self._show()
        if moved[0]:
            self.minimumValueChanged.emit(low)
        if moved[1]:
            self.maximumValueChanged.emit(high)
        if any(moved):
            self.valuesChanged.emit(low, high)

    def _reshape(self) -> None:
        self.setValues(self._minimumValue, self._maximumValue)

    def _show(self) -> None:
        for spin_box, value in ((self._low, self._minimumValue), (self._high, self._maximumValue)):
            spin_box.blockSignals(True)
            spin_box.setDecimals(self._decimals)
            spin_box.setSingleStep(self._singleStep)
            spin_box.setRange(self._minimum, self._maximum)
            spin_box.setValue(value)
            spin_box.blockSignals(False)

    def setMinimumValue(self, value: float) -> None:
        self.setValues(value, self._maximumValue)

    def setMaximumValue(self, value: float) -> None:
        self.setValues(self._minimumValue, value)

    def setDecimals(self, decimals: int) -> None:
        self._decimals = decimals
        self._reshape()

    minimumValue = Property(float, lambda self: self._minimumValue, setMinimumValue)
    maximumValue = Property(float, lambda self: self._maximumValue, setMaximumValue)
    minimum = stored(float, "minimum", _reshape)
    maximum = stored(float, "maximum", _reshape)
    decimals = Property(int, lambda self: self._decimals, setDecimals)
    singleStep = stored(float, "singleStep", _reshape)


class ctkPathLineEdit(QWidget):
    """A line for a path, with a button that asks for one."""

    class Filter(enum.IntFlag):
        """Which paths it takes, in the numbers of QDir."""

        Dirs = 0x001
        Files = 0x002
        Drives = 0x004
        NoSymLinks = 0x008
        Readable = 0x010
        Writable = 0x020
        Executable = 0x040
        Hidden = 0x100
        System = 0x200

    currentPathChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._filters = self.Filter.Files
        self._nameFilters: list[str] = []
        self._label, self._settingKey = "", ""
        self._showHistoryButton = True
        self._edit, browse = QLineEdit(), QToolButton()
        browse.setText("…")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        layout.addWidget(browse)
        self._edit.textChanged.connect(self.currentPathChanged)
        browse.clicked.connect(lambda: self._edit.setText(str(dialogs.path or self._edit.text())))

    def _path(self) -> str:
        return self._edit.text()

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(path)

    def addCurrentPathToHistory(self) -> None:
        """Nothing is remembered."""

    currentPath = Property(str, _path, setCurrentPath)
    filters = stored(int, "filters")
    nameFilters = stored("QStringList", "nameFilters")
    label = stored(str, "label")
    settingKey = stored(str, "settingKey")
    showHistoryButton = stored(bool, "showHistoryButton")


class ctkDirectoryButton(QWidget):
    """A button that shows a folder and asks for another."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._caption = ""
        self._button = QPushButton(QDir.currentPath())
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)
        self._button.clicked.connect(self.browse)

    def browse(self) -> None:
        if dialogs.path is not None:
            self.setDirectory(str(dialogs.path))
            self.directorySelected.emit(self._button.text())

    def _directory(self) -> str:
        return self._button.text()

    def setDirectory(self, directory: str) -> None:
        directory = QDir(directory).absolutePath()
        if directory != self._button.text():
            self._button.setText(directory)
            self.directoryChanged.emit(directory)

    directory = Property(str, _directory, setDirectory)
    caption = stored(str, "caption")
