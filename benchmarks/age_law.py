"""Volumes by age and sex: do held-out people lie where the normative model of the bundle says, and generated brains?

python benchmarks/age_law.py --cache CACHE --out benchmarks/results/age_law.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy import stats

from BrainGenLib import anatomy, bundles
from BrainGenLib.engine import Engine
from BrainGenLib.errors import BadInput
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.methods.brainspade3d import ANATOMY
from BrainGenLib.methods.normative import NormativeModel
from BrainGenLib.requests import Generate
from BrainGenLib.spaces import GRID_1MM
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.normative import Measured, fit, people

FOLDS = 10
GENERATED_AGES = (25, 50, 75)
MIDDLE = float(stats.norm.ppf(0.95))
"""Half the width of the middle 90 %, standard deviations."""


def standard(model: NormativeModel, person: Measured, *, level: bool) -> np.ndarray:
    """Standardised log volumes of a person, with the level of the own study or that of all people."""
    means, spreads = model.at({"age": person.age, "sex": person.sex})
    own = [model.studies[person.study].level[name] if level else 0.0 for name in model.curves]
    return (np.log(person.volumes) - means - own) / spreads


def left_out(persons: list[Measured]) -> np.ndarray:
    """Standardised log volumes of people (N, 2) by models that are fitted without them."""
    fold = np.random.default_rng(0).permutation(len(persons)) % FOLDS
    found = np.empty((len(persons), len(ANATOMY)))
    for number in range(FOLDS):
        model = fit([person for person, own in zip(persons, fold, strict=True) if own != number])
        for index in np.flatnonzero(fold == number):
            found[index] = standard(model, persons[index], level=True)
    return found


def inside(values: np.ndarray) -> list[float]:
    """Share of people in the middle 90 %, per volume."""
    return [float(share) for share in (np.abs(values) < MIDDLE).mean(0)]


def coverage(what: str, values: np.ndarray) -> Headline:
    """Shares of people in the middle 90 %; the target is what sampling alone makes of a true 90 %, at 95 %."""
    shares = inside(values)
    low, high = (float(count) / len(values) for count in stats.binom.interval(0.95, len(values), 0.9))
    return Headline(
        what=what,
        figure=" / ".join(f"{share:.0%}" for share in shares),
        target=f"{low:.0%} to {high:.0%}",
        met=all(low <= share <= high for share in shares),
    )


def by_decade(persons: list[Measured], values: np.ndarray) -> list[list[str | float | int | None]]:
    """People, coverage and mean error per decade of age, then of all."""
    decades = np.array([int(person.age // 10) * 10 for person in persons])
    rows: list[list[str | float | int | None]] = []
    for decade in np.unique(decades):
        own = values[decades == decade]
        rows.append([f"{decade} to {decade + 9}", len(own), *inside(own), *map(float, own.mean(0))])
    return [*rows, ["all", len(values), *inside(values), *map(float, values.mean(0))]]


def generated(law: NormativeModel, count: int, device: str) -> list[list[str | float | int | None]]:
    """Volumes drawn and obtained, and their percentiles, of cases of 1 mm of given ages and sexes: medians."""
    engine = Engine()
    rows: list[list[str | float | int | None]] = []
    for age in track(GENERATED_AGES, "generated"):
        for sex in (0.0, 1.0):
            person: dict[str, float] = {"age": float(age), "sex": sex}
            drawn, got = [], []
            for seed in range(count):
                case = engine.run(Generate(seed=seed, anatomy=person, device=device))
                assert case.labels is not None
                drawn.append(case.measurements["anatomy"])
                got.append(volume_conditions(anatomy.to_classes(case.labels), GRID_1MM.spacing))
            ranks = [law.percentiles(volumes, person) for volumes in got]
            row: list[str | float | int | None] = [f"{age}, {'male' if sex else 'female'}"]
            for name in ANATOMY:
                row += [float(np.median([one[name] for one in each])) for each in (drawn, got, ranks)]
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--count", type=int, default=4, help="cases per age and sex")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    bundle = bundles.find("brainspade3d")
    if (law := NormativeModel.of(bundle.metadata)) is None:
        raise BadInput(f"Bundle {bundle.name} has no volumes by age and sex; export them from a run of normative.")
    cache = Cache(arguments.cache)
    trained, held_out = ([p for p in people(cache, split) if p.study in law.studies] for split in ("train", "test"))
    own = np.array([standard(law, person, level=True) for person in held_out])
    mean = np.array([standard(law, person, level=False) for person in held_out])
    crossed = left_out(trained)
    columns = [
        "age",
        "people",
        *(f"{name}, inside" for name in ANATOMY),
        *(f"{name}, mean error" for name in ANATOMY),
    ]
    result = Result(
        name="age_law",
        title="Volumes by age and sex",
        tables=[
            Table(title="Held-out people: share in the middle 90 %", columns=columns, rows=by_decade(held_out, own)),
            Table(
                title=f"Training people, each by a model fitted without them ({FOLDS} folds)",
                columns=columns,
                rows=by_decade(trained, crossed),
            ),
            Table(
                title="Held-out people, study unknown: share in the middle 90 % at the mean level of all studies",
                columns=["people", *ANATOMY],
                rows=[[len(held_out), *inside(mean)]],
            ),
            Table(
                title="Generated cases: medians",
                columns=["age, sex"]
                + [f"{name}, {what}" for name in ANATOMY for what in ("drawn mL", "obtained mL", "percentile")],
                rows=generated(law, arguments.count, arguments.device),
            ),
        ],
        headlines=[
            coverage("Volumes by age and sex: held-out people in the middle 90 %, ventricles / brain", own),
            coverage("… training people, by models fitted without them", crossed),
        ],
        notes=[
            "Errors are in standard deviations of the model. The level of a person's own study is taken as known, "
            "but for the third table: studies differ more in what their labels count as brain than people do.",
            "Targets are the shares that so many people show nineteen times in twenty where 90 % is true.",
            f"Cases are of {arguments.count} seeds, the same for every age and sex, measured at 1 mm. Ventricles are "
            "brought to their volume by moving tissue; the brain is up to label diffusion and donors.",
        ],
        settings={"bundle": bundle.name, "bundle_sha256": bundle.sha256, "count": arguments.count},
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
