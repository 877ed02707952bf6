"""Modules of this library run as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def start(
    module: str,
    arguments: Sequence[str] = (),
    *,
    python: str | None = None,
    environment: Mapping[str, str] | None = None,
    **streams: Any,
) -> subprocess.Popen:
    """Start ``python -m module``; on Windows without a console window. What it prints is UTF-8.

    Args:
        module: of this library, which need not be installed: it is imported from where this file lies.
        arguments: every user of the machine can read them: no secrets.
        python: the interpreter; None for that of this process, as it is when this is called: Slicer names it late.
        environment: in place of this process's own.
        streams: ``stdin``, ``stdout`` and ``stderr`` of :class:`subprocess.Popen`. A pipe that is not read all the
            time stops the process when it is full, on Windows after 4 KiB: see :class:`Background`.

    Raises:
        OSError: there is no such interpreter.
    """
    variables = dict(os.environ if environment is None else environment)
    paths = [str(Path(__file__).resolve().parents[1]), variables.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    # On Windows, a name that the code page lacks could not be printed to a file.
    variables["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    command = [python or sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, env=variables, creationflags=flags, **streams)


def kill(process: subprocess.Popen) -> None:
    """End a process and all that it has started: PythonSlicer is a launcher, and its end alone ends nothing else."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        for one in [*root.children(recursive=True), root]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


class Background:
    """A module that runs to its end while a front end goes on; what it prints is kept until then.

    Args:
        module, arguments, python, environment: as of :func:`start`.

    Raises:
        OSError: there is no such interpreter, or no room for what it prints.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        python: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        # A file has room for all, and is gone when both processes have closed it.
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = start(
            module,
            arguments,
            python=python,
            environment=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> tuple[int, str]:
        """Exit status, and what the process has printed; if it still runs, its end is awaited."""
        status = self._process.wait()
        self._printed.seek(0)
        return status, self._printed.read().decode(errors="replace").strip()

    def stop(self) -> None:
        """End it, with all that it has started."""
        if self.running:
            kill(self._process)
