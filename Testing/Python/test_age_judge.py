"""The judge of age: what it learns, what it says, and what becomes of its verdict."""

import numpy as np
import pytest
import torch
from phantoms import phantom_image

from BrainGenLib.errors import BadInput
from BrainGenLib.methods.brain_ldm import BrainLDM
from BrainGenLib.networks.age_judge import AgeJudge
from BrainGenLib.training import age_judge
from BrainGenLib.training.cache import CachedCase, CacheWriter
from BrainGenLib.training.image_material import ImageMaterial
from BrainGenLib.verbs.by_diffusion import Change, _verdicts

PEOPLE = 14


def brain(phantom_classes, age, rng):
    """A brain whose fluid darkens with the years, and whose scanner has a brightness of its own."""
    image = phantom_image(phantom_classes, 0.9, 0.6, 0.5 - 0.004 * age) + rng.normal(0, 0.02, phantom_classes.shape)
    return np.where(phantom_classes > 0, np.clip(image * rng.uniform(0.7, 1), 0.02, 1), 0).astype(np.float32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, phantom_classes):
    writer = CacheWriter(tmp_path_factory.mktemp("cache"))
    rng = np.random.default_rng(0)
    for number in range(PEOPLE + 2):
        age = float(rng.uniform(20, 90))
        image = (brain(phantom_classes, age, rng) * 255).astype(np.uint8)
        split = "train" if number < PEOPLE else "test"
        case = CachedCase(str(number), "set", split, "template", 2, images={"T1w": (2, 2, 2)}, age=age)
        writer.add(case, phantom_classes, {"T1w": image})
    writer.close()
    return writer.folder


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "age-judge"
    age_judge.train(cache, folder, device="cpu", steps=2)
    return folder


def test_it_tells_ages_whatever_the_brightness(run, phantom_classes):
    judge = age_judge.trained(run)
    rng = np.random.default_rng(5)
    young, old = (torch.from_numpy(brain(phantom_classes, age, rng))[None, None] for age in (30.0, 80.0))
    assert float(judge(young)) == pytest.approx(30, abs=8)
    assert float(judge(old)) == pytest.approx(80, abs=8)
    assert float(judge(old / 2)) == pytest.approx(float(judge(old)), abs=0.1)
    assert judge.moved(young, old) == pytest.approx(50, rel=0.2)


def test_a_run_goes_on_and_says_how_wrong_it_is(run, cache):
    age_judge.train(cache, run, device="cpu", steps=3)
    assert len(list(run.glob("rows-*.npz"))) == 3
    assert len(list((run / "samples").glob("weights-*.png"))) == 3
    curves = (run / "curves.csv").read_text(encoding="utf-8")
    for name in ("error", "slope", "held_out_error"):
        assert f",{name}," in curves


def test_too_few_people_are_a_sentence(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(age_judge, "PEOPLE", 99)
    with pytest.raises(BadInput, match="of 14 people with a known age; the judge of age needs 99"):
        age_judge.train(cache, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_cache_without_held_out_people_is_a_sentence(tmp_path, phantom_classes):
    writer = CacheWriter(tmp_path / "cache")
    image = (phantom_image(phantom_classes) * 255).astype(np.uint8)
    writer.add(
        CachedCase("a", "set", "train", "template", 2, images={"T1w": (2, 2, 2)}, age=40.0),
        phantom_classes,
        {"T1w": image},
    )
    writer.close()
    with pytest.raises(BadInput, match="holds no test scan in template space; give some people"):
        ImageMaterial(writer.folder, "test")


class Quiet(BrainLDM):
    """A model that has nothing but a judge."""

    def __init__(self, judge):
        self.judge = judge


def test_the_verdict_is_the_share_of_the_years_that_show(monkeypatch):
    judge = AgeJudge((20, 28, 20), "T1w")
    judge.weights[:] = 100 / judge.weights.numel()
    judge.weights[:, :14] *= -1
    judge.slope.fill_(0.5)
    before = torch.full((1, 1, 80, 112, 80), 0.5)
    after = before.clone()
    after[:, :, :, 56:] = 0.55
    monkeypatch.setattr("BrainGenLib.methods.latent_drifting.reached", lambda *_: None)

    def verdict(own, wanted, contrast="T1w"):
        change = Change(own, wanted, 1.0, 1.0, None, False, 2, 1)
        return _verdicts(Quiet(judge), before, after, contrast, change)

    reached, told = verdict({"age": 50.0}, {"age": 70.0})
    years = float(judge(after) - judge(before))
    assert years > 1
    assert reached == {"age": pytest.approx(years / 0.5 / 20, abs=1e-3)}
    assert told["looks_years_old"]["after"] - told["looks_years_old"]["before"] == pytest.approx(years, abs=0.11)
    assert verdict({"age": 50.0}, {"age": 30.0})[0]["age"] < 0
    # Not of another contrast, unknown years, too few of them, or none.
    for asked in (
        ({"age": 50.0}, {"age": 70.0}, "FLAIR"),
        ({}, {"age": 70.0}),
        ({"age": 50.0}, {"age": 52.0}),
        ({"sex": 0.0}, {"sex": 1.0}),
    ):
        assert verdict(*asked) == ({}, {})
