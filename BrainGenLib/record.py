"""What the files of a case say of it, checked where they are read: they may come from elsewhere.

Of measurements and provenance the types are checked of what exports and front ends read; what else they hold stays.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, ValidationError, model_validator

from BrainGenLib.errors import BadInput


def _is_name(name: str) -> str:
    # It becomes the name of a file; labels.nii and map-….nii are the case's own.
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or name == "labels" or name.startswith("map-"):
        raise ValueError("not the name of a contrast or map")
    return name


class _Request(BaseModel):
    verb: str = ""
    known: dict[str, FiniteFloat] = {}
    wanted: dict[str, FiniteFloat] = {}
    anatomy: dict[str, FiniteFloat] = {}
    pathologies: dict[str, FiniteFloat] = {}
    locations: dict[str, dict[str, str | None] | None] = {}
    of: _Request | None = None

    @model_validator(mode="after")
    def _of_something(self) -> _Request:
        if self.of is None and "of" in self.model_fields_set:
            raise ValueError("a sweep of nothing")
        return self


class _Bundle(BaseModel):
    sha256: str


class _Provenance(BaseModel):
    request: _Request = _Request()
    inputs: dict[str, str] = {}
    bundles: dict[str, _Bundle] = {}
    software: dict[str, Any] = {}
    arrays: dict[str, str] = {}
    threads: int = 1
    frame: int = 0


class _Similarity(BaseModel):
    ssim: FiniteFloat


class _Looks(BaseModel):
    before: FiniteFloat
    after: FiniteFloat


class _MassEffect(BaseModel):
    requested: FiniteFloat
    obtained: FiniteFloat
    midline_shift: FiniteFloat | None = None


class _Person(BaseModel):
    age: FiniteFloat
    sex: FiniteFloat
    percentiles: dict[str, FiniteFloat]


class _Likeness(BaseModel):
    nearest: FiniteFloat
    people_largest: FiniteFloat


class _Attribution(BaseModel):
    shares: dict[str, FiniteFloat]
    effective_donors: FiniteFloat
    largest_region_ml: FiniteFloat
    cortex_dice: _Likeness


class _Measurements(BaseModel):
    volumes_ml: dict[str, FiniteFloat] = {}
    volumes_before_ml: dict[str, FiniteFloat] | None = None
    reached: dict[str, FiniteFloat] = {}
    similarity: _Similarity | None = None
    looks_years_old: _Looks | None = None
    mass_effect_mm: _MassEffect | None = None
    person: _Person | None = None
    attribution: _Attribution | None = None
    remarks: list[str] = []

    @model_validator(mode="after")
    def _same_structures(self) -> _Measurements:
        if self.volumes_before_ml is not None and self.volumes_ml.keys() - self.volumes_before_ml.keys():
            raise ValueError("volumes_before_ml lacks structures")
        return self


class _Swept(BaseModel):
    over: str
    unit: str
    front: list[int] = [1]
    best: int = 1


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

    @model_validator(mode="after")
    def _known_parts(self) -> Record:
        _Measurements.model_validate(self.measurements)
        _Provenance.model_validate(self.provenance)
        if self.values:
            swept = _Swept.model_validate(self.measurements)
            if not swept.front or not {*swept.front, swept.best} <= {*range(1, len(self.values) + 1)}:
                raise ValueError("the front is not of the frames")
            if "front" in self.measurements and "best" not in self.measurements:
                raise ValueError("a front without its best frame")
        return self

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
            where = ".".join(map(str, first["loc"])) or "its parts"
            raise BadInput(f"{path} is not of a case of BrainGen: {where}: {first['msg']}.") from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadInput(f"{path} is not of a case of BrainGen, or damaged.") from error
