"""Recipe: volumes of ventricles and brain by age and sex, measured on label maps in template space.

Each study has a level of its own: where scanner, labelling and ages go together, only what age does within studies
counts. Means and spreads are fitted together by maximum likelihood (multiplicative heteroscedasticity, Harvey,
Econometrica 1976).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from BrainGenLib import bundles
from BrainGenLib.errors import BadInput
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.methods.brainspade3d import ANATOMY
from BrainGenLib.methods.normative import PERSON, Curve, NormativeModel, Study, standard_age
from BrainGenLib.participants import SEXES
from BrainGenLib.training import shared_bundle
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.image_material import WHOLE

ADULT = 18
LEAST_OF_STUDY = 10
LEAST_PEOPLE = 40
# Lesions beside which volumes are still those of an age.
OF_AGE = {"wmh"}
QUANTILES = 21
ITERATIONS = 50

HEADING = "## Age and sex"
CARD = """
Where `age` or `sex` is asked for, ventricles and brain that are not asked for are drawn from a normative model:
given age and sex, their log volumes are jointly normal; means are quadratic in age, spreads log-linear in it, the
correlation is {correlation:.2f}. An age or a sex that is not asked for beside the other is drawn from those of the
people that were measured. Cases report which percentiles their volumes have for the age and sex.

**Data** (train split only): {people} people of {low:.0f} to {high:.0f} years, {female} female: {studies}.
Volumes are those of their label maps in template space, so head size and most of what sex does to it are gone.
Medians in mL, and between which volumes the middle 90 % lie:

| years | ventricles, female | ventricles, male | brain, female | brain, male |
|---|---|---|---|---|
{table}

Every study has a level of its own, which takes up what scanner and labelling do; what age does is what differs with
it within studies. The table is at the mean level of all people, cases at that of the donors. Levels of the studies
against it:
{levels}.

**Limits.** Ages above 70 rest on {old} people. Nobody was followed over time: these are differences between people,
not courses of life. Draws beyond the range of `ventricles` or `brain` are set to its end.
"""


@dataclass(frozen=True)
class Measured:
    """A person whose brain was measured: volumes in mL in the order of ANATOMY, age in years, sex 0 or 1."""

    study: str
    age: float
    sex: float
    volumes: tuple[float, ...]


def people(cache: Cache, split: str) -> list[Measured]:
    """Adults of a split with age, sex and a label map of the whole brain, without lesions that change volumes."""
    found = []
    for case in cache.select(split=split, space="template", labelled=True):
        if case.age is None or case.age < ADULT or case.sex not in SEXES:
            continue
        if case.quality.get("structures", 1.0) <= WHOLE or not set(case.pathologies) <= OF_AGE:
            continue
        volumes = volume_conditions(cache.labels(case), case.spacing)
        found.append(Measured(case.dataset, case.age, SEXES[case.sex], tuple(volumes[name] for name in ANATOMY)))
    return found


def fit(measured: list[Measured]) -> NormativeModel:
    """The model of people; studies of fewer than :data:`LEAST_OF_STUDY` are left out.

    Raises:
        BadInput: there are fewer than :data:`LEAST_PEOPLE`.
    """
    counts = Counter(one.study for one in measured)
    used = [one for one in measured if counts[one.study] >= LEAST_OF_STUDY]
    if len(used) < LEAST_PEOPLE:
        raise BadInput(
            f"Volumes by age and sex need at least {LEAST_PEOPLE} labelled adults whose age and sex are known, from "
            f"studies of at least {LEAST_OF_STUDY}; there are {len(used)}."
        )
    ages, sexes = np.array([one.age for one in used]), np.array([one.sex for one in used])
    studies = sorted({one.study for one in used})
    own = np.array([[one.study == study for study in studies] for one in used], float)
    t = standard_age(ages)
    terms = np.column_stack([own, t, t**2, sexes - 0.5])
    curves, levels, standard = {}, {}, []
    for name, logs in zip(ANATOMY, np.log([one.volumes for one in used]).T, strict=True):
        slopes, spread, residuals = _fitted(terms, np.column_stack([np.ones_like(t), t]), logs)
        level = float(own.mean(0) @ slopes[: len(studies)])
        levels[name] = slopes[: len(studies)] - level
        curves[name] = Curve(
            mean=[round(float(value), 5) for value in (level, *slopes[len(studies) :])],
            log_spread=[round(float(value), 5) for value in spread],
        )
        standard.append(residuals)
    return NormativeModel(
        curves=curves,
        correlation=round(float(np.corrcoef(standard)[0, 1]), 4),
        age_quantiles=np.quantile(ages, np.linspace(0, 1, QUANTILES)).round(2).tolist(),
        male=round(float(sexes.mean()), 4),
        studies={
            study: Study(
                people=int(own[:, number].sum()),
                level={name: round(float(level[number]), 5) for name, level in levels.items()},
            )
            for number, study in enumerate(studies)
        },
    )


def _fitted(terms: np.ndarray, spread_terms: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Coefficients of the means (p,) and of the log standard deviations (2,), and standardised residuals (n,)."""
    log_variance = np.zeros(spread_terms.shape[1])
    log_variance[0] = np.log(logs.var())
    for _ in range(ITERATIONS):
        weight = np.exp(-0.5 * spread_terms @ log_variance)
        slopes = np.linalg.lstsq(terms * weight[:, None], logs * weight, rcond=None)[0]
        square = ((logs - terms @ slopes) * weight) ** 2
        # A step of Fisher scoring; bounded, as the first ones may be far off.
        log_variance += np.clip(np.linalg.lstsq(spread_terms, square - 1, rcond=None)[0], -1, 1)
    # What the fitted coefficients have taken from the residuals is given back.
    log_variance[0] += np.log(len(logs) / (len(logs) - terms.shape[1]))
    return slopes, log_variance / 2, (logs - terms @ slopes) / np.exp(0.5 * spread_terms @ log_variance)


def train(
    cache: Path, out: Path, *, device: str = "auto", minutes: float | None = None, steps: int | None = None
) -> None:
    """Measure the people of the train split and write ``out/facts.json``; closed form, so the rest is not used.

    Raises:
        BadInput: the cache holds too few people.
    """
    measured = people(Cache(cache), "train")
    model = fit(measured)
    out.mkdir(parents=True, exist_ok=True)
    (out / "facts.json").write_text(model.model_dump_json(indent=1), "utf-8")
    print(f"{sum(study.people for study in model.studies.values())} people measured.", flush=True)


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the model into the bundle's parameters, its conditions ``age`` and ``sex``, and a section of the card.

    Raises:
        FileNotFoundError: the run has not been finished.
    """
    model = NormativeModel.model_validate_json((run / "facts.json").read_text("utf-8"))
    metadata = shared_bundle.metadata_of(bundle_folder)
    others = [condition for condition in metadata.conditions if condition.name not in PERSON]
    pathologies = [condition for condition in others if condition.kind == "pathology"]
    metadata.conditions = [
        *pathologies,
        *_conditions(model),
        *(condition for condition in others if condition.kind != "pathology"),
    ]
    metadata.parameters["normative"] = model.model_dump()
    return shared_bundle.save(bundle_folder, metadata, {}, f"{HEADING}\n{_card(model)}")


def _conditions(model: NormativeModel) -> list[bundles.Condition]:
    ages = np.array(model.age_quantiles)
    trained_on = f"{sum(study.people for study in model.studies.values())} people"
    return [
        bundles.Condition(
            name="age",
            label="age",
            kind="anatomy",
            unit="years",
            minimum=float(np.ceil(ages[0])),
            maximum=float(np.floor(ages[-1])),
            default=float(np.round(np.median(ages))),
            marks=np.quantile(ages, (0.25, 0.5, 0.75)).tolist(),
            trained_on=trained_on,
        ),
        bundles.Condition(
            name="sex",
            label="sex (0 female, 1 male)",
            kind="anatomy",
            unit="",
            minimum=0,
            maximum=1,
            default=0,
            trained_on=trained_on,
        ),
    ]


def _middle(mean: float, spread: float) -> str:
    """Median and middle 90 % of a volume whose logarithm is normal."""
    low, median, high = np.exp(mean + spread * stats.norm.ppf((0.05, 0.5, 0.95)))
    return f"{median:.0f} ({low:.0f} to {high:.0f})"


def _card(model: NormativeModel) -> str:
    count = sum(study.people for study in model.studies.values())
    ages = np.array(model.age_quantiles)
    rows = []
    for age in np.arange(np.ceil(ages[0] / 10) * 10, ages[-1] + 1, 10):
        female, male = (zip(*model.at({"age": age, "sex": sex}), strict=True) for sex in (0, 1))
        cells = [_middle(*one) for both in zip(female, male, strict=True) for one in both]
        rows.append(f"| {age:.0f} | {' | '.join(cells)} |")
    levels = ";\n".join(f"{study}: {shared_bundle.percentages(one.level)}" for study, one in model.studies.items())
    return CARD.format(
        correlation=model.correlation,
        people=count,
        low=ages[0],
        high=ages[-1],
        female=count - round(count * model.male),
        studies=", ".join(f"{study} {one.people}" for study, one in model.studies.items()),
        table="\n".join(rows),
        levels=levels,
        old=round(count * float(1 - np.interp(70, ages, np.linspace(0, 1, len(ages))))),
    )
