"""The section Engine: where models run, on which device, and what is missing for it."""

import qt
import slicer
from slicer.i18n import tr as _

from BrainGenPanel import engine, packages

PROBE_MS = 200
# A path that is typed is taken when the user pauses, not at each key: it ends what runs.
TYPING_MS = 700


class EngineSection:
    """Keeps what the user chooses in the settings, and asks the engine that is chosen what it has.

    Args:
        ui: widgets of the panel by name.
        logic: :class:`BrainGenPanel.logic.BrainGenLogic`.
        requirementsPath: file of the packages that pip installs.
        showState: called with a sentence about the engine.
        onBundles: called with metadata of bundles by name: none while they are not known.

    Attributes:
        installed: whether the packages are there that the chosen engine needs.
    """

    def __init__(self, ui, logic, requirementsPath: str, showState, onBundles) -> None:
        self.installed = False
        self._ui = ui
        self._logic = logic
        self._requirementsPath = requirementsPath
        self._showState = showState
        self._onBundles = onBundles
        self._probe = None
        self._timer = qt.QTimer()
        self._timer.setInterval(PROBE_MS)
        self._timer.connect("timeout()", self.onProbe)
        self.typingTimer = qt.QTimer()
        self.typingTimer.setSingleShot(True)
        self.typingTimer.setInterval(TYPING_MS)
        self.typingTimer.connect("timeout()", self.onPythonChosen)
        settings = logic.engine
        for kind, title in (
            (engine.HERE, _("Slicer's Python on this computer")),
            (engine.PYTHON, _("Another Python on this computer")),
            (engine.SERVER, _("A server")),
        ):
            ui.engineSelector.addItem(title, kind)
        ui.engineSelector.setCurrentIndex(ui.engineSelector.findData(settings.kind))
        ui.pythonPath.setCurrentPath(settings.python)
        ui.serverEdit.setText(settings.server)
        ui.tokenEdit.setText(settings.token)
        ui.engineSelector.connect("currentIndexChanged(int)", self.onEngineChanged)
        ui.pythonPath.connect("currentPathChanged(QString)", self.onPythonChanged)
        ui.serverEdit.connect("editingFinished()", self.onServerChanged)
        ui.tokenEdit.connect("editingFinished()", self.onServerChanged)
        ui.deviceSelector.connect("activated(int)", self.onDeviceChanged)
        ui.installButton.connect("clicked(bool)", self.onInstall)

    def onEngineChanged(self, index) -> None:
        self._logic.engine.set("Engine", str(self._ui.engineSelector.itemData(index)))
        self.update()

    def onPythonChanged(self, _path) -> None:
        self.typingTimer.start()

    def onPythonChosen(self) -> None:
        self._logic.engine.set("Python", str(self._ui.pythonPath.currentPath))
        self.update()

    def onServerChanged(self) -> None:
        settings = self._logic.engine
        address, token = self._ui.serverEdit.text.strip(), self._ui.tokenEdit.text.strip()
        if (address, token) != (settings.server, settings.token):
            settings.set("Server", address)
            settings.token = token
            self.update()

    def onDeviceChanged(self, index) -> None:
        self._logic.engine.set("Device", str(self._ui.deviceSelector.itemData(index)))

    def onInstall(self, _checked) -> None:
        declined = ""
        # Installing goes on between events of the application, so the button could be pressed again.
        self._ui.installButton.setEnabled(False)
        try:
            packages.install(self._missing(), self._onInstalling)
        except RuntimeError as error:
            declined = str(error)
        except Exception:
            with slicer.util.tryWithErrorDisplay(_("The packages could not be installed.")):
                raise
        finally:
            self._ui.installButton.setEnabled(True)
            self.update()
            if declined:
                self._showState(declined)

    def _onInstalling(self, names: str) -> None:
        self._showState(
            _("Installing {names} … This takes minutes; the Python console says more.").format(names=names)
        )
        slicer.app.processEvents()

    def update(self) -> None:
        """Show the chosen engine, and ask it what it has."""
        settings = self._logic.engine
        self._logic.close()
        self._leaveOff()
        for widget in (self._ui.pythonLabel, self._ui.pythonPath):
            widget.setVisible(settings.kind == engine.PYTHON)
        for widget in (self._ui.serverLabel, self._ui.serverEdit, self._ui.tokenLabel, self._ui.tokenEdit):
            widget.setVisible(settings.kind == engine.SERVER)
        missing = self._missing()
        self.installed = not missing
        self._ui.installButton.setVisible(bool(missing))
        if missing:
            names = ", ".join(need.name for need in missing)
            self._showState(_("Python packages are missing: {names}. Press Install.").format(names=names))
        elif settings.problem():
            self._showState(settings.problem())
        else:
            self._logic.importLibrary()
            self._showState(_("Asking the engine what it has …"))
            self._probe = settings.probe()
            self._timer.start()
        self._onBundles({})

    def onProbe(self) -> None:
        """Look whether the engine has answered."""
        answer = self._probe.answer()
        if answer is None:
            return
        self._leaveOff()
        if answer.problem:
            self._showState(answer.problem)
            return
        selector = self._ui.deviceSelector
        selector.clear()
        selector.addItem(_("auto"), "auto")
        for name, description in answer.devices:
            selector.addItem(description, name)
        # A device that is gone, such as a card of another machine, is no longer asked for.
        index = max(0, selector.findData(self._logic.engine.device))
        selector.setCurrentIndex(index)
        self.onDeviceChanged(index)
        self._showState(_("Ready."))
        self._onBundles(answer.bundles)

    def close(self) -> None:
        """The panel goes: nobody waits for an answer, or for the rest of a path."""
        self.typingTimer.stop()
        self._leaveOff()

    def _leaveOff(self) -> None:
        """Nobody waits for the engine's answer any more."""
        self._timer.stop()
        if self._probe is not None:
            self._probe.stop()
            self._probe = None

    def _missing(self) -> list:
        return packages.missing(self._requirementsPath, engine=self._logic.engine.kind == engine.HERE)
