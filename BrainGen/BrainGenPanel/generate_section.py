"""The section Generate: new cases, and drafts of them while sliders move."""

import qt

from BrainGenPanel.run_button import RunButton

DEBOUNCE_MS = 300


class GenerateSection:
    """Asks for cases as the parameter node describes them.

    Args:
        ui: widgets of the panel by name.
        logic: :class:`BrainGenPanel.logic.BrainGenLogic`.
        attempt, showState: see :class:`BrainGenPanel.run_button.RunButton`.
    """

    def __init__(self, ui, logic, attempt, showState) -> None:
        self._ui = ui
        self._logic = logic
        self._attempt = attempt
        self._node = None
        self._metadata = None
        self._button = RunButton(ui.generateButton, logic, self.run, attempt, showState)
        self.liveTimer = qt.QTimer()
        self.liveTimer.setSingleShot(True)
        self.liveTimer.setInterval(DEBOUNCE_MS)
        self.liveTimer.connect("timeout()", self.onLive)
        ui.newSeedButton.connect("clicked(bool)", self.onNewSeed)

    def update(self, node, metadata) -> None:
        """Show what can be done with these choices and this bundle; either may be None."""
        self._node, self._metadata = node, metadata
        self._ui.generateSection.setEnabled(metadata is not None)
        self._button.update(metadata is not None and bool(node.contrasts))

    def close(self) -> None:
        """No more drafts."""
        self.liveTimer.stop()

    def run(self) -> None:
        node = self._node
        if not node.keepSeed:
            node.seed = self._logic.newSeed()
        self._logic.generate(self.request(), style=node.styleVolume, count=node.count)

    def request(self, **changes):
        """What the section asks for."""
        from BrainGenLib.requests import Generate, Location

        node = self._node
        places = {
            name: Location(side=node.sides.get(name), lobe=node.lobes.get(name))
            for name in {**node.sides, **node.lobes}
        }
        return Generate(
            bundle=node.bundle,
            device=self._logic.engine.device,
            pathologies=dict(node.pathologies),
            locations=places,
            anatomy=dict(node.anatomy),
            contrasts=list(node.contrasts),
            seed=node.seed,
            **changes,
        )

    def choicesChanged(self) -> None:
        """A draft follows when the user pauses, where drafts are wanted."""
        if self._node.live:
            self.liveTimer.start()

    def onLive(self) -> None:
        if self._metadata is None or (self._logic.running and not self._logic.drafting):
            return
        with self._attempt():
            self._logic.generate(self.request(draft=True))

    def onNewSeed(self, _checked) -> None:
        self._node.seed = self._logic.newSeed()
