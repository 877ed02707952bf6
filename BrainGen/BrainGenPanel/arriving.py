"""Previews and results of a run on their way into the scene."""

import itertools
import re
import weakref

import slicer

PREVIEW = "preview"
# Panels and scripts that generate at once have a preview each: "preview", "preview-2".
_PREVIEWS = re.compile(rf"{PREVIEW}(-\d+)?")
_all = weakref.WeakSet()
# Cases are called after what made them.
NAMES = {
    "generate": "sub",
    "render": "render",
    "segment": "segmentation",
    "counterfactual": "counterfactual",
    "sweep": "sweep",
}


def caseNames() -> list:
    """Names of the cases in the scene; a preview is none."""
    from BrainGenLib.scene import cases

    return [name for name in cases.case_names(slicer.mrmlScene) if not _PREVIEWS.fullmatch(name)]


class ArrivingCases:
    """Puts the cases of a run into the scene and shows them.

    Args:
        views: :class:`BrainGenPanel.case_views.CaseViews`.

    Attributes:
        draft: whether the run is a draft, whose results are previews.
        made: nodes of the results that are in the scene, in their order.
    """

    def __init__(self, views) -> None:
        _all.add(self)
        self.draft = False
        self.made = []
        self._views = views
        self._arriving = None
        self._preview = None
        self._pointed = False
        self._scanID = None

    def expect(self, draft: bool, scan) -> None:
        """Another run has begun, whose cases belong to a scan, or to none."""
        # Between two drafts the views stay where the user has put them.
        self._pointed = draft and self.draft
        self.draft, self.made, self._arriving = draft, [], None
        self._scanID = scan.GetID() if scan else None

    def adding(self, folder, update):
        """Put a preview or result into the scene, pausing wherever the application may go on.

        Args:
            folder: of the case.
            update: :class:`BrainGenLib.session.Update` that named it.
        """
        from BrainGenLib.case import Case
        from BrainGenLib.scene import cases, changes, showing
        from BrainGenLib.scene.case_to_scene import adding

        case = Case.load(folder)
        yield
        final = update.result is not None and not self.draft
        scan = slicer.mrmlScene.GetNodeByID(self._scanID) if final and self._scanID else None
        # What is of a scan lies where that is, its preview in template space.
        point = None if self._pointed and scan is None else showing.most_to_see(case)
        yield
        self.removeUnfinished()
        yield
        # No pause from here to the first node: another panel must not take the same name.
        if final:
            name = self._arriving = _freeName(update.request.verb)
        else:
            name = self._preview = cases.free_name(slicer.mrmlScene, PREVIEW, self._othersPreviews())
        nodes = None
        for nodes in adding(slicer.mrmlScene, case, name):
            yield
            # What is of a scan is shown over it, when all of it is there.
            if scan is None and (self._pointed or len(nodes.present) == 1):
                showing.show(slicer.mrmlScene, nodes, point)
                yield
        if scan is not None:
            changes.remember(nodes, scan)
        self._views.showAt(name, nodes, point)
        self._pointed = True
        if final:
            self._arriving = None
            self.made.append(nodes)

    def forget(self) -> None:
        """The scene is being closed and takes what is unfinished with it."""
        self._arriving = self._preview = None

    def dropPreview(self) -> None:
        """What will not be finished goes; the newest case takes its place in the views."""
        from BrainGenLib.scene import cases

        seen = self._preview in cases.case_names(slicer.mrmlScene)
        self.removeUnfinished()
        if seen and (names := caseNames()):
            self._views.show(names[-1])

    def removeUnfinished(self) -> None:
        """The preview, and a case of which only some nodes have arrived; also previews that no panel waits for."""
        from BrainGenLib.scene import cases

        others = self._othersPreviews()
        for name in cases.case_names(slicer.mrmlScene):
            if name == self._arriving or (_PREVIEWS.fullmatch(name) and name not in others):
                cases.remove_case(slicer.mrmlScene, name)
        self._arriving = self._preview = None

    def _othersPreviews(self) -> set:
        return {one._preview for one in _all if one is not self and one._preview}


def _freeName(verb: str) -> str:
    taken = caseNames()
    numbered = (f"{NAMES[verb]}-{number:04d}" for number in itertools.count(1))
    return next(name for name in numbered if name not in taken)
