"""Where models run: in Slicer's own Python, in another one, or on a server. Kept in the settings of the user."""

import json
import os
import shutil
import sys
from dataclasses import dataclass, field

import qt
import slicer
from slicer.i18n import tr as _

HERE, PYTHON, SERVER = "here", "python", "server"


def slicerPython() -> str:
    """Slicer's own Python as a program. Before Slicer has started up, ``sys.executable`` is another or none."""
    return shutil.which("PythonSlicer") or sys.executable


class EngineSettings:
    """What the section Engine says.

    The token of a server is kept in memory only: settings are a plain text file.
    """

    def __init__(self) -> None:
        self.token = os.environ.get("BRAINGEN_TOKEN", "")

    @property
    def kind(self) -> str:
        return slicer.util.settingsValue("BrainGen/Engine", HERE)

    @property
    def python(self) -> str:
        return slicer.util.settingsValue("BrainGen/Python", "")

    @property
    def server(self) -> str:
        return slicer.util.settingsValue("BrainGen/Server", "")

    @property
    def device(self) -> str:
        return slicer.util.settingsValue("BrainGen/Device", "auto")

    def set(self, name: str, value: str) -> None:
        """Keep a setting: ``Engine``, ``Python``, ``Server`` or ``Device``."""
        qt.QSettings().setValue(f"BrainGen/{name}", value)

    def problem(self) -> str:
        """What is missing to start a worker, as a sentence; empty if nothing is."""
        if self.kind == PYTHON and not os.path.isfile(self.python):
            return _("Choose the Python that computes (python or python.exe), in which braingen is installed.")
        if self.kind == SERVER and not self.server.startswith(("http://", "https://")):
            return _("Enter the address of the server, such as https://host:8750.")
        return ""

    def launch(self):
        """A new worker process; see :class:`BrainGenLib.jobs.WorkerProcess`."""
        from BrainGenLib.jobs import WorkerProcess

        if self.kind == SERVER:
            from BrainGenLib.service.remote import MirrorProcess

            return MirrorProcess(self.server, self.token, python=self._interpreter())
        return WorkerProcess(python=self._interpreter(), environment=self._environment())

    def probe(self):
        """Ask the engine what it has."""
        return Probe(self._interpreter(), [self.server] if self.kind == SERVER else [], self._environment())

    def modelCard(self, bundle: str):
        """File of a bundle's model card, with its data and its limits in full; None where a server has it."""
        from BrainGenLib import bundles

        found = bundles.available().get(bundle) if self.kind != SERVER else None
        card = found.folder / "docs" / "README.md" if found is not None else None
        return card if card is not None and card.is_file() else None

    def _interpreter(self) -> str:
        return self.python if self.kind == PYTHON else slicerPython()

    def _environment(self) -> dict:
        # Another Python stumbles over the variables that Slicer's launcher has set for its own.
        environment = dict(slicer.util.startupEnvironment() if self.kind == PYTHON else os.environ)
        if self.kind == SERVER:
            environment["BRAINGEN_TOKEN"] = self.token
        return environment


@dataclass
class Answer:
    """What an engine has: (name, description) of devices, and metadata of bundles by name; or what is wrong."""

    devices: list = field(default_factory=list)
    bundles: dict = field(default_factory=dict)
    problem: str = ""


class Probe:
    """A process that asks an engine what it has, so that nobody waits for PyTorch or a network."""

    def __init__(self, python: str, arguments: list, environment: dict) -> None:
        from BrainGenLib import processes

        try:
            self._process = processes.Background(
                "BrainGenLib.probe", arguments, python=python, environment=environment
            )
        except OSError as error:
            self._process = None
            self._problem = str(error)

    def answer(self):
        """An :class:`Answer`, or None while there is none yet."""
        if self._process is None:
            return Answer(problem=self._problem)
        if self._process.running:
            return None
        _status, said = self._process.end()
        try:
            found = json.loads(said.splitlines()[-1])
        except (ValueError, IndexError):
            return Answer(problem=_("The engine does not answer: {text}").format(text=said[-300:]))
        if "problem" in found:
            return Answer(problem=found["problem"])
        from BrainGenLib.bundles import Metadata

        bundles = {item["name"]: Metadata.model_validate(item) for item in found["bundles"]}
        described = _("{name}: {title}, {free:.0f} of {total:.0f} GB free")
        return Answer([(device["name"], described.format(**device)) for device in found["devices"]], bundles)

    def stop(self) -> None:
        """Nobody wants to know any more."""
        if self._process is not None:
            self._process.stop()
