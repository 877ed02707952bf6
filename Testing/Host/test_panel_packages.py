"""The panel installs what is missing and takes another Python. Nothing is installed here."""

import importlib.machinery
import sys
from types import ModuleType

import pytest
import slicer
from patience import PATIENCE


@pytest.fixture
def panel(idle_panel):
    return idle_panel


def test_a_path_that_is_typed_is_taken_at_the_end(host, panel, monkeypatch):
    asked = []
    monkeypatch.setattr(type(panel.engineSection), "update", lambda self: asked.append(self._logic.engine.python))
    timer = panel.engineSection.typingTimer
    timer.setInterval(600_000)  # nobody types as slowly as a busy machine
    for length in range(1, 12):
        panel.ui.pythonPath.setCurrentPath("/opt/python"[:length])
        host.process_events()
    assert asked == []
    timer.setInterval(0)
    host.wait_until(lambda: asked, PATIENCE)
    assert asked == ["/opt/python"]


def lacking(monkeypatch, *names):
    """As if these packages were not installed."""
    import importlib.metadata

    version = importlib.metadata.version

    def installed(name):
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", installed)


def test_installing_is_said_and_cannot_be_begun_twice(panel, monkeypatch):
    lacking(monkeypatch, "einops")
    panel.engineSection.update()
    begun = []

    def install(_requirements, **_options):
        begun.append((panel.ui.installButton.enabled, panel.ui.stateLabel.text))
        panel.ui.installButton.click()

    monkeypatch.setattr(slicer.util, "pip_install", install)
    if hasattr(slicer, "packaging"):  # since Slicer 5.11
        monkeypatch.setattr(slicer.packaging, "pip_ensure", install)
    panel.ui.installButton.click()
    assert begun == [(False, "Installing einops … This takes minutes; the Python console says more.")]
    assert panel.ui.installButton.enabled


def test_a_missing_extension_is_named_before_anything_is_asked(host, panel, monkeypatch):
    lacking(monkeypatch, "torch")
    panel.engineSection.update()
    panel.ui.installButton.click()
    assert "The extension PyTorch is not installed" in panel.ui.stateLabel.text
    assert host.dialogs.questions == []
    assert host.pip_requests == []


def test_pytorch_comes_through_its_extension(host, panel, monkeypatch):
    wanted = []

    class PyTorchUtilsLogic:
        def installTorch(self, torchVersionRequirement):
            wanted.append(torchVersionRequirement)

    extension = ModuleType("PyTorchUtils")
    extension.__spec__ = importlib.machinery.ModuleSpec("PyTorchUtils", None)
    extension.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    lacking(monkeypatch, "torch")
    panel.engineSection.update()
    panel.ui.installButton.click()
    assert wanted == [">=2.6"]
    assert "PyTorch could not be installed" in panel.ui.stateLabel.text
    assert host.pip_requests == []
