"""The running job: requests to a worker, and the news of it."""

import logging
from dataclasses import replace

import qt
import slicer
from slicer.i18n import tr as _

from BrainGenPanel.arriving import ArrivingCases

POLL_MS = 200
# Between two nodes that are added, the application draws and answers.
BREATH_MS = 10


class Runner:
    """Runs requests, one job at a time, in a worker that stays for the next.

    Args:
        engine: :class:`BrainGenPanel.engine.EngineSettings`, where models run.
        views: :class:`BrainGenPanel.case_views.CaseViews`.
        onUpdate: called with a :class:`BrainGenLib.session.Update` whenever the job has news; then the nodes of a
            finished case are in the scene.

    Attributes:
        failure: :class:`BrainGenLib.jobs.Failure` of the last job, or None.
    """

    def __init__(self, engine, views, onUpdate) -> None:
        self.failure = None
        self._engine = engine
        self._cases = ArrivingCases(views)
        self._onUpdate = onUpdate
        self._session = None
        self._adding = None
        self._update = None
        self._verb = ""
        self._discard = False
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._onTick)

    @property
    def made(self) -> list:
        """Nodes of the results of the last job, in their order."""
        return self._cases.made

    @property
    def running(self) -> bool:
        """Whether a job is under way, or its case on the way into the scene."""
        return self._adding is not None or (self._session is not None and self._session.running)

    @property
    def drafting(self) -> bool:
        """Whether what runs is a draft, which the next request may replace."""
        return self.running and self._cases.draft

    @property
    def busyWith(self) -> str:
        """Verb of the running request, of a sweep that of its frames; nothing if none runs, or a draft."""
        return self._verb if self.running and not self._cases.draft else ""

    def start(self, requests, nodes: dict) -> None:
        """Begin a job.

        Args:
            requests: of one verb, without their files.
            nodes: volume and segmentation nodes, or None, by the field of a request whose file they become.

        Raises:
            BadInput: a node cannot be used, or another request runs that is no draft.
        """
        from BrainGenLib.errors import BadInput
        from BrainGenLib.scene.inputs import path_for, write_segmentation, write_volume
        from BrainGenLib.scratch import Scratch
        from BrainGenLib.session import Session

        if self.busyWith:
            raise BadInput(_("Another request runs; wait for its end, or cancel it first."))
        if self._session is None:
            self._session = Session(self._engine.launch)
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
        self._verb = getattr(requests[0], "of", requests[0]).verb
        self._cases.expect(getattr(requests[0], "draft", False), nodes.get("scan"))
        self._discard, self._adding, self.failure = False, None, None
        self._timer.start(POLL_MS)

    def cancel(self) -> None:
        """Ask the running job to stop."""
        if self._session is not None:
            self._session.cancel()

    def abandon(self) -> None:
        """Cancel, and let nothing more of it into the scene: it is being closed."""
        if self._session is None:
            return
        from BrainGenLib.scene import cases

        cases.release_all(slicer.mrmlScene)
        if not self.running:
            return
        self._fail("cancelled", _("Cancelled: the scene was closed."))
        self._session.cancel()
        self._cases.forget()
        self._adding, self._discard = None, True
        if not self.running:
            self._onUpdate(replace(self._update, failure=self.failure))

    def close(self) -> None:
        """End the worker; the next request starts another one, of the engine that is chosen then.

        A run ends without its case.
        """
        if self.running:
            self._fail("cancelled", _("Cancelled: the engine was closed."))
            self._cases.removeUnfinished()
        self._adding = None
        if self._session is not None:
            self._session.close()
            self._session = None
        self._timer.stop()

    def _onTick(self) -> None:
        if self._adding is not None:
            self._addNext()
        elif self.running:
            self._poll()
        if self.running:
            self._timer.setInterval(POLL_MS if self._adding is None else BREATH_MS)
        else:
            self._timer.stop()

    def _poll(self) -> None:
        update = self._session.poll()
        if self._discard:
            if not self.running:
                self._onUpdate(replace(update, preview=None, result=None, failure=self.failure))
            return
        if update.failure is not None:
            self.failure = update.failure
            self._cases.dropPreview()
        folder = update.result or update.preview
        if folder is not None:
            self._adding, self._update = self._cases.adding(folder, update), update
        else:
            self._onUpdate(update)

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
            self._cases.removeUnfinished()
        self._adding = None
        self._onUpdate(replace(self._update, failure=self.failure))

    def _fail(self, code: str, message: str) -> None:
        from BrainGenLib.jobs import Failure

        self.failure = Failure(code=code, message=message)


def _naming(request, names: dict):
    """A request with the names of its files; a sweep reads those of its frames."""
    if request.verb == "sweep":
        return request.model_copy(update={"of": request.of.model_copy(update=names)})
    return request.model_copy(update=names)
