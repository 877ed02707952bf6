"""How near are sampled anatomies to their donors? Beside how near people are to each other; over numbers of donors.

python benchmarks/novelty.py --cache CACHE --samples SAMPLES [SAMPLES …] --out benchmarks/results/novelty.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.progress import track
from sampled_anatomies import donors_of, person, scanned

from BrainGenLib import attribution
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.training.cache import Cache

NEAREST = ("cortex_dice", "image_correlation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache that SAMPLES were made of")
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="folders of sampled_anatomies.py")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    arguments = parser.parse_args()
    cache = Cache(arguments.cache)
    cases = scanned(cache)
    sources: list[list[str | float | int | None]] = []
    nearest: list[list[str | float | int | None]] = []
    result = Result(name="novelty", title="Novelty of sampled anatomies")
    for folder in arguments.samples:
        names = json.loads((folder / "about.json").read_text("utf-8"))["donors"]
        people = donors_of(cache, [case for case in cases if case.id in names])
        among = attribution.among_people(people)
        nowhere = np.zeros(1, np.uint16)
        others = [
            attribution.measured(people, among, *person(cache, case), nowhere)
            for case in track(cases, f"{len(names)} donors, other people")
            if case.id not in names
        ]
        samples = []
        for path in track(sorted(folder.glob("*.npz")), "samples"):
            with np.load(path) as found:
                classes, tissue = found["classes"], found["tissue"].astype(np.float32)
                whose = attribution.map_of(found["donor"], classes)
            samples.append(attribution.measured(people, among, classes, tissue, whose))
        effective, largest = (np.array([row[name] for row in samples]) for name in
                              ("effective_donors", "largest_region_ml"))  # fmt: skip
        sources.append([len(names), len(samples), effective.mean(), largest.mean(), largest.max()])
        for name in NEAREST:
            shown = name.replace("_", " ")
            of_people = among[name]
            near, far = ([row[name] for row in rows] for rows in (samples, others))
            for key, largest_key, what in (
                ("nearest", "largest", shown),
                ("lead", "largest_lead", f"{shown}, lead over the mean of all donors"),
            ):
                cells = [
                    f"{np.mean([row[key] for row in rows]):.3f} ({max(row[key] for row in rows):.3f})"
                    for rows in (far, near)
                ]
                nearest.append([len(names), what, round(of_people[largest_key], 3), *cells])
            leads = [row["lead"] for row in near]
            result.headlines.append(
                Headline(
                    what=f"Lead of the nearest donor in {shown} over all, {len(names)} donors",
                    figure=f"{np.mean(leads):.3f}, largest {max(leads):.3f} (people {of_people['largest_lead']:.3f})",
                    target="no sample's larger than any donor's among the others",
                    met=max(leads) <= of_people["largest_lead"],
                )
            )
    columns = ["donors", "samples", "effective donors", "largest region (mL)", "the largest of them"]
    result.tables.append(Table(title="What samples are made of", columns=columns, rows=sources))
    columns = ["donors", "measure", "donors to each other, largest", "other people to donors", "samples to donors"]
    result.tables.append(Table(title="Nearest donor, mirrored or not: mean (largest)", columns=columns, rows=nearest))
    result.headlines = result.headlines[-2:]
    result.notes = ["At 2 mm, see `BrainGenLib.attribution`. Before any sample was rejected for being too near."]
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
