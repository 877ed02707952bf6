"""Cases of the scene as a BIDS dataset, written by a process: compressing takes seconds."""

import shutil
import subprocess
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
        from BrainGenLib import processes
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
                self._process = processes.start(
                    "BrainGenLib.export.write",
                    [self._folder, str(self._temporary)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
        except (BadInput, KeyError, OSError) as error:
            return self._end(False, str(error))
        if self._process.poll() is None:
            return None
        said = self._process.stdout.read().decode(errors="replace").strip()
        return self._end(self._process.returncode == 0, said)

    def _end(self, done: bool, said: str):
        shutil.rmtree(self._temporary, ignore_errors=True)
        return done, said

    def stop(self) -> None:
        """Leave off; subjects that are complete stay."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._end(False, "")
