"""Name and SYNTHETIC in Slicer's own views, rendered into their pictures, whatever changes what they show."""

from functools import cache

import slicer


class ViewMarks:
    """Marks each view of the application, those of layouts to come too. Marks last as long as their views."""

    def __init__(self) -> None:
        # Not the windows: they are to end with their views.
        self._marked = set()
        manager = slicer.app.layoutManager()
        if manager is not None:  # there is none without windows
            manager.connect("layoutChanged(int)", self.onLayoutChanged)
            self._mark(manager)

    def onLayoutChanged(self, _layout) -> None:
        self._mark(slicer.app.layoutManager())

    def _mark(self, manager) -> None:
        from BrainGenLib.scene.annotations import Annotation

        slices = [manager.sliceWidget(name) for name in manager.sliceViewNames()]
        threed = [manager.threeDWidget(index) for index in range(manager.threeDViewCount)]
        views = [(widget.mrmlSliceNode(), widget.sliceView()) for widget in slices]
        views += [(widget.mrmlViewNode(), widget.threeDView()) for widget in threed]
        for node, view in views:
            window = view.renderWindow()
            which = node.GetID(), window.GetAddressAsString("vtkRenderWindow")
            if which not in self._marked:
                self._marked.add(which)
                # Slicer says the names of volumes itself.
                Annotation(node, window, marked_only=True)


@cache
def markViews() -> ViewMarks:
    """Have the views of the application marked from now on."""
    return ViewMarks()
