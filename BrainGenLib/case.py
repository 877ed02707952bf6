"""What comes back: images and label map on one grid, with measurements and provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from BrainGenLib.errors import BadInput


@dataclass
class Case:
    """A case.

    Attributes:
        images: contrast name to float32 volume, (R, A, S) or the scan's own axis order; in [0, 1], or in a scan's
            own units where it is a scan that was changed.
        labels: uint16 on-disk label values on the same grid, or None.
        affine: 4×4 voxel-to-world matrix, RAS+ mm.
        maps: other volumes on that grid by name, in units of their own: ``difference``, ``uncertainty``.
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
        """Write ``case.json``, ``<contrast>.nii`` and ``labels.nii`` (uncompressed: 0.02 s instead of 1 s)."""
        for _file in self.saving(folder):
            pass

    def saving(self, folder: Path) -> Iterator[Path]:
        """As :meth:`save`, but pausing after each file, which it names."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {contrast: volume.astype(np.float32, copy=False) for contrast, volume in self.images.items()}
        arrays |= {f"map-{name}": volume.astype(np.float32, copy=False) for name, volume in self.maps.items()}
        if self.labels is not None:
            arrays["labels"] = self.labels.astype(np.uint16, copy=False)
        for name, array in arrays.items():
            nib.save(nib.Nifti1Image(array, self.affine), folder / f"{name}.nii")
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
            BadInput: the folder holds no ``case.json``.
        """
        if not (folder / "case.json").is_file():
            raise BadInput(f"{folder} is not a case folder: it holds no case.json.")
        data = json.loads((folder / "case.json").read_text("utf-8"))
        # Mapped, not read: a front end that adds one array at a time to its scene waits for one at a time.
        images = {
            name: read_array(folder / f"{name}.nii").astype(np.float32, copy=False) for name in data["contrasts"]
        }
        maps = {name: read_array(folder / f"map-{name}.nii") for name in data["maps"]}
        labels = read_array(folder / "labels.nii").astype(np.uint16, copy=False) if data["has_labels"] else None
        return cls(
            images,
            labels,
            np.array(data["affine"]),
            data["measurements"],
            data["provenance"],
            data["synthetic"],
            cls.load(folder / "template") if (folder / "template").is_dir() else None,
            maps,
            [Frame(value, cls.load(folder / frame_folder(number))) for number, value in enumerate(data["values"], 1)],
        )


@dataclass
class Frame:
    """A case of a sweep, and the value of what was swept over."""

    value: float
    case: Case


def frame_folder(number: int) -> str:
    """Where a case folder holds its frame of that number, from 1."""
    return f"frame-{number:02d}"


def read_array(path: Path) -> np.ndarray:
    """The voxels of a NIfTI file that BrainGen wrote."""
    return np.asarray(cast(SpatialImage, nib.load(path)).dataobj)
