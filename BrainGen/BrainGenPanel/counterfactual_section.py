"""The section Counterfactual: a scan as it would look under other conditions."""

import slicer
from slicer.i18n import tr as _

from BrainGenPanel import layouts
from BrainGenPanel.condition_row import ConditionRow
from BrainGenPanel.drift_control import DriftControl
from BrainGenPanel.lesion_question import LesionQuestion
from BrainGenPanel.run_button import RunButton
from BrainGenPanel.sweep_control import SweepControl

# What has no meaning for a model that changes labels alone.
BY_DIFFUSION = ("lesionsLeftCheckBox", "knownTitle", "knownRows", "diffusionSettings")


class CounterfactualSection:
    """Asks for a change of the scan that the parameter node names.

    Args:
        ui: widgets of the panel by name.
        logic: :class:`BrainGenPanel.logic.BrainGenLogic`.
        attempt, showState: see :class:`BrainGenPanel.run_button.RunButton`.

    Attributes:
        known, wanted: :class:`BrainGenPanel.condition_row.ConditionRow` of what is so in the scan, and of what is to
            be.
    """

    def __init__(self, ui, logic, attempt, showState) -> None:
        self.known = []
        self.wanted = []
        self._ui = ui
        self._logic = logic
        self._node = None
        self._scan = None
        self._bundles = {}
        self._segmenter = None
        self._counted = {}
        self._built = None
        self._button = RunButton(
            ui.changeButton,
            logic,
            "counterfactual",
            self.run,
            attempt,
            showState,
            _("Choose a scan, and tick under Wanted what is to change, first."),
        )
        self._drift = DriftControl(
            ui.changeDriftSlider, ui.autoDriftCheckBox, ui.changeDriftDelta, ui.changeDriftCurve
        )
        self._sweep = SweepControl(ui, "changeSweep")
        self._question = LesionQuestion(ui.lesionNameLabel, ui.lesionNameSelector, self._refresh)
        self._attempt = attempt
        ui.findLesionsButton.connect("clicked(bool)", self.onFindLesions)
        ui.changeBundleSelector.connect("activated(int)", self.onBundleChanged)
        ui.changeContrastSelector.connect("activated(int)", self.onContrastChanged)

    @property
    def metadata(self):
        """Of the bundle that changes scans, with the lesions that can be asked of it as they are to be changed; None:
        the engine has none."""
        chosen = self._bundles.get(self._node.changeBundle) if self._node else None
        chosen = chosen or next(iter(self._bundles.values()), None)
        if chosen is None:
            # Perhaps because packages are missing that the library needs.
            return None
        from BrainGenLib import capabilities

        left = bool(self._node) and self._node.lesionsLeft
        return capabilities.changing(chosen, left, self._bundles.get(capabilities.LABELS))

    def setBundles(self, bundles: dict) -> None:
        """These are the ones that the engine has, by name."""
        self._segmenter = next((bundle for bundle in bundles.values() if "segment" in bundle.verbs), None)
        able = [(name, bundle) for name, bundle in bundles.items() if "counterfactual" in bundle.verbs]
        # What changes the image comes first: it understands more.
        self._bundles = dict(sorted(able, key=lambda item: not item[1].family))
        selector = self._ui.changeBundleSelector
        selector.clear()
        for name, bundle in self._bundles.items():
            way = _("by diffusion") if bundle.family else _("lesions and ventricles, by labels")
            selector.addItem(f"{bundle.title} {bundle.version} – {way}", name)
        self._built = None

    def onBundleChanged(self, index) -> None:
        self._node.changeBundle = str(self._ui.changeBundleSelector.itemData(index))

    def onContrastChanged(self, index) -> None:
        self._node.changeContrast = str(self._ui.changeContrastSelector.itemData(index))

    def update(self, node, _metadata) -> None:
        """Show what can be done with these choices; the bundle that generates does not matter."""
        self._node = node
        metadata = self.metadata
        self._keepLesions()
        self._ui.changeSection.setEnabled(metadata is not None)
        self._question.update(node.lesions if node and metadata is not None else None)
        if node and metadata is not None:
            if metadata != self._built:
                self._build(metadata)
            self._show(metadata)
            self._drift.update(metadata)
        known = bool(node) and metadata is not None
        axis = self._sweep.axis if known else None
        wanted = bool(self._asked(self.wanted)) or (axis is not None and axis.wanted)
        scan = node.changeScan if known else None
        told = scan is not None and self._tellLesions(metadata, axis)
        for widget in (self._ui.lesionsFoundLabel, self._ui.findLesionsButton):
            widget.setEnabled(scan is not None and not self._logic.busyWith)
        self._button.update(scan is not None and wanted and told, _("Make sweep") if axis is not None else "")

    def _keepLesions(self) -> None:
        """Another scan that was chosen has not the lesions of the one before."""
        scan = self._node.changeScan if self._node else None
        changed, self._scan = scan is not self._scan, scan
        if changed and scan is not None and self._node.lesions is not None:
            from BrainGenLib.scene.cases import of_another

            if of_another(self._node.lesions, scan):
                self._node.lesions = None

    def onFindLesions(self, _checked) -> None:
        with self._attempt():
            self._logic.segment(self._node.changeScan)

    def _tellLesions(self, metadata, axis) -> bool:
        """Say what is known of the lesions of the scan; whether that is enough for what is asked for."""
        from BrainGenLib import lesion_findings
        from BrainGenLib.scene.segmentation import found_in

        node = self._node
        byLabels = not (metadata.family and node.lesionsLeft)
        rows = [row for row in self.wanted if row.isPathology and row.offered and row.value() is not None]
        swept = axis is not None and any(row.isPathology and row.condition.name == axis.name for row in self.wanted)
        matters = byLabels and (bool(rows) or swept)
        found = node.lesions or found_in(slicer.mrmlScene, node.changeScan)
        self._ui.findLesionsButton.setVisible(found is None)
        if found is None:
            text = _("Find its lesions first, or choose a segmentation of them.") if matters else ""
        else:
            removed = [row.condition.name for row in rows if row.value() == 0] if byLabels else []
            segmenter = self._segmenter if node.lesions is None else None
            text = lesion_findings.described(self._volumes(found), removed, segmenter)
        self._ui.lesionsFoundLabel.setText(text)
        self._ui.lesionsFoundLabel.setVisible(bool(text))
        return found is not None or not matters

    def _volumes(self, segmentation) -> dict:
        """Of the lesions in a segmentation node, counted anew when it was edited."""
        from BrainGenLib.scene.segmentation import lesions_ml

        content = segmentation.GetSegmentation()
        segments = [content.GetNthSegment(index) for index in range(content.GetNumberOfSegments())]
        images = [segment.GetRepresentation("Binary labelmap") for segment in segments]
        state = (segmentation.GetID(), *(one.GetMTime() for one in (*segments, *images) if one is not None))
        if state not in self._counted:
            self._counted = {state: lesions_ml(segmentation)}
        return self._counted[state]

    def _refresh(self) -> None:
        self.update(self._node, None)

    def run(self) -> None:
        node, metadata = self._node, self.metadata
        settings = {"bundle": metadata.name, "seed": node.seed, "contrast": self._contrast(metadata) or None}
        if metadata.family:
            settings["known"] = self._asked(self.known)
            settings["drift"] = "auto" if node.autoDrift else node.changeDrift
            settings["strength"], settings["guidance"] = node.strength, node.guidance
            settings["variants"] = node.variants
            settings["lesions"] = "diffusion" if node.lesionsLeft else "labels"
        wanted, axis = self._asked(self.wanted), self._sweep.axis
        if axis is None:
            self._logic.counterfactual(node.changeScan, wanted, segmentation=node.lesions, **settings)
            return
        from BrainGenLib.requests import Counterfactual

        request = Counterfactual(device=self._logic.engine.device, scan="", wanted=wanted, **settings)
        self._logic.sweep(request, axis.name, self._sweep.values, scan=node.changeScan, segmentation=node.lesions)

    def _asked(self, rows) -> dict:
        values = {row.condition.name: row.value() for row in rows if row.offered}
        return {name: value for name, value in values.items() if value is not None}

    def _contrast(self, metadata) -> str:
        """The contrast that is named and known; empty: to be recognised."""
        return self._node.changeContrast if self._node.changeContrast in metadata.contrasts else ""

    def _build(self, metadata) -> None:
        """A slider for each condition, on both sides."""
        from BrainGenLib import capabilities, requests

        self._built = metadata
        selector = self._ui.changeContrastSelector
        selector.clear()
        selector.addItem(_("recognised"), "")
        for contrast in metadata.contrasts:
            selector.addItem(contrast, contrast)
        conditions = requests.changeable(metadata)
        known = _("Ticked: so it is in the scan. Not ticked: not known, or measured on the scan where that can be.")
        wanted = _("Ticked: so it is to be. Not ticked: as it is, or as it goes with what is ticked.")
        knowable = capabilities.knowable(metadata, self._node.lesionsLeft)
        self.known = self._rows(self._ui.knownRows, knowable, known)
        self.wanted = self._rows(self._ui.wantedRows, conditions, wanted)
        for name in BY_DIFFUSION:
            getattr(self._ui, name).setVisible(bool(metadata.family))

    def _rows(self, holder, conditions, tick: str) -> list:
        layouts.clear(holder)
        rows = [ConditionRow(condition, self._onChoice, tick=tick) for condition in conditions]
        for row in rows:
            holder.layout().addRow(row.label, row.widget)
        return rows

    def _show(self, metadata) -> None:
        """What the parameter node holds, in the widgets that are made by name."""
        node, contrast = self._node, self._contrast(metadata)
        self._ui.changeBundleSelector.setCurrentIndex(self._ui.changeBundleSelector.findData(metadata.name))
        self._ui.changeContrastSelector.setCurrentIndex(self._ui.changeContrastSelector.findData(contrast))
        for rows, values in ((self.known, dict(node.known)), (self.wanted, dict(node.wanted))):
            for row in rows:
                row.show(values.get(row.condition.name))
        for row in self.wanted:
            row.offerFor([contrast] if contrast else [])
        from BrainGenLib.sweeps import axes

        self._sweep.update(node, axes("counterfactual", metadata, [contrast] if contrast else []))

    def _onChoice(self) -> None:
        """What the user chose in those widgets, into the parameter node; what another model understands stays."""
        node = self._node
        with slicer.util.NodeModify(node.parameterNode):
            for parameter, rows in (("known", self.known), ("wanted", self.wanted)):
                values = {**getattr(node, parameter), **{row.condition.name: row.value() for row in rows}}
                setattr(node, parameter, {name: value for name, value in values.items() if value is not None})
