"""The arrangement of three columns of slice views: a scan, what it was changed to, and the difference.

A scene file keeps the number of an arrangement alone, so Slicer has to know it before the file is opened: the module
offers it when Slicer starts, and nothing here imports more than the standard library.
"""

from __future__ import annotations

from typing import Any

LAYOUT = 7201
"""Number of the arrangement in the layout node; Slicer's own lie below 600."""
COLUMNS = tuple(tuple(name + "+" * column for name in ("Red", "Green", "Yellow")) for column in range(3))
"""Names of the views that show the scan, the changed scan and the difference."""

_PLANES = (("Axial", "#F34A33"), ("Coronal", "#6EB04B"), ("Sagittal", "#EDD54C"))


def offer(layout: Any) -> None:
    """Make the arrangement known to a vtkMRMLLayoutNode, and shown where the scene has asked for it already."""
    if layout.IsLayoutDescription(LAYOUT):
        return
    layout.AddLayoutDescription(LAYOUT, _arrangement())
    if layout.GetViewArrangement() == LAYOUT:
        layout.SetViewArrangement(LAYOUT)


def _arrangement() -> str:
    """Slicer's description of three columns of slice views."""
    rows = []
    for plane, (orientation, colour) in enumerate(_PLANES):
        views = []
        for column, names in enumerate(COLUMNS):
            label = names[plane][0] + "+" * column
            views.append(
                f'<item><view class="vtkMRMLSliceNode" singletontag="{names[plane]}">'
                f'<property name="orientation" action="default">{orientation}</property>'
                f'<property name="viewlabel" action="default">{label}</property>'
                f'<property name="viewcolor" action="default">{colour}</property></view></item>'
            )
        rows.append(f'<item><layout type="horizontal">{"".join(views)}</layout></item>')
    return f'<layout type="vertical">{"".join(rows)}</layout>'
