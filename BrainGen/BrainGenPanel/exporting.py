"""Cases of the scene as a BIDS dataset, written by a process: compressing takes seconds."""

import logging

import slicer
from slicer.i18n import tr as _

from BrainGenPanel.engine import slicerPython


class Export:
    """Cases on their way to disk; :meth:`step` does one piece of it.

    Args:
        names: of cases in the scene.
        folder: of the dataset; new subjects are added to one that is there.
    """

    def __init__(self, names, folder: str) -> None:
        from BrainGenLib.scratch import Scratch

        self._names = list(names)
        self._folder = folder
        self._scratch = Scratch()
        self._process = None
        self._copying = self._copy()

    @property
    def copying(self) -> bool:
        """Whether cases are still being copied out of the scene; then a process writes the dataset."""
        return self._process is None

    def step(self):
        """Go on.

        Returns:
            None while there is more to do; then (True, folders that were written) or (False, why not).
        """
        from BrainGenLib import processes
        from BrainGenLib.errors import BadInput

        try:
            if self._process is None:
                for _array in self._copying:
                    return None
                arguments = [self._folder, str(self._scratch.folder)]
                self._process = processes.Background("BrainGenLib.export.write", arguments, python=slicerPython())
        except (BadInput, OSError) as error:
            return self._end(False, str(error))
        except Exception as error:
            logging.exception("BrainGen: the cases could not be exported")
            return self._end(False, _("The cases could not be exported: {e}.").format(e=error))
        if self._process.running:
            return None
        status, said = self._process.end()
        return self._end(status == 0, said)

    def stop(self) -> None:
        """Leave off; subjects that are complete stay."""
        if self._process is not None:
            self._process.stop()
        self._end(False, "")

    def _copy(self):
        """Copy the cases to the temporary folder, pausing after each array."""
        from BrainGenLib.errors import BadInput
        from BrainGenLib.scene import cases

        for name in self._names:
            if name not in cases.case_names(slicer.mrmlScene):
                raise BadInput(_("{name} is no longer in the scene.").format(name=name))
            for case in cases.reading(slicer.mrmlScene, name):  # noqa: B007
                yield
            yield from case.saving(self._scratch.folder / name)

    def _end(self, done: bool, said: str):
        self._copying.close()
        self._scratch.close()
        return done, said
