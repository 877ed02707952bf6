"""What comes back: images and label map on one grid, with measurements and provenance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, ValidationError

from BrainGenLib.errors import BadInput


def _is_name(name: str) -> str:
    # It becomes the name of a file, and the case may come from elsewhere; labels.nii and map-….nii are its own.
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or name == "labels" or name.startswith("map-"):
        raise ValueError("not the name of a contrast or map")
    return name


_Name = Annotated[str, AfterValidator(_is_name)]
_Row = Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]


class Record(BaseModel):
    """What a file says of a case: ``case.json``, or the part ``BrainGen`` of a sidecar."""

    contrasts: list[_Name] = []
    maps: list[_Name] = []
    has_labels: bool = False
    measurements: dict[str, Any]
    provenance: dict[str, Any]
    synthetic: bool = True
    affine: Annotated[list[_Row], Field(min_length=4, max_length=4)]
    values: Annotated[list[FiniteFloat], Field(max_length=32)] = []

    @classmethod
    def read(cls, path: Path, part: str | None = None) -> Record:
        """The record in a JSON file, or in a part of it.

        Raises:
            BadInput: it cannot be read, or says what no case can.
        """
        try:
            data = json.loads(path.read_text("utf-8"))
            return cls.model_validate(data if part is None else data[part])
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInput(f"{path} is not of a case of BrainGen: {where}: {first['msg']}.") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path} is not of a case of BrainGen, or damaged.") from error


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
        maps = {name: read_array(folder / f"map-{name}.nii") for name in record.maps}
        labels = read_array(folder / "labels.nii").astype(np.uint16, copy=False) if record.has_labels else None
        shapes = {array.shape for array in [*images.values(), *maps.values(), *([] if labels is None else [labels])]}
        if len(shapes) > 1 or any(len(shape) != 3 for shape in shapes):
            raise BadInput(f"{folder} is no case of BrainGen: its volumes are not on one grid.")
        return cls(
            images,
            labels,
            np.array(record.affine),
            record.measurements,
            record.provenance,
            record.synthetic,
            cls.load(folder / "template") if (folder / "template").is_dir() else None,
            maps,
            [Frame(value, cls.load(folder / frame_folder(n))) for n, value in enumerate(record.values, 1)],
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
    """The voxels of a NIfTI file that BrainGen wrote.

    Raises:
        BadInput: it is missing or damaged.
    """
    try:
        return np.asarray(cast(SpatialImage, nib.load(path)).dataobj)
    except (OSError, ValueError, EOFError, ImageFileError) as error:
        raise BadInput(f"{path} is missing or damaged.") from error
