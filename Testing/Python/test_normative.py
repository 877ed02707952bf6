"""Age and sex of generated brains: the law of volumes that is measured, draws from it, and the weights of donors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from phantoms import NORMATIVE
from scipy import stats

from BrainGenLib import anatomy, bundles, requests
from BrainGenLib.case import Case
from BrainGenLib.engine import Engine
from BrainGenLib.errors import BadInput
from BrainGenLib.lesions import PATHOLOGIES, STRUCTURES
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.methods.brainspade3d import LabelModel, draw_anatomy, draw_person
from BrainGenLib.methods.normative import NormativeModel
from BrainGenLib.requests import Counterfactual, Generate, Sweep
from BrainGenLib.training import normative
from BrainGenLib.training.cache import Cache, CachedCase, CacheWriter
from BrainGenLib.training.normative import Measured

TRUTH = NormativeModel.model_validate(NORMATIVE)


@pytest.fixture
def model(tiny_bundles) -> LabelModel:
    return LabelModel.from_bundle(bundles.find("brainspade3d"), "cpu")


def drawn(model: LabelModel, seeds: int = 400, **asked: float) -> np.ndarray:
    """Log volumes of ventricles and brain over seeds (seeds, 2)."""
    volumes = []
    for seed in range(seeds):
        person = draw_person(model, asked, seed)
        volumes.append(list(draw_anatomy(model, asked, torch.Generator().manual_seed(seed), person).values()))
    return np.log(volumes)


def people(rng: np.random.Generator, study: str, count: int, ages: tuple, shift: float) -> list[Measured]:
    """People of TRUTH, with a study's own level."""
    found = []
    for _ in range(count):
        person = {"age": rng.uniform(*ages), "sex": float(rng.integers(2))}
        means, spreads = TRUTH.at(person)
        first, other = rng.standard_normal(2)
        second = TRUTH.correlation * first + (1 - TRUTH.correlation**2) ** 0.5 * other
        logs = np.array(means) + np.array(spreads) * (first, second) + shift
        found.append(Measured(study, person["age"], person["sex"], tuple(np.exp(logs))))
    return found


def test_volumes_follow_age_and_sex(model):
    model.anatomy_range = {"ventricles": (1, 1e4), "brain": (1, 1e5)}
    for person in ({"age": 25.0, "sex": 0.0}, {"age": 80.0, "sex": 1.0}):
        logs = drawn(model, **person)
        means, spreads = TRUTH.at(person)
        np.testing.assert_allclose(logs.mean(0), means, atol=0.02)
        np.testing.assert_allclose(logs.std(0), spreads, rtol=0.1)
        # Of a pair of independent draws, as it is where neither volume is asked for.
        covered = stats.norm.interval(0.9, means, spreads)
        assert ((logs > covered[0]) & (logs < covered[1])).mean() == pytest.approx(0.9, abs=0.03)


def test_without_age_and_sex_nothing_changes(model):
    assert draw_person(model, {"brain": 1100.0}, 3) == {}
    before = draw_anatomy(model, {"brain": 1100.0}, torch.Generator().manual_seed(3))
    model.normative = None
    assert draw_anatomy(model, {"brain": 1100.0}, torch.Generator().manual_seed(3)) == before


def test_asked_volumes_win_and_bear_on_the_other(model):
    model.anatomy_range["ventricles"] = (1, 1e4)
    person = {"age": 60.0, "sex": 0.0}
    small, large = (draw_anatomy(model, {"brain": brain}, torch.Generator(), person) for brain in (950.0, 1250.0))
    assert (small["brain"], large["brain"]) == (950, 1250)
    assert small["ventricles"] > large["ventricles"]


def test_what_is_not_asked_for_beside_age_or_sex_is_drawn_and_the_same_seed_draws_the_same(model):
    assert draw_person(model, {"age": 70.0, "sex": 1.0}, 5) == {"age": 70, "sex": 1}
    found = [draw_person(model, {"sex": 1.0}, seed) for seed in range(40)]
    assert found[7] == draw_person(model, {"sex": 1.0}, 7)
    assert {person["sex"] for person in found} == {1}
    ages = [person["age"] for person in found]
    assert 20 <= min(ages) < 35
    assert 65 < max(ages) <= 90
    assert {draw_person(model, {"age": 70.0}, seed)["sex"] for seed in range(20)} == {0, 1}


def test_a_person_ages_at_the_same_percentile(model):
    """Frames of a sweep over age have one seed."""
    model.anatomy_range["ventricles"] = (1, 1e4)
    for seed in range(3):
        standard = []
        for age in (30.0, 80.0):
            person = {"age": age, "sex": 0.0}
            volumes = draw_anatomy(model, person, torch.Generator().manual_seed(seed), person)
            (mean, _), (spread, _) = TRUTH.at(person)
            standard.append((np.log(volumes["ventricles"]) - mean) / spread)
        assert standard[0] == pytest.approx(standard[1])


def test_a_case_says_age_sex_and_percentiles_of_what_it_shows(tiny_bundles, tmp_path):
    engine = Engine()
    case = engine.run(Generate(draft=True, steps=2, seed=4, anatomy={"age": 75.0, "sex": 1.0}))
    person = case.measurements["person"]
    assert (person["age"], person["sex"]) == (75, 1)
    volumes = volume_conditions(anatomy.to_classes(case.labels), 2)
    (mean, _), (spread, _) = TRUTH.at(person)
    expected = 100 * stats.norm.cdf((np.log(volumes["ventricles"]) - mean) / spread)
    assert person["percentiles"]["ventricles"] == pytest.approx(expected, abs=0.01)
    case.save(tmp_path / "case")
    assert Case.load(tmp_path / "case").measurements["person"] == person
    assert "person" not in engine.run(Generate(draft=True, steps=2)).measurements


def test_age_out_of_range_is_one_sentence_and_a_label_map_does_not_age(tiny_bundles):
    metadata = bundles.find("brainspade3d").metadata
    with pytest.raises(BadInput, match=r"^age=97 is outside the range .* 20 to 90 \(years\)\.$"):
        requests.check(Generate(anatomy={"age": 97}), metadata)
    with pytest.raises(BadInput, match=r"does not know the change 'age'; it knows: .*ventricles"):
        requests.check(Counterfactual(bundle="brainspade3d", scan="scan.nii", wanted={"age": 80}), metadata)
    frames = requests.frames(Sweep(of=Generate(), over="age", values=[30, 60]), metadata)
    assert [frame.anatomy for frame in frames] == [{"age": 30}, {"age": 60}]


def test_a_damaged_law_is_one_sentence(tiny_bundles):
    metadata = bundles.find("brainspade3d").metadata
    for damage in ({"correlation": 2}, {"curves": 1}, {"age_quantiles": [float("nan"), 3]}):
        broken = metadata.model_copy(update={"parameters": {"normative": {**NORMATIVE, **damage}}})
        with pytest.raises(BadInput, match="by age and sex of bundle brainspade3d cannot be used"):
            NormativeModel.of(broken)


def test_the_fit_finds_the_law_and_studies_do_not_pass_for_age():
    rng = np.random.default_rng(0)
    # Older people were scanned elsewhere, where everything measures smaller.
    measured = [
        *people(rng, "young", 400, (20, 60), 0.3),
        *people(rng, "old", 400, (50, 90), -0.3),
        *people(rng, "few", 5, (20, 90), 3),
    ]
    found = normative.fit(measured)
    assert set(found.studies) == {"young", "old"}
    for name, curve in found.curves.items():
        np.testing.assert_allclose(curve.mean[1:], TRUTH.curves[name].mean[1:], atol=0.07)
        np.testing.assert_allclose(curve.mean[0], TRUTH.curves[name].mean[0], atol=0.05)
        np.testing.assert_allclose(curve.log_spread, TRUTH.curves[name].log_spread, atol=0.12)
        levels = [found.studies[study].level[name] for study in ("young", "old")]
        np.testing.assert_allclose(levels, (0.3, -0.3), atol=0.05)
    assert found.correlation == pytest.approx(TRUTH.correlation, abs=0.1)
    assert found.male == pytest.approx(0.5, abs=0.05)
    with pytest.raises(BadInput, match="there are 12"):
        normative.fit(people(rng, "one", 12, (20, 80), 0))


def test_people_with_tumours_children_and_unknown_ages_are_left_out(tmp_path, phantom_classes):
    writer = CacheWriter(tmp_path)
    ill = phantom_classes.copy()
    ill[30:34, 40:46, 40:44] = STRUCTURES + PATHOLOGIES.index("tumour")
    plain = {"quality": {"structures": 1.0}, "age": 40.0, "sex": "F"}
    others = {
        "test": {"split": "test"},
        "ill": {"pathologies": ["tumour"]},
        "child": {"age": 9.0},
        "ageless": {"age": None},
        "sexless": {"sex": None},
        "cut": {"quality": {"structures": 0.85}},
    }
    writer.add(CachedCase("plain", "one", "train", "template", 2, **plain, pathologies=["wmh"]), phantom_classes, {})
    for name, fields in others.items():
        case = CachedCase(name, "one", **{"split": "train", "space": "template", "spacing": 2, **plain, **fields})
        writer.add(case, ill if name == "ill" else phantom_classes, {})
    writer.close()
    expected = tuple(volume_conditions(phantom_classes, 2).values())
    assert normative.people(Cache(tmp_path), "train") == [Measured("one", 40.0, 0.0, expected)]
    with pytest.raises(BadInput, match="at least 40 labelled adults"):
        normative.train(tmp_path, tmp_path / "run")


def test_the_export_writes_law_conditions_and_card_and_keeps_the_rest(tiny_folder, tmp_path):
    folder, run = tmp_path / "brainspade3d", tmp_path / "run"
    shutil.copytree(tiny_folder / "brainspade3d", folder)
    before = bundles.Bundle(folder).metadata
    run.mkdir()
    (run / "facts.json").write_text(json.dumps({**NORMATIVE, "age_quantiles": [18.6, 40.2, 91.7]}))
    for _ in range(2):
        after = normative.export(run, folder)
    after.verify()
    names = [condition.name for condition in after.metadata.conditions]
    assert names == [*PATHOLOGIES, "age", "sex", "ventricles", "brain"]
    age = next(condition for condition in after.metadata.conditions if condition.name == "age")
    assert (age.minimum, age.default, age.maximum, age.unit) == (19, 40, 91, "years")
    assert NormativeModel.of(after.metadata).curves == TRUTH.curves
    assert after.metadata.networks == before.networks
    assert (folder / "docs" / "README.md").read_text("utf-8").count("## Age and sex") == 1


def test_the_shipped_bundle_knows_age_and_sex():
    folder = Path(__file__).resolve().parents[2] / "Resources" / "Bundles" / "brainspade3d"
    shipped = bundles.Bundle(folder).metadata
    found = NormativeModel.of(shipped)
    age = next(condition for condition in shipped.conditions if condition.name == "age")
    assert (age.minimum, age.maximum) == (19, 92)
    young, old = (np.exp(found.at({"age": years, "sex": 0})[0]) for years in (25, 85))
    assert 12 < young[0] < 22 < 50 < old[0] < 90
    assert young[1] > old[1]
