"""The button of a section that runs a request."""

from slicer.i18n import tr as _


class RunButton:
    """Starts what its section asks for; while something runs, it cancels that. A draft is replaced, not cancelled.

    Args:
        button: widget whose text says what it starts.
        logic: :class:`BrainGenPanel.logic.BrainGenLogic`.
        run: called to start.
        attempt: gives the context in which that is done, which shows what went wrong.
        showState: called with a sentence.
    """

    def __init__(self, button, logic, run, attempt, showState) -> None:
        self._button = button
        self._title = button.text
        self._logic = logic
        self._run = run
        self._attempt = attempt
        self._showState = showState
        button.connect("clicked(bool)", self.onClicked)

    def onClicked(self, _checked) -> None:
        if self._cancels():
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
        cancels = self._cancels()
        self._button.setText(_("Cancel") if cancels else title or self._title)
        self._button.setEnabled(cancels or able)

    def _cancels(self) -> bool:
        return self._logic.running and not self._logic.drafting
