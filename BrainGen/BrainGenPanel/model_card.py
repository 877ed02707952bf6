"""The model card of a bundle in a window of Slicer: many systems know no program for Markdown."""

from pathlib import Path

import qt
import slicer

WIDTH, HEIGHT = 760, 640


def show(title: str, path: Path):
    """Open a window with a model card beside Slicer's; it goes when it is closed.

    Args:
        title: of the window.
        path: of the card, in Markdown.
    """
    dialog = qt.QDialog(slicer.util.mainWindow())
    dialog.setAttribute(qt.Qt.WA_DeleteOnClose)
    dialog.setWindowTitle(title)
    text = qt.QTextBrowser()
    text.setOpenExternalLinks(True)
    text.setMarkdown(path.read_text("utf-8"))
    layout = qt.QVBoxLayout(dialog)
    layout.addWidget(text)
    dialog.resize(WIDTH, HEIGHT)
    dialog.show()
    return dialog
