"""What the panel does, also without it: requests to a worker, and their cases into the scene."""

import importlib
import secrets
import time

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from BrainGenPanel import arriving, findLibrary, view_marks
from BrainGenPanel.case_views import CaseViews
from BrainGenPanel.engine import EngineSettings
from BrainGenPanel.parameters import BrainGenParameterNode
from BrainGenPanel.runner import Runner


class BrainGenLogic(ScriptedLoadableModuleLogic):
    """Runs requests in a worker process and puts their cases into the scene; usable without the panel.

    >>> from BrainGenLib.requests import Generate
    >>> logic = BrainGenLogic()
    >>> request = Generate(pathologies={"wmh": 0.3}, contrasts=["T1w", "FLAIR"], seed=7)
    >>> [nodes] = logic.generate(request, waitForCompletion=True)  # doctest: +SKIP

    Attributes:
        engine: where models run.
        views: :class:`BrainGenPanel.case_views.CaseViews`, those of the application.
        onUpdate: called with a :class:`BrainGenLib.session.Update` whenever the running job has news; then the nodes
            of a finished case are in the scene.
        onExported: called with (whether it worked, the folders or the reason) at the end of an export.
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        findLibrary()
        self.engine = EngineSettings()
        self.views = CaseViews()
        self.onUpdate = None
        self.onExported = None
        self._parameters = None
        self._runner = Runner(self.engine, self.views, self._onUpdate)
        self._export = None
        self._exported = None

    def getParameterNode(self):
        # One wrapper for each node: each that is made observes it, and makes every change slower.
        node = super().getParameterNode()
        if self._parameters is None or self._parameters.parameterNode is not node:
            self._parameters = BrainGenParameterNode(node)
        return self._parameters

    # ---- requests

    def generate(self, request, style=None, count=1, waitForCompletion=False):
        """New cases from conditions.

        Args:
            request: :class:`BrainGenLib.requests.Generate`.
            style: volume node whose appearance is taken, or None.
            count: number of cases, with seeds ``request.seed``, ``request.seed + 1``, …
            waitForCompletion: return when all cases are in the scene. The application stays responsive.

        Returns:
            With ``waitForCompletion`` a list of :class:`BrainGenLib.scene.case_to_scene.CaseNodes`, else None.

        Raises:
            BadInput: a node cannot be used, or another request runs that is no draft.
            RuntimeError: with ``waitForCompletion``: the request failed or was cancelled.
        """
        requests = [request.model_copy(update={"seed": request.seed + index}) for index in range(count)]
        return self._run(requests, {"style": style}, waitForCompletion)

    def render(self, segmentation, contrasts, style=None, seed=0, bundle="brainspade3d", waitForCompletion=False):
        """Images of a segmentation node, as it stands now; see :meth:`generate`.

        Args:
            segmentation: vtkMRMLSegmentationNode.
            contrasts: names, such as ``["T1w", "FLAIR"]``.
            style: volume node whose appearance is taken, or None.
            seed: of texture and noise.
            bundle: name of the model.
            waitForCompletion: as for :meth:`generate`.
        """
        from BrainGenLib.requests import Render

        request = Render(
            bundle=bundle, device=self.engine.device, segmentation="", contrasts=list(contrasts), seed=seed
        )
        return self._run([request], {"segmentation": segmentation, "style": style}, waitForCompletion)

    def segment(self, scan, waitForCompletion=False):
        """The segmentation of a scan; see :meth:`generate`.

        Args:
            scan: volume node of any contrast, whole head or skull-stripped.
            waitForCompletion: as for :meth:`generate`.
        """
        from BrainGenLib.requests import Segment

        return self._run([Segment(device=self.engine.device, scan="")], {"scan": scan}, waitForCompletion)

    def counterfactual(self, scan, wanted, segmentation=None, waitForCompletion=False, **settings):
        """A scan as it would look under other conditions, shown beside the scan; see :meth:`generate`.

        Args:
            scan: volume node of a brain.
            wanted: what should change: values by name of the bundle's condition.
            segmentation: node that says where its lesions are, for a bundle that changes labels, or None.
            waitForCompletion: as for :meth:`generate`.
            **settings: other fields of :class:`BrainGenLib.requests.Counterfactual`: ``bundle``, ``known``,
                ``contrast``, ``drift``, ``strength``, ``guidance``, ``variants``, ``seed``, …

        Raises:
            BadInput: a setting is unknown or out of range, or a node cannot be used.
        """
        from BrainGenLib.requests import parse

        asked = {"verb": "counterfactual", "device": self.engine.device, "scan": "", "wanted": wanted, **settings}
        return self._run([parse(asked)], {"scan": scan, "segmentation": segmentation}, waitForCompletion)

    def sweep(self, request, over, values, style=None, scan=None, segmentation=None, waitForCompletion=False):
        """A film: cases that differ in one number, as sequences with the browser that plays them; see
        :meth:`generate`.

        Args:
            request: :class:`BrainGenLib.requests.Generate`, or :class:`BrainGenLib.requests.Counterfactual` whose
                ``scan`` is empty: the node below takes its place.
            over: ``drift``, ``strength``, ``guidance`` or a condition of the bundle.
            values: 2 to 32 of them, of what the frames differ in.
            style: as for :meth:`generate`.
            scan, segmentation: as for :meth:`counterfactual`.
            waitForCompletion: as for :meth:`generate`.

        Raises:
            BadInput: a value comes twice, or there are too few or too many, or a node cannot be used.
        """
        from BrainGenLib.requests import parse

        asked = parse({"verb": "sweep", "of": request.model_dump(), "over": over, "values": list(values)})
        nodes = {"style": style, "scan": scan, "segmentation": segmentation}
        return self._run([asked], nodes, waitForCompletion)

    def importLibrary(self) -> None:
        """Import what a run needs, which takes a moment, so that no run has to wait for it; and have views marked.

        Raises:
            ImportError: a package is missing.
        """
        for name in ("case", "drift_curve", "jobs", "requests", "session", "sweeps"):
            importlib.import_module(f"BrainGenLib.{name}")
        for name in ("cases", "changes", "inputs"):
            importlib.import_module(f"BrainGenLib.scene.{name}")
        view_marks.markViews()

    def newSeed(self) -> int:
        """A seed that nobody has chosen."""
        return secrets.randbelow(2**31)

    def places(self) -> tuple:
        """Sides and lobes that a lesion can be asked for in."""
        from BrainGenLib.requests import LOBES, SIDES

        return SIDES, LOBES

    @property
    def running(self) -> bool:
        """Whether a job is under way, or its case on the way into the scene."""
        return self._runner.running

    @property
    def drafting(self) -> bool:
        """Whether what runs is a draft, which the next request may replace."""
        return self._runner.drafting

    @property
    def busyWith(self) -> str:
        """Verb of the running request, of a sweep that of its frames; nothing if none runs, or a draft."""
        return self._runner.busyWith

    def cancel(self) -> None:
        """Ask the running job to stop."""
        self._runner.cancel()

    def abandon(self) -> None:
        """Cancel, and let nothing more of it into the scene: it is being closed."""
        self.views.stop()
        self._runner.abandon()

    def close(self) -> None:
        """End the worker; the next request starts another one, of the engine that is chosen then.

        A run ends without its case. An export goes on: it needs no engine.
        """
        self._runner.close()

    # ---- cases of the scene

    def renameTwins(self) -> None:
        """Let every case have its own name, where a scene that was added brought one that was taken."""
        from BrainGenLib.scene import cases

        cases.rename_twins(slicer.mrmlScene)

    def caseNames(self) -> list:
        """Names of the cases in the scene."""
        return arriving.caseNames()

    def show(self, name: str) -> None:
        """Show one case: a changed scan beside what it was and the difference, another alone."""
        self.views.show(name)

    def hasDonors(self, name: str) -> bool:
        """Whether it is known whose anatomy a case of the scene has."""
        from BrainGenLib.case import ATTRIBUTION
        from BrainGenLib.scene import cases

        scene = slicer.mrmlScene
        return name in cases.case_names(scene) and ATTRIBUTION in cases.nodes_of(scene, name).maps

    def showDonors(self, name: str) -> None:
        """Show one case with the donor of every voxel in a colour of its own; :meth:`show` takes the colours away."""
        from BrainGenLib.case import ATTRIBUTION

        self.views.show(name, ATTRIBUTION)

    def compare(self, first: str, second: str) -> None:
        """Show two cases side by side, in views that move together."""
        self.views.compare(first, second)

    def isOfCase(self, segmentation) -> bool:
        """Whether a segmentation node belongs to a case whose images show it as it was made."""
        from BrainGenLib.scene import case_to_scene, editing

        return segmentation.GetAttribute(case_to_scene.CASE) is not None and not editing.is_copy(segmentation)

    def copyToEdit(self, segmentation):
        """A copy of a case's segmentation node that may be edited: the case stays as it was made.

        Raises:
            BadInput: a segment is no structure or lesion of the label table.
        """
        from BrainGenLib.scene import editing

        copy = editing.copy_to_edit(slicer.mrmlScene, segmentation).segmentation
        self.show(copy.GetAttribute("BrainGen.case"))
        return copy

    def delete(self, names) -> None:
        """Take cases out of the scene."""
        from BrainGenLib.scene import cases

        for name in names:
            cases.remove_case(slicer.mrmlScene, name)

    def export(self, names, folder: str, waitForCompletion=False) -> None:
        """Write cases as they stand in the scene to a BIDS dataset; :attr:`onExported` is called at the end.

        Raises:
            BadInput: another export runs.
            RuntimeError: with ``waitForCompletion``: they cannot be written.
        """
        from BrainGenLib.errors import BadInput
        from BrainGenPanel.exporting import Export

        if self.exporting:
            raise BadInput(_("Another export runs; wait for its end, or stop it first."))
        self._export = Export(names, folder, self._onExported)
        if waitForCompletion:
            self._wait(lambda: not self.exporting)
            done, said = self._exported
            if not done:
                raise RuntimeError(said)

    @property
    def exporting(self) -> bool:
        """Whether cases are on their way to disk."""
        return self._export is not None

    def stopExport(self) -> None:
        """Leave off exporting; subjects that are complete stay."""
        if self._export is not None:
            self._export.stop()

    @property
    def verdict(self) -> str:
        """What was measured of the case that was made last, in a line; nothing if nothing was, or a film."""
        from BrainGenLib.scene import judgements

        return judgements.said(self._runner.made[-1]) if self._runner.made else ""

    def _run(self, requests, nodes, waitForCompletion):
        self._runner.start(requests, nodes)
        if not waitForCompletion:
            return None
        self._wait(lambda: not self.running)
        failure = self._runner.failure
        if failure is not None:
            raise RuntimeError(" ".join(part for part in (failure.message, failure.advice) if part))
        return self._runner.made

    def _wait(self, done) -> None:
        while not done():
            slicer.app.processEvents()
            time.sleep(0.005)

    def _onUpdate(self, update) -> None:
        if self.onUpdate is not None:
            self.onUpdate(update)

    def _onExported(self, done: bool, said: str) -> None:
        self._export, self._exported = None, (done, said)
        if self.onExported is not None:
            self.onExported(done, said)
