"""The question of what a mask shows: shown while a segmentation has a segment that says nothing of it."""

from slicer.i18n import tr as _


class LesionQuestion:
    """Asks which lesion a segment is, and writes the answer to the segment, as Segment Editor would.

    Args:
        label, selector: widgets that are shown while there is something to ask.
        onAnswered: called when the user has answered.
    """

    def __init__(self, label, selector, onAnswered) -> None:
        self._label = label
        self._selector = selector
        self._onAnswered = onAnswered
        self._node = None
        self._segment = ""
        selector.connect("activated(int)", self.onChosen)

    def update(self, node) -> None:
        """Ask for the first segment of a segmentation that needs it; None: there is no segmentation."""
        self._node = node
        asked = {}
        if node is not None:
            from BrainGenLib import anatomy
            from BrainGenLib.scene.segmentation import unknown_segments

            asked = unknown_segments(node)
            if asked and not self._selector.count:
                self._selector.addItem(_("choose a lesion"), "")
                for name, lesion in anatomy.lesions().items():
                    self._selector.addItem(lesion.name, name)
        self._label.setVisible(bool(asked))
        self._selector.setVisible(bool(asked))
        if asked:
            self._segment, name = next(iter(asked.items()))
            self._label.setText(_("{segment} is:").format(segment=name))
            self._selector.setCurrentIndex(0)

    def onChosen(self, index) -> None:
        name = str(self._selector.itemData(index))
        if not name:
            return
        from BrainGenLib import anatomy
        from BrainGenLib.scene.segmentation import say_what

        say_what(self._node, self._segment, anatomy.lesions()[name])
        self._onAnswered()
