"""A worker on a disk so full that not even the end of a job can be written."""

import errno
import sys

from BrainGenLib.jobs import exiting_on_full_disk

with exiting_on_full_disk():
    sys.stdin.readline()
    raise OSError(errno.ENOSPC, "No space left on device")
