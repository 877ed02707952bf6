"""Cases of the scene as a BIDS dataset, written by a process: compressing takes seconds."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import slicer


class Export:
    """Cases on their way to disk; :meth:`step` does one piece of it.

    Args:
        names: of cases in the scene.
        folder: of the dataset; new subjects are added to one that is there.
    """

    def __init__(self, names, folder: str) -> None:
        self._names = list(names)
        self._folder = folder
        self._temporary = Path(tempfile.mkdtemp(prefix="braingen-export-"))
        self._case = None
        self._process = None

    def step(self):
        """Go on.

        Returns:
            None while there is more to do; then (True, folders that were written) or (False, why not).
        """
        from BrainGenLib.errors import BadInput
        from BrainGenLib.scene import cases

        try:
            if self._case is not None:
                name, case = self._case
                case.save(self._temporary / name)
                self._case = None
                return None
            if self._names:
                name = self._names.pop(0)
                self._case = name, cases.case_of(slicer.mrmlScene, name)
                return None
            if self._process is None:
                self._process = self._launch()
        except (BadInput, KeyError, OSError) as error:
            return self._end(False, str(error))
        if self._process.poll() is None:
            return None
        said = self._process.stdout.read().decode(errors="replace").strip()
        return self._end(self._process.returncode == 0, said)

    def _launch(self):
        import BrainGenLib

        paths = [os.path.dirname(BrainGenLib.__path__[0]), os.environ.get("PYTHONPATH", "")]
        return subprocess.Popen(
            [sys.executable, "-m", "BrainGenLib.export.write", self._folder, str(self._temporary)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )

    def _end(self, done: bool, said: str):
        shutil.rmtree(self._temporary, ignore_errors=True)
        return done, said
