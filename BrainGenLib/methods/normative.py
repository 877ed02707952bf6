"""Volumes of brains by age and sex: a normative model (Marquand et al., Biol Psychiatry 2016; Bethlehem et al.,
Nature 2022).

Given age and sex, the logarithms of the volumes of ventricles and brain in template space are jointly normal: their
means are quadratic in age, their spreads log-linear in it, their correlation is one number. ``braingen train
normative`` measures it, with a level for every study, so that scanners and labelling do not pass for age.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError
from scipy import stats

from BrainGenLib.bundles import Metadata
from BrainGenLib.errors import BadInput

PERSON = ("age", "sex")
"""Conditions of the person: years; 0 female, 1 male."""
CENTRE, DECADES = 50.0, 20.0
"""Age that polynomials are centred on, and what they have as 1, years."""


class Curve(BaseModel):
    """The logarithm of a volume in mL by age and sex.

    Attributes:
        mean: coefficients of 1, t, t² and of sex (male less female), t being age of :func:`standard_age`.
        log_spread: coefficients of 1 and t of the logarithm of the standard deviation.
    """

    mean: list[FiniteFloat] = Field(min_length=4, max_length=4)
    log_spread: list[FiniteFloat] = Field(min_length=2, max_length=2)


class Study(BaseModel):
    """How many people of a study were measured, and how far its log volumes lie from the mean level of all."""

    people: int
    level: dict[str, FiniteFloat]


class NormativeModel(BaseModel):
    """Volumes given age and sex.

    Attributes:
        curves: by volume.
        correlation: of the standardised log volumes, in the order of ``curves``.
        age_quantiles: of the people that were measured, at equal steps from the youngest to the oldest.
        male: share of them.
        studies: that they come from; the curves have the mean level of all people.
    """

    curves: dict[str, Curve]
    correlation: float = Field(gt=-1, lt=1)
    age_quantiles: list[FiniteFloat] = Field(min_length=2)
    male: float = Field(ge=0, le=1)
    studies: dict[str, Study]

    @classmethod
    def of(cls, bundle: Metadata) -> NormativeModel | None:
        """That of a bundle; None if it has none.

        Raises:
            BadInput: what the bundle has instead is none.
        """
        if (found := bundle.parameters.get("normative")) is None:
            return None
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            raise BadInput(
                f"The volumes by age and sex of bundle {bundle.name} cannot be used; install it again."
            ) from error

    def at_level(self, level: Mapping[str, float]) -> NormativeModel:
        """The model of log volumes that lie higher by ``level``, none where it is silent about a volume."""
        curves = {
            name: curve.model_copy(update={"mean": [curve.mean[0] + level.get(name, 0.0), *curve.mean[1:]]})
            for name, curve in self.curves.items()
        }
        return self.model_copy(update={"curves": curves})

    def person(self, asked: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
        """Age and sex as asked for; one that is not is drawn from the people that were measured."""
        share, other = rng.random(2)
        drawn = {
            "age": float(np.interp(share, np.linspace(0, 1, len(self.age_quantiles)), self.age_quantiles)),
            "sex": float(other < self.male),
        }
        return {name: asked.get(name, drawn[name]) for name in PERSON}

    def at(self, person: Mapping[str, float]) -> tuple[list[float], list[float]]:
        """Means and standard deviations of the log volumes, in the order of ``curves``."""
        t = float(standard_age(person["age"]))
        terms = (1.0, t, t**2, person["sex"] - 0.5)
        means = [float(np.dot(curve.mean, terms)) for curve in self.curves.values()]
        return means, [float(np.exp(np.dot(curve.log_spread, terms[:2]))) for curve in self.curves.values()]

    def percentiles(self, volumes: Mapping[str, float], person: Mapping[str, float]) -> dict[str, float]:
        """Where volumes in mL lie among people of that age and sex: each by itself, 0 to 100."""
        return {
            name: round(100 * float(stats.norm.cdf((np.log(volumes[name]) - mean) / spread)), 2)
            for name, mean, spread in zip(self.curves, *self.at(person), strict=True)
        }


def standard_age(age: float | np.ndarray) -> np.ndarray:
    """Age in years as the polynomials have it."""
    return (np.asarray(age, float) - CENTRE) / DECADES
