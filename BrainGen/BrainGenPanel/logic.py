"""What the panel does, also without it: requests to a worker, and their cases into the scene."""

import importlib
import logging
import secrets
import time
from dataclasses import replace

import qt
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from BrainGenPanel import findLibrary, view_marks
from BrainGenPanel.engine import EngineSettings
from BrainGenPanel.parameters import BrainGenParameterNode

POLL_MS = 200
# Between two nodes that are added or copied, the application draws and answers.
BREATH_MS = 10
# Until the views of another layout have their size.
LAYOUT_MS = 100
PREVIEW = "preview"
# Cases are called after what made them.
NAMES = {
    "generate": "sub",
    "render": "render",
    "segment": "segmentation",
    "counterfactual": "counterfactual",
    "sweep": "sweep",
}


class BrainGenLogic(ScriptedLoadableModuleLogic):
    """Runs requests in a worker process and puts their cases into the scene; usable without the panel.

    >>> from BrainGenLib.requests import Generate
    >>> logic = BrainGenLogic()
    >>> request = Generate(pathologies={"wmh": 0.3}, contrasts=["T1w", "FLAIR"], seed=7)
    >>> [nodes] = logic.generate(request, waitForCompletion=True)  # doctest: +SKIP

    Attributes:
        engine: where models run.
        onUpdate: called with a :class:`BrainGenLib.session.Update` whenever the running job has news; then the nodes
            of a finished case are in the scene.
        onExported: called with (whether it worked, the folders or the reason) at the end of an export.
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        findLibrary()
        self.engine = EngineSettings()
        self.onUpdate = None
        self.onExported = None
        self._parameters = None
        self._session = None
        self._adding = None
        self._arriving = None
        self._update = None
        self._export = None
        self._exported = None
        self._drafting = False
        self._verb = ""
        self._discard = False
        self._looked = False
        self._scanID = None
        self._made = []
        self._failure = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._onTick)
        self._refit = None
        self._layoutTimer = qt.QTimer()
        self._layoutTimer.setSingleShot(True)
        self._layoutTimer.setInterval(LAYOUT_MS)
        self._layoutTimer.connect("timeout()", self._onLaidOut)

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
        """A scan as it would look if something were otherwise, shown beside the scan; see :meth:`generate`.

        Args:
            scan: volume node of a brain.
            wanted: what should be otherwise: values by name of the bundle's condition.
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
        return self._adding is not None or (self._session is not None and self._session.running)

    @property
    def drafting(self) -> bool:
        """Whether what runs is a draft, which the next request may replace."""
        return self.running and self._drafting

    @property
    def busyWith(self) -> str:
        """Verb of the running request, of a sweep that of its frames; nothing if none runs, or a draft."""
        return self._verb if self.running and not self._drafting else ""

    def cancel(self) -> None:
        """Ask the running job to stop."""
        if self._session is not None:
            self._session.cancel()

    def abandon(self) -> None:
        """Cancel, and let nothing more of it into the scene: it is being closed."""
        self._layoutTimer.stop()
        if self._session is None:
            return
        from BrainGenLib.scene import cases

        cases.release_all(slicer.mrmlScene)
        if not self.running:
            return
        self._fail("cancelled", _("Cancelled: the scene was closed."))
        self._session.cancel()
        self._adding, self._arriving, self._discard = None, None, True
        if not self.running:
            self._tell(replace(self._update, failure=self._failure))

    def close(self) -> None:
        """End the worker; the next request starts another one, of the engine that is chosen then.

        A run ends without its case. An export goes on: it needs no engine.
        """
        if self.running:
            self._fail("cancelled", _("Cancelled: the engine was closed."))
            self._removeUnfinished()
        self._adding = None
        if self._session is not None:
            self._session.close()
            self._session = None
        if self._export is None:
            self._timer.stop()

    # ---- cases of the scene

    def caseNames(self) -> list:
        """Names of the cases in the scene."""
        from BrainGenLib.scene import cases

        return [name for name in cases.case_names(slicer.mrmlScene) if name != PREVIEW]

    def show(self, name: str) -> None:
        """Show one case: a changed scan beside what it was and the difference, another alone."""
        from BrainGenLib.scene import cases, changes, showing

        nodes = cases.nodes_of(slicer.mrmlScene, name)
        point = showing.bounds_of(nodes).mean(1)
        self._show([name], lambda: changes.show_case(slicer.mrmlScene, nodes, point))
        self._offerFilm(nodes)

    def compare(self, first: str, second: str) -> None:
        """Show two cases side by side, in views that move together."""
        from BrainGenLib.scene import cases, showing

        scene = slicer.mrmlScene
        both = [cases.nodes_of(scene, name) for name in (first, second)]
        self._show([first, second], lambda: showing.compare(scene, *both))

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
        """Write cases as they stand in the scene to a BIDS dataset; :attr:`onExported` is told the end.

        Raises:
            RuntimeError: with ``waitForCompletion``: they cannot be written.
        """
        from BrainGenPanel.exporting import Export

        self._export = Export(names, folder)
        self._timer.start(BREATH_MS)
        if waitForCompletion:
            self._wait(lambda: self._export is None)
            done, said = self._exported
            if not done:
                raise RuntimeError(said)

    @property
    def verdict(self) -> str:
        """What the judges say of the scan that was changed last; nothing if nothing was, or a film."""
        from BrainGenLib.scene import judgements

        return judgements.said(self._made[-1]) if self._made else ""

    @property
    def exporting(self) -> bool:
        """Whether cases are on their way to disk."""
        return self._export is not None

    def stopExport(self) -> None:
        """Leave off exporting; subjects that are complete stay."""
        if self._export is not None:
            self._export.stop()
            self._endExport(False, _("The export was stopped."))

    # ---- the running job

    def _run(self, requests, nodes, waitForCompletion):
        from BrainGenLib.errors import BadInput
        from BrainGenLib.scene.inputs import path_for, write_segmentation, write_volume
        from BrainGenLib.scratch import Scratch
        from BrainGenLib.session import Session

        if self.busyWith:
            raise BadInput(_("Another request runs; wait for its end, or cancel it first."))
        if self._session is None:
            self._session = Session(self.engine.launch)
        with Scratch() as folder:
            files = {}
            for role, node in nodes.items():
                if node is None:
                    continue
                path = path_for(node, folder, role)
                (write_segmentation if role == "segmentation" else write_volume)(node, path)
                files[f"{role}.nii"] = path
            names = {name.removesuffix(".nii"): name for name in files}
            self._session.start([_naming(request, names) for request in requests], files)
        draft = getattr(requests[0], "draft", False)
        # Between two drafts the views stay where the user has put them.
        self._looked = draft and self._drafting
        self._verb = getattr(requests[0], "of", requests[0]).verb
        self._drafting, self._discard, self._adding, self._arriving = draft, False, None, None
        self._made, self._failure = [], None
        self._scanID = nodes["scan"].GetID() if nodes.get("scan") else None
        self._timer.start(POLL_MS)
        if not waitForCompletion:
            return None
        self._wait(lambda: not self.running)
        if self._failure is not None:
            raise RuntimeError(" ".join(part for part in (self._failure.message, self._failure.advice) if part))
        return self._made

    def _wait(self, done) -> None:
        while not done():
            slicer.app.processEvents()
            time.sleep(0.005)

    def _onTick(self) -> None:
        if self._adding is not None:
            self._addNext()
        elif self._session is not None and self._session.running:
            self._look()
        if self._export is not None:
            self._exportNext()
        if self._adding is not None or (self._export is not None and self._export.copying):
            self._timer.setInterval(BREATH_MS)
        elif self.running or self._export is not None:
            self._timer.setInterval(POLL_MS)
        else:
            self._timer.stop()

    def _look(self) -> None:
        update = self._session.poll()
        if self._discard:
            if not self.running:
                self._tell(replace(update, preview=None, result=None, failure=self._failure))
            return
        if update.failure is not None:
            self._failure = update.failure
            self._dropPreview()
        folder = update.result or update.preview
        if folder is not None:
            self._adding, self._update = self._insert(folder, update), update
        else:
            self._tell(update)

    def _addNext(self) -> None:
        """One step of a case on its way into the scene; an error in it ends the run as a failure of the job would."""
        try:
            next(self._adding)
            return
        except StopIteration:
            pass
        except Exception as error:
            logging.exception("BrainGen: the case could not be put into the scene")
            self._fail("failed", _("The case could not be shown: {e}.").format(e=error))
            self._session.cancel()
            self._removeUnfinished()
        self._adding = None
        self._tell(replace(self._update, failure=self._failure))

    def _fail(self, code: str, message: str) -> None:
        from BrainGenLib.jobs import Failure

        self._failure = Failure(code=code, message=message)

    def _insert(self, folder, update):
        """Put a preview or result into the scene, pausing wherever the application may go on."""
        from BrainGenLib.case import Case
        from BrainGenLib.scene import changes, showing
        from BrainGenLib.scene.case_to_scene import adding

        case = Case.load(folder)
        yield
        final = update.result is not None and not self._drafting
        scan = slicer.mrmlScene.GetNodeByID(self._scanID) if final and self._scanID else None
        # What is of a scan lies where that is, its preview in template space.
        point = None if self._looked and scan is None else showing.most_to_see(case)
        yield
        self._removeUnfinished()
        yield
        # No pause from here to the first node: another panel must not take the same name.
        name = self._arriving = self._nextName(update.request.verb) if final else PREVIEW
        nodes = None
        for nodes in adding(slicer.mrmlScene, case, name):
            yield
            # What is of a scan is shown over it, when all of it is there.
            if scan is None and (self._looked or len(nodes.present) == 1):
                showing.show(slicer.mrmlScene, nodes, point)
                yield
        if scan is not None:
            changes.remember(nodes, scan)
        self._show([name], lambda: changes.show_case(slicer.mrmlScene, nodes, point))
        self._looked = True
        if final:
            self._offerFilm(nodes)
            self._arriving = None
            self._made.append(nodes)

    def _offerFilm(self, nodes) -> None:
        """Let the application's toolbar play a sweep; an application without windows has none."""
        browser = next((node for node in nodes.film if node.IsA("vtkMRMLSequenceBrowserNode")), None)
        sequences = getattr(slicer.modules, "sequences", None)
        if browser is not None and sequences is not None:
            sequences.showSequenceBrowser(browser)

    def _show(self, names, act) -> None:
        """Have cases shown; and once more, to be fitted to the views of another layout when these have their size."""
        manager = slicer.app.layoutManager()
        if manager is None:  # an application without windows
            return
        view_marks.markViews()
        before = manager.layout
        act()
        if manager.layout != before or self._layoutTimer.active:
            self._refit = names, act
            self._layoutTimer.start()

    def _onLaidOut(self) -> None:
        from BrainGenLib.scene import cases

        names, act = self._refit
        self._refit = None
        if set(names) <= set(cases.case_names(slicer.mrmlScene)):
            act()

    def _dropPreview(self) -> None:
        """What will not be finished goes; the newest case takes its place in the views."""
        from BrainGenLib.scene import cases

        seen = PREVIEW in cases.case_names(slicer.mrmlScene)
        self._removeUnfinished()
        names = self.caseNames()
        if seen and names:
            self.show(names[-1])

    def _removeUnfinished(self) -> None:
        """The preview, and a case of which only some nodes have arrived."""
        from BrainGenLib.scene import cases

        for name in filter(None, (PREVIEW, self._arriving)):
            cases.remove_case(slicer.mrmlScene, name)
        self._arriving = None

    def _nextName(self, verb: str) -> str:
        taken = set(self.caseNames())
        number = 1
        while f"{NAMES[verb]}-{number:04d}" in taken:
            number += 1
        return f"{NAMES[verb]}-{number:04d}"

    def _exportNext(self) -> None:
        ended = self._export.step()
        if ended is not None:
            self._endExport(*ended)

    def _endExport(self, done: bool, said: str) -> None:
        self._export, self._exported = None, (done, said)
        if self.onExported is not None:
            self.onExported(done, said)

    def _tell(self, update) -> None:
        if self.onUpdate is not None:
            self.onUpdate(update)


def _naming(request, names: dict):
    """A request with the names of its files; a sweep reads those of its frames."""
    if request.verb == "sweep":
        return request.model_copy(update={"of": request.of.model_copy(update=names)})
    return request.model_copy(update=names)
