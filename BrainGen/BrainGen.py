"""The Slicer module BrainGen: what a clinician sees. Models run in a worker process, never in Slicer's own."""

import os
import sys
from contextlib import contextmanager

import qt
import slicer
import vtk
from BrainGenPanel import packages, parameters, startup
from BrainGenPanel.bundle_controls import BundleControls
from BrainGenPanel.counterfactual_section import CounterfactualSection
from BrainGenPanel.engine_section import EngineSection
from BrainGenPanel.generate_section import GenerateSection
from BrainGenPanel.logic import BrainGenLogic
from BrainGenPanel.render_section import RenderSection
from BrainGenPanel.results_section import ResultsSection
from BrainGenPanel.segment_section import SegmentSection
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

RESULTS_MS = 50


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
            "segmentation as an image, segments scans of any contrast, and shows what a scan might look like if "
            "other conditions. For research and teaching, not for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "Built on MONAI, PyTorch and 3D Slicer. The model cards list the data that the models were trained on."
        )
        slicer.app.connect("startupCompleted()", startup.completed)


class BrainGenWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: its sections, the parameter node that holds their choices, and the line that says what goes on."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/BrainGen.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = logic = BrainGenLogic()
        logic.onUpdate = self.onUpdate

        self.generateSection = GenerateSection(ui, logic, self.attempt, self.showState)
        self.controls = BundleControls(ui, logic, self.updateSections, self.generateSection.choicesChanged)
        requirements = self.resourcePath("requirements.txt")
        self.engineSection = EngineSection(ui, logic, requirements, self.showState, self.onBundles)
        self.counterfactualSection = CounterfactualSection(ui, logic, self.attempt, self.showState)
        self.resultsSection = ResultsSection(ui, logic, self.attempt, self.showState)
        # Each is given the choices and the bundle whenever something has changed.
        self.sections = [
            self.generateSection,
            RenderSection(ui, logic, self.attempt, self.showState),
            SegmentSection(ui, logic, self.attempt, self.showState),
            self.counterfactualSection,
            self.resultsSection,
        ]
        # A closing scene removes thousands of nodes: the list is made once, afterwards.
        self.resultsTimer = qt.QTimer()
        self.resultsTimer.setSingleShot(True)
        self.resultsTimer.setInterval(RESULTS_MS)
        self.resultsTimer.connect("timeout()", self.updateResults)

        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodesChanged)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodesChanged)
        # Before the lists hear of it.
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved, priority=1.0)

        self.initializeParameterNode()
        self.engineSection.update()
        self.updateResults()

    def cleanup(self) -> None:
        self.setParameterNode(None)
        self.removeObservers()
        self.resultsTimer.stop()
        self.generateSection.close()
        self.engineSection.close()
        self.logic.stopExport()
        self.logic.close()

    def enter(self) -> None:
        self.initializeParameterNode()
        # Other modules change what is chosen here, such as the segments of a segmentation.
        self.updateSections()

    def onReload(self) -> None:
        # Reloading takes this file alone.
        for name in [name for name in sys.modules if name.split(".")[0] in ("BrainGenLib", "BrainGenPanel")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    # ---- scene and parameter node

    def onSceneStartClose(self, _caller, _event) -> None:
        self.logic.abandon()
        self.setParameterNode(None)

    def onSceneEndClose(self, _caller, _event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onNodesChanged(self, _caller, _event) -> None:
        if not self.resultsTimer.active:
            self.resultsTimer.start()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, _caller, _event, node) -> None:
        if self._parameterNode:
            parameters.forget(self._parameterNode, node)

    def updateResults(self) -> None:
        if self.engineSection.installed:
            self.logic.renameTwins()
            self.resultsSection.listCases()

    def initializeParameterNode(self) -> None:
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode) -> None:
        # Connecting anew at each visit would leave an observer behind in Slicer 5.10, and make every change slower.
        if parameterNode is self._parameterNode:
            return
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
        self._parameterNode = parameterNode
        self._parameterNodeGuiTag = None
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            # After the wrapper's own observers: of one priority, VTK calls the one that was added first as the last.
            changed = vtk.vtkCommand.ModifiedEvent
            self.addObserver(self._parameterNode, changed, self.onParameterNodeModified, priority=-1.0)
        self.controls.setParameterNode(self._parameterNode)
        self.updateSections()

    def onParameterNodeModified(self, _caller, _event) -> None:
        self.controls.update()
        self.updateSections()

    def onBundles(self, bundles) -> None:
        """The engine has said what it has."""
        self.counterfactualSection.setBundles(bundles)
        self.controls.setBundles(bundles)

    def updateSections(self) -> None:
        self.ui.progressBar.setVisible(self.logic.running)
        for section in self.sections:
            section.update(self._parameterNode, self.controls.metadata)

    # ---- what goes on

    @contextmanager
    def attempt(self):
        """Do something for a click: what the user can set right is shown in the state line, the rest in a dialog."""
        from BrainGenLib.errors import BadInput

        try:
            yield
        except (BadInput, OSError) as error:
            self.showState(str(error))
        except Exception:
            with slicer.util.tryWithErrorDisplay(_("This did not work.")):
                raise
        finally:
            self.updateSections()

    def showState(self, text: str) -> None:
        self.ui.stateLabel.setText(text)

    def onUpdate(self, update) -> None:
        """The logic has news of the running job."""
        if update.failure is not None:
            self.showState(" ".join(part for part in (update.failure.message, update.failure.advice) if part))
        elif update.result is not None:
            self.showState(" ".join((_("Done."), *filter(None, [self.logic.verdict]))))
        elif update.progress is not None:
            event = update.progress
            parts = [event.stage, event.message]
            if update.of > 1:
                parts.insert(0, _("case {number} of {of}:").format(number=update.number, of=update.of))
            if event.remaining:
                parts.append(f"– {event.remaining}")
            self.showState(" ".join(part for part in parts if part))
            self.ui.progressBar.setMaximum(max(event.of, 1))
            self.ui.progressBar.setValue(event.step)
        self.updateSections()


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
            self.skipTest(_("Packages are missing: open the module BrainGen and press Install, then test again."))
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
