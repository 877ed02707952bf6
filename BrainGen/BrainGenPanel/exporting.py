"""Cases of the scene as a BIDS dataset, written by a process: compressing takes seconds."""

import logging

import qt
import slicer
from slicer.i18n import tr as _

from BrainGenPanel.engine import slicerPython

POLL_MS = 200
# Between two arrays that are copied, the application draws and answers.
BREATH_MS = 10


class Export:
    """Cases on their way to disk, copied out of the scene and then written by a process.

    Args:
        names: of cases in the scene.
        folder: of the dataset; new subjects are added to one that is there.
        onEnd: called with (True, folders that were written) or (False, why not).
    """

    def __init__(self, names, folder: str, onEnd) -> None:
        from BrainGenLib.scratch import Scratch

        self._names = list(names)
        self._folder = folder
        self._onEnd = onEnd
        self._scratch = Scratch()
        self._process = None
        self._copying = self._copy()
        self._timer = qt.QTimer()
        self._timer.setInterval(BREATH_MS)
        self._timer.connect("timeout()", self._onTick)
        self._timer.start()

    def stop(self) -> None:
        """Leave off; subjects that are complete stay."""
        if self._process is not None:
            self._process.stop()
        self._end(False, _("The export was stopped."))

    def _onTick(self) -> None:
        from BrainGenLib.errors import BadInput

        try:
            ended = self._step()
        except (BadInput, OSError) as error:
            ended = False, str(error)
        except Exception as error:
            logging.exception("BrainGen: the cases could not be exported")
            ended = False, _("The cases could not be exported: {e}.").format(e=error)
        if ended is not None:
            self._end(*ended)

    def _step(self):
        """Copy one array, or see to the process; None while there is more to do."""
        from BrainGenLib import processes

        if self._process is None:
            for _array in self._copying:
                return None
            arguments = [self._folder, str(self._scratch.folder)]
            self._process = processes.Background("BrainGenLib.export.write", arguments, python=slicerPython())
            self._timer.setInterval(POLL_MS)
        if self._process.running:
            return None
        status, said = self._process.end()
        return status == 0, said

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

    def _end(self, done: bool, said: str) -> None:
        self._timer.stop()
        self._copying.close()
        self._scratch.close()
        self._onEnd(done, said)
