"""Dialogs that nobody clicks: what they asked is kept, and the test has said what to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtWidgets

from slicerhost.observed import complain
from slicerhost.wrapping import EnumValue, Wrapper, replaces

_Box = QtWidgets.QMessageBox.StandardButton
_YES = (_Box.Yes, _Box.Ok, _Box.Retry, _Box.Save, _Box.Open)
_NO = (_Box.No, _Box.Cancel, _Box.Close, _Box.Discard, _Box.Ok)


class Dialogs:
    """The answers of a session to come, and the questions of the one so far."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing asked yet; every question will be answered yes, every file dialog cancelled."""
        self.answer = True
        self.path: Path | None = None
        self.text = ""
        self.questions: list[str] = []
        self.messages: list[str] = []
        self.errors: list[str] = []

    def confirm(self, text: str, *_args: Any, **_keywords: Any) -> bool:
        """``slicer.util.confirmOkCancelDisplay`` and its like."""
        self.questions.append(text)
        return self.answer

    def inform(self, text: str, *_args: Any, **_keywords: Any) -> None:
        """``slicer.util.infoDisplay`` and ``warningDisplay``."""
        self.messages.append(text)

    def error(self, text: str, *_args: Any, **_keywords: Any) -> None:
        """``slicer.util.errorDisplay``."""
        self.errors.append(text)
        complain(f"error dialog: {text}")

    def button(self, text: str, offered: Any) -> EnumValue:
        """The button of a message box that the answer means."""
        self.questions.append(text)
        for button in _YES if self.answer else _NO:
            if button & offered:
                return EnumValue(button)
        return EnumValue(_Box.NoButton)

    def display_functions(self) -> dict[str, Any]:
        """What takes the place of the functions of ``slicer.util``."""
        confirmations = ("confirmOkCancelDisplay", "confirmYesNoDisplay", "confirmRetryCloseDisplay")
        return {
            **dict.fromkeys(confirmations, self.confirm),
            "infoDisplay": self.inform,
            "warningDisplay": self.inform,
            "errorDisplay": self.error,
        }


dialogs = Dialogs()


@replaces(QtWidgets.QDialog, "exec", "exec_")
def _run_dialog(self: Wrapper) -> int:
    native = self.native
    if isinstance(native, QtWidgets.QMessageBox):
        return dialogs.button(native.text(), native.standardButtons())
    dialogs.questions.append(native.windowTitle())
    native.done(QtWidgets.QDialog.DialogCode.Accepted.value if dialogs.answer else 0)
    return native.result()


def _message_box(_parent: Wrapper | None, _title: str, text: str, /, *buttons: EnumValue) -> EnumValue:
    return dialogs.button(text, buttons[0].native if buttons else _Box.Ok)


for _name in ("question", "information", "warning", "critical"):
    replaces(QtWidgets.QMessageBox, _name)(staticmethod(_message_box))


# PythonQt returns the path alone, PySide6 a pair of path and filter.
@replaces(QtWidgets.QFileDialog, "getOpenFileName", "getSaveFileName", "getExistingDirectory")
@staticmethod
def _file_name(*_args: Any) -> str:
    return str(dialogs.path or "")


@replaces(QtWidgets.QFileDialog, "getOpenFileNames")
@staticmethod
def _file_names(*_args: Any) -> tuple[str, ...]:
    return (str(dialogs.path),) if dialogs.path else ()


@replaces(QtWidgets.QInputDialog, "getText")
@staticmethod
def _input_text(_parent: Wrapper | None, _title: str, label: str, /, *_args: Any) -> str:
    dialogs.questions.append(label)
    return dialogs.text
