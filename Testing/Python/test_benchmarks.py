"""What benchmark scripts say of the figures they measured."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from BrainGenLib import anatomy
from BrainGenLib.training.cache import CachedCase, CacheWriter

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: runpy.run_path(str(BENCHMARKS / f"{name}.py"))


def test_a_mean_more_than_one_sd_from_people_is_bold_unless_labels_are_merely_tidier(script):
    people = [{"gyrification": value, "Euler number": -value} for value in (9.0, 10.0, 11.0)]
    others = {"samples": [{"gyrification": 12.0, "Euler number": -1.0}] * 2}
    measures = {"gyrification": "", "Euler number": ""}
    table = script("cortex")["compared"]("Labels", measures, people, others)
    assert table.columns == ["measure", "held-out people (3)", "samples (2)", "sd off"]
    assert [row[-1] for row in table.rows] == ["**+2.0**", "+9.0"]


def test_people_who_were_trained_on_are_not_held_out(script, tmp_path, capsys):
    writer = CacheWriter(tmp_path)
    volume = np.ones((2, 2, 2), np.uint8)
    for name, split in (("a", "train"), ("b", "train"), ("c", "test")):
        images = {"T1w": (1.0, 1.0, 1.0)}
        writer.add(CachedCase(name, "study", split, "template", 1, images=images), volume, {"T1w": volume})
    writer.close()
    with pytest.raises(SystemExit, match="holds 0 people of the test split"):
        script("sampled_anatomies")["held_out"](tmp_path)
    assert capsys.readouterr().out.count("Left out c: ") == 1


def test_the_ruler_compares_tissues_of_both_sides(script):
    left, right = anatomy.classes_of(name="cerebral cortex")
    labels, found = np.zeros((2, 4, 4, 4), np.uint8)
    labels[:2], found[1:3] = left, right
    seen = script("ruler")["Seen"]("a case", labels.astype(np.float32), labels, found)
    assert seen.dice("cortex") == pytest.approx(0.5)
    assert seen.excess("cortex") == 0


def test_the_ruler_finds_a_scan_again_that_was_turned_and_shifted(script):
    box = np.zeros((20, 20, 20), np.uint8)
    box[5:15, 5:15, 5:15] = 1
    moved = script("ruler")["moved"](box, 0)
    assert abs(int(moved.sum()) - 1000) < 60
    assert 600 < (moved & box).sum() < 1000
