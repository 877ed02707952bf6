"""Do sampled anatomies fold as people do, and are their T1w-like maps as sharp and noisy as scans?

python benchmarks/cortex.py --cache CACHE --held-out HELD_OUT --samples SAMPLES SHIPPED \\
    --out benchmarks/results/cortex.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.progress import track
from sampled_anatomies import held_out, person, scanned

from BrainGenLib.evaluation import cortex, grain
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.training.cache import Cache

TIDIER = ("Euler number", "parts of white matter")
"""Measures of the faults of labels, of which samples should not have more than people."""
Rows = list[dict[str, float]]


def distance(name: str, rows: Rows, people: Rows) -> float:
    """Of the mean of rows from that of people, in standard deviations of people."""
    reference = np.array([row[name] for row in people])
    return float((np.mean([row[name] for row in rows]) - reference.mean()) / reference.std(ddof=1))


def well(name: str, rows: Rows, people: Rows) -> bool:
    """Whether the mean is within one standard deviation of people's, or labels are tidier than theirs."""
    tidier = name in TIDIER and abs(np.mean([row[name] for row in rows])) < np.mean(
        [abs(row[name]) for row in people]
    )
    return tidier or abs(distance(name, rows, people)) <= 1


def compared(title: str, measures: dict[str, str], people: Rows, others: dict[str, Rows]) -> Table:
    """Mean ± standard deviation of people nobody is made of and of others, and how far the others' means lie off."""
    columns = ["measure", f"held-out people ({len(people)})"]
    for group, rows in others.items():
        columns += [f"{group} ({len(rows)})", "sd off"]
    cells: list[list[str | float | int | None]] = []
    for name in measures:
        line: list[str | float | int | None] = [name, _spread(name, people)]
        for rows in others.values():
            off = f"{distance(name, rows, people):+.1f}"
            line += [_spread(name, rows), off if well(name, rows, people) else f"**{off}**"]
        cells.append(line)
    return Table(title=title, columns=columns, rows=cells)


def _spread(name: str, rows: Rows) -> str:
    values = [row[name] for row in rows]
    return f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.2g}"


def both(classes: np.ndarray, tissue: np.ndarray) -> dict[str, float]:
    """Measures of labels and image."""
    return cortex.cortex_measures(classes) | grain.grain_measures(tissue, classes)


def sampled(folder: Path) -> Rows:
    """Measures of the samples of a folder."""
    rows = []
    for path in track(sorted(folder.glob("*.npz")), folder.name):
        with np.load(path) as found:
            rows.append(both(found["classes"], found["tissue"].astype(np.float32)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache with the donors")
    parser.add_argument("--held-out", type=Path, required=True, help="cache with people of the test split")
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="folders of sampled_anatomies.py")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    arguments = parser.parse_args()
    people = [both(*one) for one in held_out(arguments.held_out)]
    abouts = [json.loads((folder / "about.json").read_text("utf-8")) for folder in arguments.samples]
    cache = Cache(arguments.cache)
    names = {name for about in abouts for name in about["donors"]}
    known = [case for case in scanned(cache, "train") if case.id in names]
    donors = (person(cache, case) for case in track(known, "donors"))
    groups = {"donors": [both(*one) for one in donors if one is not None]}
    for folder, about in zip(arguments.samples, abouts, strict=True):
        groups[about["how"]] = sampled(folder)
    result = Result(
        name="cortex",
        title="Cortex and image of sampled anatomies",
        notes=[
            "All in template space at 1 mm. People's labels are those of a MeshNet, as it gave them; nothing was "
            "fitted to held-out people.",
            "“sd off”: how far the mean lies from that of held-out people, in their standard deviations; bold where "
            "that is more than one, and labels not merely tidier.",
            *(
                f"{about['how']}: {len(about['donors'])} donors, {about['cpu_seconds']:.0f} CPU-seconds each."
                for about in abouts
            ),
            *(f"{name}: {meaning}." for name, meaning in (cortex.MEASURES | grain.MEASURES).items()),
        ],
    )
    pages: list[tuple[str, str, dict[str, str]]] = [
        ("Labels", "cortex", cortex.MEASURES),
        ("T1w-like map", "image", grain.MEASURES),
    ]
    for title, what, measures in pages:
        result.tables.append(compared(title, measures, people, groups))
        for about in abouts:
            within = sum(well(name, groups[about["how"]], people) for name in measures)
            result.headlines.append(
                Headline(
                    what=f"Anatomies, {about['how']}: measures of the {what} within one sd of held-out people, or "
                    "tidier",
                    figure=f"{within} of {len(measures)}",
                    target="all",
                    met=within == len(measures),
                )
            )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
