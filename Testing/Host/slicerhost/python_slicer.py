"""PythonSlicer: on the path, in ``sys.executable``, and a launcher; and pipes that hold as little as on Windows."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Like CTK's launcher: it starts Python and waits. Where that has crashed or was killed it ends with status 1; when
# the launcher itself is killed, Python goes on.
_LAUNCHER = '#!/bin/sh\n"{python}" "$@"\nstatus=$?\n[ $status -lt 128 ] || exit 1\nexit $status\n'
# What CreatePipe gives by default.
_PIPE_BYTES = 4096


@contextmanager
def surroundings() -> Iterator[Path]:
    """Processes are started as from Slicer on Windows; yields the path of PythonSlicer.

    Windows itself has all this.
    """
    if sys.platform == "win32":
        yield Path(sys.executable)
        return
    python, path, start = sys.executable, os.environ["PATH"], subprocess.Popen.__init__

    def start_with_small_pipes(self: Any, *args: Any, **options: Any) -> None:
        start(self, *args, **{"pipesize": _PIPE_BYTES, **options})

    with tempfile.TemporaryDirectory(prefix="slicerhost-") as folder:
        program = Path(folder) / "PythonSlicer"
        program.write_text(_LAUNCHER.format(python=python), "utf-8")
        program.chmod(0o755)
        sys.executable, os.environ["PATH"] = str(program), os.pathsep.join((folder, path))
        subprocess.Popen.__init__ = start_with_small_pipes
        try:
            yield program
        finally:
            sys.executable, os.environ["PATH"], subprocess.Popen.__init__ = python, path, start


@contextmanager
def not_yet_known() -> Iterator[None]:
    """As until Slicer handles its command line, so also when the module that it starts with is set up."""
    known, sys.executable = sys.executable, ""
    try:
        yield
    finally:
        sys.executable = known
