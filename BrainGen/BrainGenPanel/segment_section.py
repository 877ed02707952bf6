"""The section Segment a scan."""

from slicer.i18n import tr as _

from BrainGenPanel.run_button import RunButton


class SegmentSection:
    """Asks for the segmentation of the scan that the parameter node names.

    Args:
        ui: widgets of the panel by name.
        logic: :class:`BrainGenPanel.logic.BrainGenLogic`.
        attempt, showState: see :class:`BrainGenPanel.run_button.RunButton`.
    """

    def __init__(self, ui, logic, attempt, showState) -> None:
        self._ui = ui
        self._logic = logic
        self._node = None
        self._button = RunButton(
            ui.segmentButton, logic, "segment", self.run, attempt, showState, _("Choose a scan first.")
        )

    def update(self, node, metadata) -> None:
        """Show what can be done with these choices and this bundle; either may be None."""
        self._node = node
        self._ui.segmentSection.setEnabled(metadata is not None)
        self._button.update(metadata is not None and bool(node.scan))

    def run(self) -> None:
        self._logic.segment(self._node.scan)
