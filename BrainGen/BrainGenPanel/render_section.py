"""The section Render from segmentation: images of a segmentation node, as it stands."""

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
        self._button = RunButton(ui.renderButton, logic, "render", self.run, attempt, showState)

    def update(self, node, metadata) -> None:
        """Show what can be done with these choices and this bundle; either may be None."""
        self._node = node
        renders = metadata is not None and "render" in metadata.verbs
        self._ui.renderSection.setEnabled(renders)
        self._button.update(renders and bool(node.segmentation) and bool(node.renderContrasts))

    def run(self) -> None:
        node = self._node
        self._logic.render(
            node.segmentation,
            list(node.renderContrasts),
            style=node.renderStyleVolume,
            seed=node.seed,
            bundle=node.bundle,
        )
