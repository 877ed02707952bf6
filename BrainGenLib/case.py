"""What comes back: images and label map on one grid, with measurements and provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from BrainGenLib.errors import BadInput
from BrainGenLib.reading import nifti
from BrainGenLib.record import Record

MARK = "SYNTHETIC"
"""Begins the description in the header of every NIfTI file of a synthetic case: it stays with the file."""
ATTRIBUTION = "attribution"
"""The map that says whose anatomy a voxel has: the number of the donor, from 1, in the order of the ``shares`` in the
measurement of that name; 0 where it is nobody's."""


@dataclass
class Case:
    """A case.

    Attributes:
        images: contrast name to float32 volume, (R, A, S) or the scan's own axis order; in [0, 1], or in a scan's
            own units where it is a scan that was changed.
        labels: uint16 on-disk label values on the same grid, or None.
        affine: 4×4 voxel-to-world matrix, RAS+ mm.
        maps: other volumes on that grid by name, in units of their own: ``difference``, ``uncertainty`` (float32),
            :data:`ATTRIBUTION` (uint16).
        measurements: e.g. ``volumes_ml`` by structure name, requested and obtained loads.
        provenance: request, bundle hash, versions, time; enough to make the case again.
        synthetic: False only for results that hold nothing made up (a segmentation of a real scan).
        template: the same in template space (GRID_1MM), where the grid above is a scan's own;
            ``measurements["template_to_scan"]`` then is the 4×4 matrix between their worlds.
        frames: of a sweep, in the order of its values; then it holds no arrays of its own, and its measurements are
            those of :func:`BrainGenLib.sweeps.measured`.
    """

    images: dict[str, np.ndarray]
    labels: np.ndarray | None
    affine: np.ndarray
    measurements: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    synthetic: bool = True
    template: Case | None = None
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write ``case.json``, ``<contrast>.nii`` and ``labels.nii`` (uncompressed: 0.02 s instead of 1 s).

        Raises:
            OSError: they cannot be written; there is no folder to write ``folder`` in, for example.
        """
        for _file in self.saving(folder):
            pass

    def mark(self, image: nib.Nifti1Image) -> None:
        """Say in the header of a file whether its voxels are synthetic."""
        if self.synthetic:
            image.header["descrip"] = f"{MARK}, made by BrainGen".encode()

    def saving(self, folder: Path) -> Iterator[Path]:
        """As :meth:`save`, but pausing after each file, which it names."""
        # Not its parents: a worker that is left alone must not make a folder of a person's scan anew.
        folder.mkdir(exist_ok=True)
        arrays = {contrast: volume.astype(np.float32, copy=False) for contrast, volume in self.images.items()}
        arrays |= {f"map-{name}": as_map(name, volume) for name, volume in self.maps.items()}
        if self.labels is not None:
            arrays["labels"] = self.labels.astype(np.uint16, copy=False)
        for name, array in arrays.items():
            image = nib.Nifti1Image(array, self.affine)
            self.mark(image)
            nib.save(image, folder / f"{name}.nii")
            yield folder / f"{name}.nii"
        (folder / "case.json").write_text(
            json.dumps(
                {
                    "contrasts": list(self.images),
                    "maps": list(self.maps),
                    "has_labels": self.labels is not None,
                    "measurements": self.measurements,
                    "provenance": self.provenance,
                    "synthetic": self.synthetic,
                    "affine": np.asarray(self.affine, float).tolist(),
                    "values": [frame.value for frame in self.frames],
                },
                indent=1,
            ),
            "utf-8",
        )
        yield folder / "case.json"
        if self.template is not None:
            yield from self.template.saving(folder / "template")
        for number, frame in enumerate(self.frames, 1):
            yield from frame.case.saving(folder / frame_folder(number))

    @classmethod
    def load(cls, folder: Path) -> Case:
        """Read a case folder.

        Raises:
            BadInput: the folder holds no ``case.json``, one that no case has, or a volume is missing, damaged or on
                another grid than the others.
        """
        if not (folder / "case.json").is_file():
            raise BadInput(f"{folder} is not a case folder: it holds no case.json.")
        record = Record.read(folder / "case.json")
        # Mapped, not read: a front end that adds one array at a time to its scene waits for one at a time.
        images = {
            name: read_array(folder / f"{name}.nii").astype(np.float32, copy=False) for name in record.contrasts
        }
        maps = {name: as_map(name, read_array(folder / f"map-{name}.nii")) for name in record.maps}
        labels = read_array(folder / "labels.nii").astype(np.uint16, copy=False) if record.has_labels else None
        shapes = {array.shape for array in [*images.values(), *maps.values(), *([] if labels is None else [labels])]}
        if len(shapes) > 1 or any(len(shape) != 3 for shape in shapes):
            raise BadInput(f"{folder} is no case of BrainGen: its volumes are not on one grid.")
        frames = [Frame(value, cls.load(folder / frame_folder(n))) for n, value in enumerate(record.values, 1)]
        if "front" in record.measurements and not all("similarity" in one.case.measurements for one in frames):
            raise BadInput(f"{folder} is no case of BrainGen: its frames are not compared with the scan.")
        return cls(
            images,
            labels,
            np.array(record.affine),
            record.measurements,
            record.provenance,
            record.synthetic,
            cls.load(folder / "template") if (folder / "template").is_dir() else None,
            maps,
            frames,
        )


@dataclass
class Frame:
    """A case of a sweep, and the value of what was swept over."""

    value: float
    case: Case


def as_map(name: str, volume: np.ndarray) -> np.ndarray:
    """A volume in the type of the map of that name."""
    return volume.astype(np.uint16 if name == ATTRIBUTION else np.float32, copy=False)


def frame_folder(number: int) -> str:
    """Where a case folder holds its frame of that number, from 1."""
    return f"frame-{number:02d}"


def read_array(path: Path) -> np.ndarray:
    """The voxels of a NIfTI file that BrainGen wrote.

    Raises:
        BadInput: it is missing or damaged.
    """
    try:
        return nifti.read(path).data if path.name.endswith(".gz") else nifti.mapped(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is missing or damaged.") from error
