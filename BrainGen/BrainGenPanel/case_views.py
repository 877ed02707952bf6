"""Cases in the views of the application."""

import qt
import slicer

from BrainGenPanel import view_marks

# Until the views of another layout have their size.
LAYOUT_MS = 100


class CaseViews:
    """Shows cases; once more when another layout was chosen, to fit them to its views when these have their size."""

    def __init__(self) -> None:
        self._refit = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(LAYOUT_MS)
        self._timer.connect("timeout()", self._onLaidOut)

    @property
    def settling(self) -> bool:
        """Whether cases are still to be fitted to the views of another layout."""
        return self._timer.active

    def stop(self) -> None:
        """Leave the views as they are: what they show is going."""
        self._timer.stop()

    def show(self, name: str, contrast=None) -> None:
        """Show one case of the scene, the slices through its middle; see :meth:`showAt`."""
        from BrainGenLib.scene import cases, showing

        nodes = cases.nodes_of(slicer.mrmlScene, name)
        self.showAt(name, nodes, showing.bounds_of(nodes).mean(1), contrast)

    def showAt(self, name: str, nodes, point, contrast=None) -> None:
        """Show one case: a changed scan beside what it was and the difference, another alone, a film in its toolbar.

        Args:
            name: of the case.
            nodes: :class:`BrainGenLib.scene.case_to_scene.CaseNodes`.
            point: (3,) RAS mm, where the slices are to cross, with all of the case in view; None leaves them.
            contrast: name of an image or a map of the case, None for its first image.
        """
        from BrainGenLib.scene import changes

        def act():
            changes.show_case(slicer.mrmlScene, nodes, point, contrast)
            _offerFilm(nodes)

        self._show([name], act)

    def compare(self, first: str, second: str) -> None:
        """Show two cases side by side, in views that move together."""
        from BrainGenLib.scene import cases, showing

        scene = slicer.mrmlScene
        both = [cases.nodes_of(scene, name) for name in (first, second)]
        self._show([first, second], lambda: showing.compare(scene, *both))

    def _show(self, names, act) -> None:
        manager = slicer.app.layoutManager()
        if manager is None:  # an application without windows
            return
        view_marks.markViews()
        before = manager.layout
        act()
        if manager.layout != before or self.settling:
            self._refit = names, act
            self._timer.start()

    def _onLaidOut(self) -> None:
        from BrainGenLib.scene import cases

        names, act = self._refit
        self._refit = None
        if set(names) <= set(cases.case_names(slicer.mrmlScene)):
            act()


def _offerFilm(nodes) -> None:
    """Let the application's toolbar play a sweep."""
    browser = next((node for node in nodes.film if node.IsA("vtkMRMLSequenceBrowserNode")), None)
    sequences = getattr(slicer.modules, "sequences", None)
    if browser is not None and sequences is not None:
        sequences.showSequenceBrowser(browser)
