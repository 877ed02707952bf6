"""Temporary folders: who removes them, and when."""

import os
import signal
import subprocess
import sys

import pytest

from BrainGenLib.scratch import Scratch

HOLD = """
import sys
from pathlib import Path
from BrainGenLib.scratch import Scratch
scratch = Scratch(parent=Path(sys.argv[1]))
print(scratch.folder, flush=True)
sys.stdin.read()
"""


def test_a_folder_goes_with_its_process(tmp_path):
    with Scratch(parent=tmp_path) as folder:
        (folder / "scan.nii").touch()
        if sys.platform != "win32":
            assert folder.stat().st_mode & 0o77 == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    other = tmp_path / "braingen-of-another-kind"
    other.mkdir()
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    killed, alive = (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    left, used = (process.stdout.readline().strip() for process in (killed, alive))
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    with Scratch(parent=tmp_path) as folder:
        assert sorted(map(str, tmp_path.iterdir())) == sorted([str(other), used, str(folder)])
        assert left not in (used, str(folder))
    alive.communicate()


def test_a_folder_that_nobody_closes_goes_with_its_process(tmp_path):
    program = "import sys; from pathlib import Path; from BrainGenLib.scratch import Scratch; "
    program += "kept = Scratch(parent=Path(sys.argv[1])); raise KeyboardInterrupt"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], stderr=subprocess.DEVNULL, check=False)
    assert not list(tmp_path.iterdir())


def test_a_removal_that_is_stopped_leaves_what_the_next_one_removes(tmp_path, monkeypatch):
    scratch = Scratch(parent=tmp_path)
    (scratch.folder / "inputs").mkdir()
    (scratch.folder / "inputs" / "scan.nii").touch()
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            scratch.close()
    scratch._lock.release()
    assert scratch.folder.exists()
    Scratch(parent=tmp_path).close()
    assert not list(tmp_path.iterdir())


def stopped(path, **_):
    raise KeyboardInterrupt
