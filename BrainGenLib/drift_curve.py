"""How near to real scans a bundle draws with which drift: what front ends show beside their slider."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field, ValidationError, model_validator

from BrainGenLib.bundles import Metadata

REACH = 3.0
"""Standard deviations between subjects that front ends offer either way."""
_MARGIN = 4
"""Pixels around a picture of a curve, for the marks on it."""


class DriftCurve(BaseModel):
    """Measured when a bundle was made.

    Attributes:
        contrast: of the scans.
        units: drifts, in standard deviations of the latent's channel means between subjects, rising.
        delta: the same as δ in units of the noise, mean over the latent's channels.
        l1: distance between what is drawn with them and real scans.
    """

    contrast: str = Field(pattern="^[A-Za-z0-9]+$")
    units: list[float] = Field(min_length=2)
    delta: list[float]
    l1: list[float]

    @model_validator(mode="after")
    def _fits(self) -> DriftCurve:
        if len(self.delta) != len(self.units) or len(self.l1) != len(self.units):
            raise ValueError("units, delta and l1 differ in length")
        if (np.diff(self.units) <= 0).any():
            raise ValueError("units do not rise")
        return self

    @classmethod
    def of(cls, bundle: Metadata) -> DriftCurve | None:
        """The curve that a bundle tells, or None: it tells none that can be read."""
        try:
            return cls.model_validate(bundle.parameters.get("drift_curve"))
        except ValidationError:
            return None

    @property
    def best(self) -> float:
        """The drift with the lowest distance."""
        return self.units[int(np.argmin(self.l1))]

    def raw(self, units: float) -> float:
        """δ of a drift: linear between what was measured, and beyond."""
        right = int(np.clip(np.searchsorted(self.units, units), 1, len(self.units) - 1))
        (low, high), (start, end) = self.units[right - 1 : right + 1], self.delta[right - 1 : right + 1]
        return start + (end - start) * (units - low) / (high - low)

    def points(self, width: int, height: int) -> list[tuple[float, float]]:
        """The measured points in a picture of so many pixels, y downwards."""
        return [self.place(units, width, height) for units in self.units]

    def place(self, units: float, width: int, height: int) -> tuple[float, float]:
        """Where a drift of at most :data:`REACH` lies on the curve in such a picture; its ends go on level."""
        low, high = min(self.l1), max(self.l1)
        share = (float(np.interp(units, self.units, self.l1)) - low) / ((high - low) or 1.0)
        x = (units + REACH) / (2 * REACH) * (width - 2 * _MARGIN) + _MARGIN
        return round(x, 1), round((1 - share) * (height - 2 * _MARGIN) + _MARGIN, 1)
