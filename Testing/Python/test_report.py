"""Figures reach README and docs from the result files alone."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from BrainGenLib.evaluation.results import Headline, Result, Table

REPORT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "report.py"))


def test_only_what_stands_between_the_markers_is_replaced():
    text = f"top\n{REPORT['START']}\nold 1\nold 2\n{REPORT['END']}\nbottom\n"
    new = REPORT["between_markers"](text, "| new |")
    assert new == f"top\n{REPORT['START']}\n| new |\n{REPORT['END']}\nbottom\n"
    assert REPORT["between_markers"](new, "| new |") == new


@pytest.mark.parametrize("text", ["no markers", "{END} {START}", "{START} {START} {END}"])
def test_a_readme_without_the_markers_is_refused(text):
    with pytest.raises(ValueError, match="once each"):
        REPORT["between_markers"](text.format(START=REPORT["START"], END=REPORT["END"]), "x")


def test_missed_targets_are_said_plainly_and_results_come_in_reading_order(tmp_path):
    for name, met in (("zebra", None), ("realism", False), ("speed", True)):
        table = Table(title=f"{name} table", columns=["a"], rows=[[1.0]])
        headline = Headline(what=name, figure="5", target="4", met=met)
        Result(name=name, title=name, tables=[table], headlines=[headline]).save(tmp_path / f"{name}.json")
    found = REPORT["load"](tmp_path)
    assert [result.name for result in found] == ["speed", "realism", "zebra"]
    assert "| realism | 5 | 4 | **no** |" in REPORT["headlines"](found)
    assert "### realism table\n\n| a |\n| ---: |\n| 1 |" in REPORT["page"](found[1])
