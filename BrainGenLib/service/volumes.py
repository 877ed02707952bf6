"""Whether an uploaded file may be opened at all: of a known kind, whole, and not larger than it may be.

The readers themselves check, so that no other reader can find another file in it. What its values and its place in
space are worth is asked when the job runs.
"""

from __future__ import annotations

from pathlib import Path

from BrainGenLib.reading import nifti, nrrd

ENDINGS = (".nii", ".nii.gz", ".nrrd")
# Of a volume in memory, as float32 or wider: 512³ voxels, or a head in 0.4 mm.
MAX_BYTES = 512 * 2**20


def check(path: Path) -> None:
    """Let a file pass that a job may read.

    Raises:
        BadInput: it is of another kind than its name says, damaged, too large, or unclear.
    """
    (nrrd if path.name.lower().endswith(".nrrd") else nifti).check(path, MAX_BYTES)
