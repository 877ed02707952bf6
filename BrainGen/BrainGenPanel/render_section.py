"""The section Render from segmentation: images of a segmentation node, as it stands."""

from slicer.i18n import tr as _

from BrainGenPanel.lesion_question import LesionQuestion
from BrainGenPanel.run_button import RunButton


class RenderSection:
    """Asks for the images that the parameter node names.

    Args:
        ui: widgets of the panel by name.
        logic: :class:`BrainGenPanel.logic.BrainGenLogic`.
        attempt, showState: see :class:`BrainGenPanel.run_button.RunButton`.
    """

    def __init__(self, ui, logic, attempt, showState) -> None:
        self._ui = ui
        self._logic = logic
        self._node = None
        self._metadata = None
        self._attempt = attempt
        self._showState = showState
        self._question = LesionQuestion(ui.renderLesionLabel, ui.renderLesionSelector, self._refresh)
        ui.copyButton.connect("clicked(bool)", self.onCopy)
        self._button = RunButton(
            ui.renderButton,
            logic,
            "render",
            self.run,
            attempt,
            showState,
            _("Choose a segmentation, and tick a contrast, first."),
        )

    def update(self, node, metadata) -> None:
        """Show what can be done with these choices and this bundle; either may be None."""
        self._node, self._metadata = node, metadata
        segmentation = node.segmentation if node and metadata is not None else None
        self._question.update(segmentation)
        self._ui.copyButton.setEnabled(segmentation is not None and self._logic.isOfCase(segmentation))
        renders = metadata is not None and "render" in metadata.verbs
        self._ui.renderSection.setEnabled(renders)
        self._button.update(renders and bool(node.segmentation) and bool(node.renderContrasts))

    def onCopy(self, _checked) -> None:
        with self._attempt():
            copy = self._logic.copyToEdit(self._node.segmentation)
            self._node.segmentation = copy
            self._showState(_("{name} can be changed in Segment Editor, and rendered.").format(name=copy.GetName()))

    def _refresh(self) -> None:
        self.update(self._node, self._metadata)

    def run(self) -> None:
        node = self._node
        self._logic.render(
            node.segmentation,
            list(node.renderContrasts),
            style=node.renderStyleVolume,
            seed=node.seed,
            bundle=node.bundle,
        )
