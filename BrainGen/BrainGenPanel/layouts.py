"""What widgets that are made anew share."""


def clear(holder) -> None:
    """Take all out of a widget's layout."""
    layout = holder.layout()
    while layout.count():
        widget = layout.takeAt(0).widget()
        if widget is not None:
            widget.setParent(None)
            widget.deleteLater()
