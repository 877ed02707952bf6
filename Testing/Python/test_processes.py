"""Processes of the library: what they print, how they end, and how they are ended, also behind a launcher."""

import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from patience import PATIENCE

from BrainGenLib import processes
from BrainGenLib.jobs import Job, WorkerProcess
from BrainGenLib.requests import Generate

ECHO = """
import os, sys
from BrainGenLib.worker import listen
class Print:
    def put(self, path):
        print(os.path.isdir(path or "."), flush=True)
        if path is None:
            os._exit(0)
class Ended:
    def set(self): pass
listen(Print(), Ended())
"""
SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shell script")


@pytest.fixture
def launcher(tmp_path):
    """Like PythonSlicer: it starts Python, waits, and ends with status 1 where that was killed or has crashed."""
    path = tmp_path / "launcher"
    path.write_text(
        f'#!/bin/sh\n: >>"$0.used"\n"{sys.executable}" "$@"\nstatus=$?\n[ $status -lt 128 ] || exit 1\nexit $status\n'
    )
    path.chmod(0o755)
    return str(path)


def environment(tmp_path, source, **variables):
    """Of a process in which the module ``task`` can be run."""
    (tmp_path / "task.py").write_text(source, "utf-8")
    return {**os.environ, "PYTHONPATH": str(tmp_path), **variables}


def wait_until(done):
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_a_process_prints_never_stops_it(tmp_path):
    task = processes.Background("task", environment=environment(tmp_path, "print('x' * 2**20); print('Łódź')"))
    wait_until(lambda: not task.running)
    status, printed = task.end()
    assert status == 0
    assert printed == "x" * 2**20 + "\nŁódź"


def test_what_a_process_prints_needs_no_code_page(tmp_path):
    # As on Windows, where what goes to a file is written in the code page.
    variables = environment(tmp_path, "print('Łódź')", PYTHONIOENCODING="cp1252")
    assert processes.Background("task", environment=variables).end() == (0, "Łódź")


def test_errors_are_printed_to_the_same_place(tmp_path):
    status, printed = processes.Background("task", environment=environment(tmp_path, "raise KeyError('why')")).end()
    assert status == 1
    assert printed.endswith("KeyError: 'why'")


def test_the_interpreter_is_asked_for_when_it_is_needed(tmp_path, launcher, monkeypatch):
    monkeypatch.setattr(sys, "executable", launcher)
    processes.Background("task", environment=environment(tmp_path, "")).end()
    used = Path(f"{launcher}.used")
    used.unlink()
    with WorkerProcess():
        wait_until(used.exists)


@pytest.mark.skipif(sys.platform == "win32", reason="names of open files")
def test_what_a_worker_prints_lies_in_no_folder(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    worker = WorkerProcess(module="task", environment=environment(tmp_path, "print('hello', flush=True); input()"))
    wait_until(lambda: worker.printed() == "hello\n")
    # Its folder there is for what PyTorch compiles.
    files = [path for path in (tmp_path / "temporary").rglob("*") if path.is_file()]
    assert not any(b"hello" in path.read_bytes() for path in files)
    worker.stop()
    assert not list((tmp_path / "temporary").iterdir())


def test_stopping_ends_what_a_launcher_has_launched(tmp_path, launcher):
    task = processes.Background("task", python=launcher, environment=environment(tmp_path, SLEEP))
    root = psutil.Process(task._process.pid)
    wait_until(root.children)
    [child] = root.children()
    task.stop()
    assert not task.running
    wait_until(lambda: gone(child.pid))


def test_names_of_folders_reach_a_worker_whatever_its_code_page(tmp_path):
    folder = tmp_path / "Zoë Łukasz"
    folder.mkdir()
    variables = environment(tmp_path, ECHO, PYTHONIOENCODING="cp1252")
    worker = WorkerProcess(module="task", environment=variables)
    worker.submit(Job.create(folder / "job", Generate()))
    wait_until(lambda: worker.printed().startswith(("True", "False")))
    assert worker.printed().startswith("True")
    worker.stop()


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "out_of_memory"),
        ("faulthandler._sigsegv()", "crashed"),
        ("raise KeyError('why')", "crashed"),
        ("sys.exit(3)", "crashed"),
    ],
)
def test_behind_a_launcher_a_killed_worker_is_told_from_one_that_failed(tmp_path, launcher, how, code):
    source = f"import faulthandler, os, signal, sys\nfaulthandler.enable()\nsys.stdin.readline()\n{how}"
    worker = WorkerProcess(python=launcher, module="task", environment=environment(tmp_path, source))
    job = Job.create(tmp_path / "job", Generate())
    worker.submit(job)
    wait_until(lambda: job.poll(worker) or job.state.finished)
    assert job.failure.code == code
    assert ("memory" in job.failure.message) == (code == "out_of_memory")
    worker.stop()
