"""The button of a section that runs a request."""

from slicer.i18n import tr as _


class RunButton:
    """Starts what its section asks for; while that runs, it cancels it. A draft is replaced, not cancelled.

    Args:
        button: widget whose text says what it starts.
        logic: :class:`BrainGenPanel.logic.BrainGenLogic`.
        verb: of the requests that the section makes.
        run: called to start.
        attempt: gives the context in which that is done, which shows what went wrong.
        showState: called with a sentence.
        needs: sentence that says what has to be chosen first.
    """

    def __init__(self, button, logic, verb: str, run, attempt, showState, needs: str) -> None:
        self._button = button
        self._title = button.text
        self._toolTip = button.toolTip
        self._logic = logic
        self._verb = verb
        self._run = run
        self._attempt = attempt
        self._showState = showState
        self._needs = needs
        button.connect("clicked(bool)", self.onClicked)

    def onClicked(self, _checked) -> None:
        if self._logic.busyWith == self._verb:
            self._logic.cancel()
            self._showState(_("Cancelling …"))
            return
        with self._attempt():
            self._run()

    def update(self, able: bool, title="") -> None:
        """Show what a click would do.

        Args:
            able: whether all is chosen that a run needs.
            title: what it starts, where that is not what the button said at first.
        """
        busy = self._logic.busyWith
        cancels = busy == self._verb
        self._button.setText(_("Cancel") if cancels else title or self._title)
        self._button.setEnabled(cancels or (able and not busy))
        toolTip = self._toolTip if able or cancels else self._needs
        waits = _("Something else runs: wait for its end, or cancel it there.")
        self._button.setToolTip(waits if busy and not cancels else toolTip)
