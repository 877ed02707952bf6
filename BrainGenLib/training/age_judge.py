"""Recipe: the judge of age, which says whether a brain was made to look older (in the bundle ``brain-ldm``).

It knows images, and not what the diffusion makes of them: a verdict from outside of the model that was asked. A step
is one more variation of every scan; after each the regression is solved anew, its ridge chosen and its errors
measured on people who were left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from BrainGenLib.errors import BadInput
from BrainGenLib.networks.age_judge import POOL, AgeJudge, seen
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training.image_material import ImageMaterial, Picture, augmented, tensor_of
from BrainGenLib.training.run import Run, arguments_of, begun_with, pick_device

STEPS = 4
CONTRAST = "T1w"
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Tried, in units of the mean squared length of a row."""
FOLDS = 5
PEOPLE = 10
"""Fewer are too few to leave some of them out."""


@dataclass
class Rows:
    """What a judge sees of images (n, d), ages (n,) and numbers of the people (n,)."""

    x: np.ndarray
    age: np.ndarray
    person: np.ndarray


def train(
    cache: Path, out: Path, *, device: str = "auto", minutes: float | None = None, steps: int | None = None
) -> None:
    """Train, or go on; ``steps`` is the number of variations of every scan.

    Raises:
        BadInput: too few people have a T1w scan and a known age.
    """
    where = pick_device(device)
    scans = _scans(cache, "train")
    if len({scan.case for scan in scans}) < PEOPLE:
        raise BadInput(
            f"{cache} holds {CONTRAST} scans of {len({scan.case for scan in scans})} people with a known age; the "
            f"judge of age needs {PEOPLE}: add ages to participants.tsv, or scans, and prepare it again."
        )
    unseen = rows_of(_scans(cache, "test"))
    args = {"grid": [n // POOL for n in GRID_2MM.shape], "contrast": CONTRAST}
    judge = AgeJudge(**begun_with(out, args))
    run = Run(out, {"network": judge}, {}, minutes=minutes)
    for step in run.steps(STEPS if steps is None else steps):
        _write(out / f"rows-{step:03d}.npz", varied(scans, step, where))
        errors = fit(judge, read_rows(out, step + 1))
        if len(unseen.age):
            found = unseen.x @ judge.weights.flatten().numpy() + float(judge.offset)
            errors["held_out_error"] = float(np.abs(found - unseen.age).mean())
        run.record(**errors)
        middle = judge.weights[:, :, judge.weights.shape[2] // 2].numpy()
        run.picture("weights", np.rot90(0.5 + middle / (np.abs(middle).max() * 2 + 1e-12)))


def trained(run: Path) -> AgeJudge:
    """That of a run.

    Raises:
        FileNotFoundError: the run has no checkpoint.
    """
    judge = AgeJudge(**arguments_of(run))
    state = torch.load(run / "state.pt", map_location="cpu", weights_only=True)
    judge.load_state_dict(state["modules"]["network"])
    return judge


def _scans(cache: Path, split: str) -> list[Picture]:
    return [
        scan for scan in ImageMaterial(cache, split).scans if scan.contrast == CONTRAST and "age" in scan.conditions
    ]


def varied(scans: list[Picture], step: int, where: torch.device) -> Rows:
    """Rows of the scans, each in a variation of its own; the first step takes them as they are."""
    if step == 0:
        return rows_of(scans)
    rng, generator = np.random.default_rng(step), torch.Generator().manual_seed(step)
    return rows_of([augmented(scan, rng, generator, where) for scan in scans])


def rows_of(scans: list[Picture]) -> Rows:
    x = [seen(tensor_of([scan])).flatten().numpy() for scan in scans]
    people = sorted({scan.case for scan in scans})
    return Rows(
        np.stack(x) if x else np.zeros((0, 0)),
        np.array([scan.conditions["age"] for scan in scans]),
        np.array([people.index(scan.case) for scan in scans]),
    )


def _write(path: Path, rows: Rows) -> None:
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, **vars(rows))
    temporary.rename(path)


def read_rows(out: Path, steps: int) -> Rows:
    """Those of the first steps of a run."""
    pieces = [np.load(out / f"rows-{step:03d}.npz") for step in range(steps)]
    return Rows(*(np.concatenate([piece[name] for piece in pieces]) for name in ("x", "age", "person")))


def fit(judge: AgeJudge, rows: Rows) -> dict[str, float]:
    """Solve the regression with the ridge that does best on people who were left out, and say how well it does."""
    centre = rows.x.mean(0)
    x = rows.x - centre
    products = x @ x.T
    unit = float(np.trace(products)) / len(x)
    fold = np.random.default_rng(0).permutation(rows.person.max() + 1)[rows.person] % FOLDS
    left_out = {ridge: _left_out(products, rows.age, fold, ridge * unit) for ridge in RIDGES}
    errors = {ridge: float(np.abs(found - rows.age).mean()) for ridge, found in left_out.items()}
    best = min(errors, key=errors.__getitem__)
    mean = rows.age.mean()
    weights = x.T @ np.linalg.solve(products + best * unit * np.eye(len(x)), rows.age - mean)
    judge.weights.copy_(torch.from_numpy(weights).view_as(judge.weights))
    judge.offset.fill_(float(mean - centre @ weights))
    # Between people of one age there is nothing to distinguish.
    slope = float(np.polyfit(rows.age, left_out[best], 1)[0]) if len(set(rows.age)) > 1 else 1.0
    judge.slope.fill_(max(slope, 0.1))
    return {"error": errors[best], "slope": slope, "ridge": best}


def _left_out(products: np.ndarray, ages: np.ndarray, fold: np.ndarray, ridge: float) -> np.ndarray:
    """Ages of each fold as the others tell them."""
    found = np.zeros(len(ages))
    for number in set(fold.tolist()):
        some = fold != number
        mean = ages[some].mean()
        dual = np.linalg.solve(products[np.ix_(some, some)] + ridge * np.eye(some.sum()), ages[some] - mean)
        found[~some] = products[np.ix_(~some, some)] @ dual + mean
    return found
