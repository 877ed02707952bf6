"""The check for the real Slicer, as far as the stand-in goes: with a worker that needs no model."""

import os
from pathlib import Path

import pytest
from panels import MODULE

from BrainGenLib import bundles
from BrainGenLib.jobs import WorkerProcess

FOLDER = Path(__file__).parent
SCRIPT = FOLDER.parent / "run_in_slicer.py"


class Answered:
    """An engine that has said at once what it has."""

    def answer(self):
        from BrainGenPanel.engine import Answer

        return Answer([], {name: bundle.metadata for name, bundle in bundles.available().items()})

    def stop(self):
        pass


@pytest.fixture
def quick_engine(host, monkeypatch):
    monkeypatch.syspath_prepend(MODULE.parent)
    from BrainGenPanel.engine import EngineSettings

    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "STEP_SECONDS": "0.1"}
    worker = lambda _settings: WorkerProcess(module="every_verb_worker", environment=environment)  # noqa: E731
    monkeypatch.setattr(EngineSettings, "launch", worker)
    monkeypatch.setattr(EngineSettings, "probe", lambda _settings: Answered())


def test_every_check_holds_in_the_stand_in(host, quick_engine, capfd):
    paths = ("--additional-module-paths", str(MODULE.parent))
    status = host.launch("--testing", "--no-splash", *paths, "--python-script", str(SCRIPT))
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith(("ok ", "FAILED "))]
    failed = [line for line in lines if line.startswith("FAILED")]
    # How long something takes is measured elsewhere: here other programs can make it longer.
    timed = [line for line in failed if line.endswith(" ms")]
    assert failed == timed
    assert len(lines) > 50
    assert status == bool(timed)
    assert host.errors == []
