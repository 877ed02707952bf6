"""What can be asked for: one validated model per verb. The panel, the command line and scripts pass the same objects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Location(BaseModel):
    """Where a lesion may lie; None leaves it to the model."""

    model_config = ConfigDict(extra="forbid")

    side: Literal["left", "right"] | None = None
    lobe: Literal["frontal", "parietal", "temporal", "occipital", "central", "cerebellum", "brainstem"] | None = None


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bundle: str
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: str = "auto"


class Generate(_Request):
    """A new case from conditions.

    ``pathologies`` are loads in the unit of the bundle's condition (0-1), ``anatomy`` are values of its anatomy
    conditions (``ventricles``, ``brain``), None or absent is drawn from the training distribution. ``style`` names a
    reference volume in ``inputs``.
    """

    verb: Literal["generate"] = "generate"
    bundle: str = "brainspade3d"
    pathologies: dict[str, float] = {}
    locations: dict[str, Location] = {}
    anatomy: dict[str, float] = {}
    contrasts: list[str] = Field(default=["T1w"], min_length=1)
    style: str | None = None
    guidance: float = Field(default=2.0, ge=0, le=10)
    steps: int = Field(default=15, ge=2, le=1000)


class Render(_Request):
    """Images of a given segmentation; ``segmentation`` and ``style`` are file names (in ``inputs`` within a job)."""

    verb: Literal["render"] = "render"
    bundle: str = "brainspade3d"
    segmentation: str
    contrasts: list[str] = Field(default=["T1w"], min_length=1)
    style: str | None = None


class Segment(_Request):
    """Label map of a scan of any contrast, whole head or skull-stripped."""

    verb: Literal["segment"] = "segment"
    bundle: str = "segmenter"
    scan: str


Request = Annotated[Generate | Render | Segment, Field(discriminator="verb")]
adapter: TypeAdapter[Request] = TypeAdapter(Request)


def parse(data: dict | str | bytes) -> Request:
    """A request from a dict or from JSON.

    Raises:
        pydantic.ValidationError: a field is unknown, missing or out of range.
    """
    return adapter.validate_python(data) if isinstance(data, dict) else adapter.validate_json(data)
