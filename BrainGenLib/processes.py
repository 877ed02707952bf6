"""Modules of this library run as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def start(
    module: str,
    arguments: Sequence[str] = (),
    *,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    **streams: Any,
) -> subprocess.Popen:
    """Start ``python -m module``; on Windows without a console window.

    Args:
        module: of this library, which need not be installed: it is imported from where this file lies.
        arguments: every user of the machine can read them: no secrets.
        python: the interpreter.
        environment: in place of this process's own.
        streams: ``stdin``, ``stdout``, ``stderr`` and ``text`` of :class:`subprocess.Popen`.

    Raises:
        OSError: there is no such interpreter.
    """
    variables = dict(os.environ if environment is None else environment)
    paths = [str(Path(__file__).resolve().parents[1]), variables.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    return subprocess.Popen([python, "-m", module, *arguments], env=variables, creationflags=flags, **streams)
