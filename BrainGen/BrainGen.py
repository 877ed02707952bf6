"""The Slicer module BrainGen: what a clinician sees. Models run in a worker process, never in Slicer's own."""

import os
import sys

import qt
import slicer
import vtk
from BrainGenPanel import engine, packages, sample_data
from BrainGenPanel.condition_row import ConditionRow
from BrainGenPanel.logic import BrainGenLogic
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

DEBOUNCE_MS = 300


class BrainGen(ScriptedLoadableModule):
    """The module's card."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("BrainGen")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        self.parent.dependencies = []
        self.parent.contributors = ["The BrainGen founders"]
        self.parent.helpText = _(
            "Makes synthetic brain MRI with segmentations: choose pathology and contrast, press Generate. Renders a "
            "segmentation as an image, and segments scans of any contrast. For research and teaching, not for "
            "diagnosis."
        )
        self.parent.acknowledgementText = _(
            "Built on MONAI, PyTorch and 3D Slicer. The model cards list the data that the models were trained on."
        )
        slicer.app.connect("startupCompleted()", sample_data.register)


class BrainGenWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: choices go to the parameter node, clicks to the logic."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._bundles = {}
        self._rows = []
        self._contrastBoxes = {}
        self._renderContrastBoxes = {}
        self._showing = False
        self._installed = False
        self._probe = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/BrainGen.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = BrainGenLogic()
        self.logic.onUpdate = self.onUpdate
        self.logic.onExported = self.onExported

        self._liveTimer = self._singleShot(DEBOUNCE_MS, self.onLive)
        # A closing scene removes thousands of nodes: the list is made once, afterwards.
        self._resultsTimer = self._singleShot(50, self.updateResults)
        self._probeTimer = qt.QTimer()
        self._probeTimer.setInterval(200)
        self._probeTimer.connect("timeout()", self.onProbe)

        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodesChanged)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodesChanged)

        for kind, title in (
            (engine.HERE, _("Slicer's Python on this computer")),
            (engine.PYTHON, _("Another Python on this computer")),
            (engine.SERVER, _("A server")),
        ):
            self.ui.engineSelector.addItem(title, kind)
        self.ui.engineSelector.setCurrentIndex(self.ui.engineSelector.findData(self.logic.engine.kind))
        self.ui.pythonPath.setCurrentPath(self.logic.engine.python)
        self.ui.serverEdit.setText(self.logic.engine.server)
        self.ui.tokenEdit.setText(self.logic.engine.token)
        self.ui.engineSelector.connect("currentIndexChanged(int)", self.onEngineChanged)
        self.ui.pythonPath.connect("currentPathChanged(QString)", self.onPythonChanged)
        self.ui.serverEdit.connect("editingFinished()", self.onServerChanged)
        self.ui.tokenEdit.connect("editingFinished()", self.onServerChanged)
        self.ui.deviceSelector.connect("activated(int)", self.onDeviceChanged)
        self.ui.bundleSelector.connect("activated(int)", self.onBundleChanged)
        self.ui.installButton.connect("clicked(bool)", self.onInstall)
        self.ui.generateButton.connect("clicked(bool)", self.onGenerate)
        self.ui.newSeedButton.connect("clicked(bool)", self.onNewSeed)
        self.ui.renderButton.connect("clicked(bool)", self.onRender)
        self.ui.segmentButton.connect("clicked(bool)", self.onSegment)
        self.ui.resultsList.connect("itemSelectionChanged()", self.updateButtons)
        self.ui.showButton.connect("clicked(bool)", self.onShow)
        self.ui.compareButton.connect("clicked(bool)", self.onCompare)
        self.ui.deleteButton.connect("clicked(bool)", self.onDelete)
        self.ui.exportButton.connect("clicked(bool)", self.onExport)
        self.ui.exportPath.connect("currentPathChanged(QString)", self.onExportPathChanged)

        self.initializeParameterNode()
        self.updateEngine()
        self.updateResults()

    def cleanup(self) -> None:
        self.removeObservers()
        self._liveTimer.stop()
        self._resultsTimer.stop()
        self.stopProbe()
        self.setParameterNode(None)
        self.logic.close()

    def enter(self) -> None:
        self.initializeParameterNode()

    def exit(self) -> None:
        self.setParameterNode(None)

    def onReload(self) -> None:
        # Reloading takes this file alone.
        for name in [name for name in sys.modules if name.split(".")[0] in ("BrainGenLib", "BrainGenPanel")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def _singleShot(self, milliseconds: int, slot):
        timer = qt.QTimer()
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.connect("timeout()", slot)
        return timer

    # ---- scene and parameter node

    def onSceneStartClose(self, _caller, _event) -> None:
        self.logic.abandon()
        self.setParameterNode(None)

    def onSceneEndClose(self, _caller, _event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onNodesChanged(self, _caller, _event) -> None:
        if not self._resultsTimer.active:
            self._resultsTimer.start()

    def initializeParameterNode(self) -> None:
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode) -> None:
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
        self._parameterNode = parameterNode
        self._parameterNodeGuiTag = None
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
            self.chooseDefaults()
            self.showChoices()
        self.updateButtons()

    def onParameterNodeModified(self, _caller, _event) -> None:
        self.showChoices()
        self.updateButtons()

    # ---- engine

    def onEngineChanged(self, index) -> None:
        self.logic.engine.set("Engine", str(self.ui.engineSelector.itemData(index)))
        self.updateEngine()

    def onPythonChanged(self, path) -> None:
        self.logic.engine.set("Python", str(path))
        self.updateEngine()

    def onServerChanged(self) -> None:
        settings = self.logic.engine
        address, token = self.ui.serverEdit.text.strip(), self.ui.tokenEdit.text.strip()
        if (address, token) != (settings.server, settings.token):
            settings.set("Server", address)
            settings.token = token
            self.updateEngine()

    def onDeviceChanged(self, index) -> None:
        self.logic.engine.set("Device", str(self.ui.deviceSelector.itemData(index)))

    def onBundleChanged(self, index) -> None:
        self._parameterNode.bundle = str(self.ui.bundleSelector.itemData(index))
        self.buildControls()

    def onInstall(self, _checked) -> None:
        with slicer.util.tryWithErrorDisplay(_("The packages could not be installed.")):
            packages.install(self.missingPackages())
        self.updateEngine()

    def missingPackages(self) -> list:
        here = self.logic.engine.kind == engine.HERE
        return packages.missing(self.resourcePath("requirements.txt"), engine=here)

    def updateEngine(self) -> None:
        """Show the chosen engine, and ask it what it has."""
        settings = self.logic.engine
        self.logic.close()
        self.stopProbe()
        for widget in (self.ui.pythonLabel, self.ui.pythonPath):
            widget.setVisible(settings.kind == engine.PYTHON)
        for widget in (self.ui.serverLabel, self.ui.serverEdit, self.ui.tokenLabel, self.ui.tokenEdit):
            widget.setVisible(settings.kind == engine.SERVER)
        missing = self.missingPackages()
        self._installed = not missing
        self.ui.installButton.setVisible(bool(missing))
        self._bundles = {}
        if missing:
            names = ", ".join(need.name for need in missing)
            self.showState(_("Python packages are missing: {names}. Press Install.").format(names=names))
        elif settings.problem():
            self.showState(settings.problem())
        else:
            self.logic.importLibrary()
            self.showState(_("Asking the engine what it has …"))
            self._probe = settings.probe()
            self._probeTimer.start()
        self.buildControls()

    def stopProbe(self) -> None:
        self._probeTimer.stop()
        if self._probe is not None:
            self._probe.stop()
            self._probe = None

    def onProbe(self) -> None:
        """Look whether the engine has answered."""
        answer = self._probe.answer()
        if answer is None:
            return
        self._probeTimer.stop()
        self._probe = None
        if answer.problem:
            self.showState(answer.problem)
            return
        self._bundles = answer.bundles
        self.ui.deviceSelector.clear()
        self.ui.deviceSelector.addItem(_("auto"), "auto")
        for name, description in answer.devices:
            self.ui.deviceSelector.addItem(description, name)
        # A device that is gone, such as a card of another machine, is no longer asked for.
        index = max(0, self.ui.deviceSelector.findData(self.logic.engine.device))
        self.ui.deviceSelector.setCurrentIndex(index)
        self.onDeviceChanged(index)
        self.showState(_("Ready."))
        self.buildControls()

    # ---- what the bundle offers

    @property
    def metadata(self):
        """Of the bundle that makes images, or None: not chosen, or not known yet."""
        return self._bundles.get(self._parameterNode.bundle) if self._parameterNode else None

    def buildControls(self) -> None:
        """A slider for each condition of the bundle, a check box for each contrast."""
        for holder in ("pathologyRows", "anatomyRows", "contrastBoxes", "renderContrastBoxes"):
            layout = getattr(self.ui, holder).layout()
            while layout.count():
                widget = layout.takeAt(0).widget()
                if widget is not None:
                    widget.setParent(None)
                    widget.deleteLater()
        self._rows, self._contrastBoxes, self._renderContrastBoxes = [], {}, {}
        self.ui.bundleSelector.clear()
        able = [bundle for bundle in self._bundles.values() if "generate" in bundle.verbs]
        for bundle in able:
            self.ui.bundleSelector.addItem(f"{bundle.title} {bundle.version}", bundle.name)
        if self._parameterNode and able and self.metadata is None:
            self._parameterNode.bundle = able[0].name
        metadata = self.metadata
        for widget in (self.ui.generateSection, self.ui.renderSection, self.ui.segmentSection):
            widget.setEnabled(metadata is not None)
        if metadata is None:
            self.ui.bundleCard.setText("")
            self.updateButtons()
            return
        self.ui.bundleSelector.setCurrentIndex(self.ui.bundleSelector.findData(metadata.name))
        lines = [metadata.description, *metadata.limits, _("Licence: {name}.").format(name=metadata.license)]
        if card := self.logic.engine.modelCard(metadata.name):
            lines.append('<a href="{url}">{title}</a>'.format(url=card, title=_("Model card")))
        self.ui.bundleCard.setText(" ".join(lines))
        places = self.logic.places()
        for condition in metadata.conditions:
            row = ConditionRow(condition, *places, self.onChoice)
            holder = self.ui.pathologyRows if row.isPathology else self.ui.anatomyRows
            holder.layout().addRow(row.label, row.widget)
            self._rows.append(row)
        for holder, boxes in (
            (self.ui.contrastBoxes, self._contrastBoxes),
            (self.ui.renderContrastBoxes, self._renderContrastBoxes),
        ):
            for contrast in metadata.contrasts:
                boxes[contrast] = qt.QCheckBox(contrast)
                boxes[contrast].connect("toggled(bool)", self.onContrast)
                holder.layout().addWidget(boxes[contrast])
        self.chooseDefaults()
        self.showChoices()
        self.updateButtons()

    def chooseDefaults(self) -> None:
        """Contrasts that the bundle does not know are forgotten, and one is chosen where there is none."""
        if self.metadata is None:
            return
        node, known = self._parameterNode, self.metadata.contrasts
        for parameter in ("contrasts", "renderContrasts"):
            chosen = list(getattr(node, parameter))
            able = [name for name in chosen if name in known] or known[:1]
            if able != chosen:
                setattr(node, parameter, able)

    def showChoices(self) -> None:
        """What the parameter node holds, in the widgets that are made by name."""
        node = self._parameterNode
        asked = {**node.pathologies, **node.anatomy}
        sides, lobes = dict(node.sides), dict(node.lobes)
        self._showing = True
        try:
            for row in self._rows:
                name = row.condition.name
                row.show(asked.get(name), sides.get(name, ""), lobes.get(name, ""))
            for boxes, chosen in (
                (self._contrastBoxes, node.contrasts),
                (self._renderContrastBoxes, node.renderContrasts),
            ):
                for contrast, box in boxes.items():
                    box.setChecked(contrast in chosen)
        finally:
            self._showing = False

    def onContrast(self, _checked) -> None:
        self.onChoice()

    def onChoice(self) -> None:
        """What the user chose in those widgets, into the parameter node."""
        node = self._parameterNode
        if self._showing or not node:
            return
        values = {row.condition.name: row.value() for row in self._rows}
        asked = {name: value for name, value in values.items() if value is not None}
        places = {row.condition.name: row.place() for row in self._rows}
        with slicer.util.NodeModify(node.parameterNode):
            pathologies = [row.condition.name for row in self._rows if row.isPathology]
            node.pathologies = {name: value for name, value in asked.items() if name in pathologies}
            node.anatomy = {name: value for name, value in asked.items() if name not in pathologies}
            node.sides = {name: side for name, (side, _lobe) in places.items() if side}
            node.lobes = {name: lobe for name, (_side, lobe) in places.items() if lobe}
            node.contrasts = [name for name, box in self._contrastBoxes.items() if box.checked]
            node.renderContrasts = [name for name, box in self._renderContrastBoxes.items() if box.checked]
        if node.live:
            self._liveTimer.start()

    # ---- requests

    def onGenerate(self, _checked) -> None:
        if self.logic.running and not self.logic.drafting:
            self.cancel()
            return
        node = self._parameterNode
        if not node.keepSeed:
            node.seed = self.logic.newSeed()
        with self.attempt():
            self.logic.generate(self.generateRequest(), style=node.styleVolume, count=node.count)

    def onLive(self) -> None:
        if self.metadata is None or (self.logic.running and not self.logic.drafting):
            return
        with self.attempt():
            self.logic.generate(self.generateRequest(draft=True))

    def generateRequest(self, **changes):
        """What the section Generate asks for."""
        from BrainGenLib.requests import Generate, Location

        node = self._parameterNode
        places = {
            name: Location(side=node.sides.get(name), lobe=node.lobes.get(name))
            for name in {**node.sides, **node.lobes}
        }
        return Generate(
            bundle=node.bundle,
            device=self.logic.engine.device,
            pathologies=dict(node.pathologies),
            locations=places,
            anatomy=dict(node.anatomy),
            contrasts=list(node.contrasts),
            seed=node.seed,
            **changes,
        )

    def onRender(self, _checked) -> None:
        if self.logic.running:
            self.cancel()
            return
        node = self._parameterNode
        with self.attempt():
            self.logic.render(
                node.segmentation,
                list(node.renderContrasts),
                style=node.renderStyleVolume,
                seed=node.seed,
                bundle=node.bundle,
            )

    def onSegment(self, _checked) -> None:
        if self.logic.running:
            self.cancel()
            return
        with self.attempt():
            self.logic.segment(self._parameterNode.scan)

    def onNewSeed(self, _checked) -> None:
        self._parameterNode.seed = self.logic.newSeed()

    def cancel(self) -> None:
        self.logic.cancel()
        self.showState(_("Cancelling …"))

    # ---- results

    def onShow(self, _checked) -> None:
        with self.attempt():
            self.logic.show(self.selectedCases()[0])

    def onCompare(self, _checked) -> None:
        with self.attempt():
            self.logic.compare(*self.selectedCases())

    def onDelete(self, _checked) -> None:
        with self.attempt():
            self.logic.delete(self.selectedCases())

    def onExport(self, _checked) -> None:
        with self.attempt():
            self.logic.export(self.selectedCases(), self.ui.exportPath.currentPath)
            self.showState(_("Exporting …"))

    def onExportPathChanged(self, _path) -> None:
        self.updateButtons()

    def onExported(self, done, said) -> None:
        self.showState(_("Written: {folders}").format(folders=said) if done else said)
        self.updateButtons()

    # ---- what is shown

    def attempt(self):
        """Do something for a click: its sentence goes to the state line if it cannot be done."""
        return _Attempt(self)

    def showState(self, text: str) -> None:
        self.ui.stateLabel.setText(text)

    def onUpdate(self, update) -> None:
        """The logic has news of the running job."""
        if update.failure is not None:
            self.showState(" ".join(part for part in (update.failure.message, update.failure.advice) if part))
        elif update.result is not None:
            self.showState(_("Done."))
        elif update.progress is not None:
            event = update.progress
            parts = [event.stage, event.message]
            if update.of > 1:
                parts.insert(0, _("case {number} of {of}:").format(number=update.number, of=update.of))
            if event.seconds_left is not None:
                parts.append(_("– {seconds:.0f} s left").format(seconds=event.seconds_left))
            self.showState(" ".join(part for part in parts if part))
            self.ui.progressBar.setMaximum(max(event.of, 1))
            self.ui.progressBar.setValue(event.step)
        self.updateButtons()

    def updateResults(self) -> None:
        if not self._installed:
            return
        selected = self.selectedCases()
        names = self.logic.caseNames()
        self.ui.resultsList.clear()
        for name in names:
            self.ui.resultsList.addItem(name)
        for row, name in enumerate(names):
            self.ui.resultsList.item(row).setSelected(name in selected)
        self.updateButtons()

    def updateButtons(self) -> None:
        node, running = self._parameterNode, self.logic.running
        ready = self.metadata is not None
        cancellable = running and not self.logic.drafting
        self.ui.generateButton.setText(_("Cancel") if cancellable else _("Generate"))
        self.ui.renderButton.setText(_("Cancel") if running else _("Render"))
        self.ui.segmentButton.setText(_("Cancel") if running else _("Segment"))
        self.ui.generateButton.setEnabled(cancellable or (ready and bool(node.contrasts)))
        self.ui.renderButton.setEnabled(running or (ready and bool(node.segmentation) and bool(node.renderContrasts)))
        self.ui.segmentButton.setEnabled(running or (ready and bool(node.scan)))
        self.ui.progressBar.setVisible(running)
        chosen = len(self.selectedCases())
        self.ui.showButton.setEnabled(chosen == 1)
        self.ui.compareButton.setEnabled(chosen == 2)
        self.ui.deleteButton.setEnabled(chosen > 0)
        able = chosen > 0 and bool(self.ui.exportPath.currentPath) and not self.logic.exporting
        self.ui.exportButton.setEnabled(able)

    def selectedCases(self) -> list:
        return [item.text() for item in self.ui.resultsList.selectedItems()]


class _Attempt:
    """What a user can set right becomes the state line; anything else a dialog with the details."""

    def __init__(self, widget) -> None:
        self._widget = widget

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> bool:
        from BrainGenLib.errors import BadInput

        self._widget.updateButtons()
        if error is None:
            return False
        if isinstance(error, BadInput | OSError):
            self._widget.showState(str(error))
            return True
        with slicer.util.tryWithErrorDisplay(_("This did not work.")):
            raise error
        return True


class BrainGenTest(ScriptedLoadableModuleTest):
    """Self-test with the shipped bundle; needs the packages that the panel installs."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_generateThenRenderThenSegment()

    def test_generateThenRenderThenSegment(self) -> None:
        requirements = os.path.join(os.path.dirname(__file__), "Resources", "requirements.txt")
        if packages.missing(requirements, engine=True):
            self.delayDisplay(_("Packages are missing: open the module BrainGen and press Install, then test again."))
            return
        logic = BrainGenLogic()
        from BrainGenLib.requests import Generate

        self.delayDisplay(_("Generating a case"))
        request = Generate(contrasts=["T1w"], seed=1)
        [made] = logic.generate(request, waitForCompletion=True)
        self.assertEqual(list(made.volumes), ["T1w"])
        self.assertGreater(made.segmentation.GetSegmentation().GetNumberOfSegments(), 1)

        self.delayDisplay(_("Rendering its segmentation"))
        [rendered] = logic.render(made.segmentation, ["FLAIR"], waitForCompletion=True)
        self.assertEqual(list(rendered.volumes), ["FLAIR"])

        self.delayDisplay(_("Segmenting its image"))
        [segmented] = logic.segment(made.volumes["T1w"], waitForCompletion=True)
        self.assertGreater(segmented.segmentation.GetSegmentation().GetNumberOfSegments(), 1)

        logic.close()
        self.delayDisplay(_("Test passed"))
