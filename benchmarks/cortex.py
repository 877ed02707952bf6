"""Do sampled anatomies fold as people do, and are their T1w-like maps as sharp and noisy as scans?

python benchmarks/cortex.py --cache CACHE --samples SAMPLES --out benchmarks/results/cortex.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.progress import track
from sampled_anatomies import person, scanned

from BrainGenLib.evaluation import cortex, grain
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.training.cache import Cache

TIDIER = ("Euler number", "parts of white matter")
"""Measures of the faults of labels, of which samples should not have more than people."""
Rows = list[dict[str, float]]


def compared(title: str, measures: dict[str, str], donors: Rows, others: Rows, samples: Rows) -> tuple[Table, int]:
    """A table of mean ± standard deviation, and how many means are within one standard deviation of people's."""
    rows: list[list[str | float | int | None]] = []
    within = 0
    for name in measures:
        people = np.array([row[name] for row in donors + others])
        distance = (np.mean([row[name] for row in samples]) - people.mean()) / people.std(ddof=1)
        well = abs(distance) <= 1 or (
            name in TIDIER and abs(np.mean([row[name] for row in samples])) < abs(people).mean()
        )
        within += well
        cells = [f"{np.mean(v):.3g} ± {np.std(v, ddof=1):.2g}" for v in
                 ([row[name] for row in group] for group in (donors, others, samples) if group)]  # fmt: skip
        rows.append([name, *cells, round(float(distance), 1), "yes" if well else "**no**"])
    shown = [f"donors ({len(donors)})", *([f"other people ({len(others)})"] if others else [])]
    columns = ["measure", *shown, f"sampled ({len(samples)})", "sd from people", "within one, or tidier"]
    return Table(title=title, columns=columns, rows=rows), within


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache that SAMPLES were made of")
    parser.add_argument("--samples", type=Path, required=True, help="folder that sampled_anatomies.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    arguments = parser.parse_args()
    cache = Cache(arguments.cache)
    about = json.loads((arguments.samples / "about.json").read_text("utf-8"))

    def both(classes: np.ndarray, tissue: np.ndarray) -> dict[str, float]:
        return cortex.cortex_measures(classes) | grain.grain_measures(tissue, classes)

    people = {case.id: both(*person(cache, case)) for case in track(scanned(cache), "people")}
    donors = [row for name, row in people.items() if name in about["donors"]]
    others = [row for name, row in people.items() if name not in about["donors"]]
    samples = []
    for path in track(sorted(arguments.samples.glob("*.npz")), "samples"):
        with np.load(path) as found:
            samples.append(both(found["classes"], found["tissue"].astype(np.float32)))
    result = Result(
        name="cortex",
        title="Cortex and image of sampled anatomies",
        notes=[
            f"Sampled by patch diffusion of {len(donors)} donors in {about['cpu_seconds']:.0f} CPU-seconds, tidied; "
            "all in template space at 1 mm. People's labels as they were given, not refined.",
            *(f"{name}: {meaning}." for name, meaning in (cortex.MEASURES | grain.MEASURES).items()),
        ],
    )
    pages: list[tuple[str, str, dict[str, str]]] = [
        ("Labels", "cortex", cortex.MEASURES),
        ("T1w-like map", "image", grain.MEASURES),
    ]
    for title, what, measures in pages:
        table, within = compared(title, measures, donors, others, samples)
        result.tables.append(table)
        result.headlines.append(
            Headline(
                what=f"Sampled anatomies: measures of the {what} within one sd of people, or tidier",
                figure=f"{within} of {len(measures)}",
                target="all",
                met=within == len(measures),
            )
        )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
