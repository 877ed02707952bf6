"""The section Generate: new cases, and drafts of them while sliders move."""

import qt
from slicer.i18n import tr as _

from BrainGenPanel.drift_control import DriftControl
from BrainGenPanel.run_button import RunButton
from BrainGenPanel.sweep_control import SweepControl

DEBOUNCE_MS = 300
# Labels come before the images, so tissue can be displaced, and there are drafts, and images of several contrasts and
# in the style of a scan.
BY_LABELS = ("massEffectLabel", "massEffectSlider", "styleLabel", "styleSelector", "liveCheckBox")
BY_DONORS = ("maxShareLabel", "maxShareSlider")
BY_DRIFT = ("driftLabel", "driftRow", "driftCurve")


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
        self._button = RunButton(
            ui.generateButton, logic, "generate", self.run, attempt, showState, _("Tick a contrast first.")
        )
        self.liveTimer = qt.QTimer()
        self.liveTimer.setSingleShot(True)
        self.liveTimer.setInterval(DEBOUNCE_MS)
        self.liveTimer.connect("timeout()", self.onLive)
        self._drift = DriftControl(ui.driftSlider, ui.ownDriftCheckBox, ui.driftDelta, ui.driftCurve)
        self._sweep = SweepControl(ui, "sweep")
        ui.newSeedButton.connect("clicked(bool)", self.onNewSeed)
        ui.massEffectSlider.connect("valueChanged(double)", self.onMassEffect)

    def update(self, node, metadata) -> None:
        """Show what can be done with these choices and this bundle; either may be None."""
        self._node, self._metadata = node, metadata
        self._ui.generateSection.setEnabled(metadata is not None)
        for names, shown in ((BY_LABELS, self._labels), (BY_DONORS, self._donors), (BY_DRIFT, self._drifts)):
            for name in names:
                getattr(self._ui, name).setVisible(shown)
        if self._drifts:
            self._drift.update(metadata)
        self._showSweep()

    def close(self) -> None:
        """No more drafts."""
        self.liveTimer.stop()

    def run(self) -> None:
        node = self._node
        if not node.keepSeed:
            node.seed = self._logic.newSeed()
        style = node.styleVolume if self._labels else None
        axis = self._sweep.axis
        if axis is not None:
            self._logic.sweep(self.request(), axis.name, self._sweep.values, style=style)
        else:
            self._logic.generate(self.request(), style=style, count=node.count)

    def request(self, **changes):
        """What the section asks for."""
        from BrainGenLib.requests import Generate, Location

        node, offered = self._node, self._offered()
        places = {
            name: Location(side=node.sides.get(name), lobe=node.lobes.get(name))
            for name in {**node.sides, **node.lobes}
            if name in offered
        }
        displaced = {"mass_effect": node.massEffect} if self._labels else {}
        limited = {"max_share": node.maxShare / 100} if self._donors else {}
        return Generate(
            bundle=node.bundle,
            device=self._logic.engine.device,
            pathologies={name: load for name, load in node.pathologies.items() if name in offered},
            locations=places,
            anatomy={name: value for name, value in node.anatomy.items() if name in offered},
            contrasts=list(node.contrasts),
            seed=node.seed,
            drift=node.drift if self._drifts and not node.ownDrift else None,
            **displaced,
            **limited,
            **changes,
        )

    def _showSweep(self) -> None:
        """What may be swept over, and what the button does with it."""
        node, metadata = self._node, self._metadata
        if not node or metadata is None:
            self._button.update(False)
            return
        from BrainGenLib.sweeps import axes

        self._sweep.update(node, axes("generate", metadata, list(node.contrasts)))
        films = self._sweep.axis is not None
        # Each film is many cases.
        self._ui.countSpinBox.setEnabled(not films)
        self._button.update(bool(node.contrasts), _("Make sweep") if films else "")

    @property
    def _labels(self) -> bool:
        """Whether the bundle makes labels; so it is taken until one is known."""
        return self._metadata is None or not self._metadata.family

    @property
    def _donors(self) -> bool:
        return self._metadata is not None and self._metadata.donors > 0

    @property
    def _drifts(self) -> bool:
        return self._metadata is not None and self._metadata.family == "brain-ldm"

    def _offered(self) -> list:
        """Conditions that can be asked for in the chosen contrasts; others may be left of another bundle."""
        chosen = set(self._node.contrasts)
        return [
            condition.name
            for condition in self._metadata.conditions
            if not condition.contrasts or chosen <= set(condition.contrasts)
        ]

    def choicesChanged(self) -> None:
        """A draft follows when the user pauses, where drafts are wanted."""
        if self._node.live and self._labels:
            self.liveTimer.start()

    def onLive(self) -> None:
        if self._metadata is None or (self._logic.running and not self._logic.drafting):
            return
        with self._attempt():
            self._logic.generate(self.request(draft=True))

    def onMassEffect(self, _millimetres) -> None:
        if self._node:
            self.choicesChanged()

    def onNewSeed(self, _checked) -> None:
        self._node.seed = self._logic.newSeed()
