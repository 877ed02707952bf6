"""How near are sampled anatomies to their donors? Beside how near people are to each other; over numbers of donors.

python benchmarks/novelty.py --cache CACHE --held-out HELD_OUT --samples SAMPLES SHIPPED … \\
    --out benchmarks/results/novelty.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.progress import track
from sampled_anatomies import donors_of, held_out, scanned

from BrainGenLib import attribution
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.training.cache import Cache

NEAREST = ("cortex_dice", "image_correlation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache with the donors")
    parser.add_argument("--held-out", type=Path, required=True, help="cache with people of the test split")
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="folders of sampled_anatomies.py")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    arguments = parser.parse_args()
    cache = Cache(arguments.cache)
    cases = {case.id: case for case in scanned(cache, "train")}
    unseen = held_out(arguments.held_out)
    sources: list[list[str | float | int | None]] = []
    nearest: list[list[str | float | int | None]] = []
    result = Result(name="novelty", title="Novelty of sampled anatomies")
    for folder in arguments.samples:
        about = json.loads((folder / "about.json").read_text("utf-8"))
        names, how = about["donors"], f"{about['how']}, {len(about['donors'])} donors"
        people = donors_of(cache, [cases[name] for name in names])
        among = attribution.among_people(people)
        nowhere = np.zeros(1, np.uint16)
        others = [
            attribution.measured(people, among, *one, nowhere) for one in track(unseen, f"{how}: held-out people")
        ]
        samples = []
        for path in track(sorted(folder.glob("*.npz")), f"{how}: samples"):
            with np.load(path) as found:
                classes, tissue = found["classes"], found["tissue"].astype(np.float32)
                whose = attribution.map_of(found["donor"], classes)
            samples.append(attribution.measured(people, among, classes, tissue, whose))
        effective, largest = (np.array([row[name] for row in samples]) for name in
                              ("effective_donors", "largest_region_ml"))  # fmt: skip
        rejected = [one["rejected"] for one in about["samples"] if "rejected" in one]
        again = round(float(np.mean(rejected)), 2) if rejected else None
        sources.append([how, len(samples), effective.mean(), largest.mean(), largest.max(), again])
        headlines = []
        for name in NEAREST:
            shown = name.replace("_", " ")
            of_people = among[name]
            near, far = ([row[name] for row in rows] for rows in (samples, others))
            for key, largest_key, what in (
                ("nearest", "largest", shown),
                ("lead", "largest_lead", f"{shown}, lead over the mean of all donors"),
            ):
                made, real = (np.array([row[key] for row in rows]) for rows in (near, far))
                off = (made.mean() - real.mean()) / real.std(ddof=1)
                cells = [
                    f"{values.mean():.3f} ± {values.std(ddof=1):.3f} ({values.max():.3f})" for values in (real, made)
                ]
                nearest.append([how, what, round(of_people[largest_key], 3), *cells, f"{off:+.1f}"])
            leads = [row["lead"] for row in near]
            headlines.append(
                Headline(
                    what=f"Lead of the nearest donor in {shown} over all, {how}",
                    figure=f"{np.mean(leads):.3f}, largest {max(leads):.3f} (donors {of_people['largest_lead']:.3f}, "
                    f"held-out people {max(row['lead'] for row in far):.3f})",
                    target="no sample's larger than any donor's among the others",
                    met=max(leads) <= of_people["largest_lead"],
                )
            )
        result.headlines = headlines
    columns = [
        "samples",
        "number",
        "effective donors",
        "largest region (mL)",
        "the largest of them",
        "rejected before",
    ]
    result.tables.append(Table(title="What samples are made of", columns=columns, rows=sources))
    columns = [
        "samples",
        "measure",
        "donors to each other, largest",
        f"held-out people ({len(unseen)}) to donors",
        "samples to donors",
        "sd off",
    ]
    title = "Nearest donor, mirrored or not: mean ± sd (largest)"
    result.tables.append(Table(title=title, columns=columns, rows=nearest))
    result.notes = [
        "At 2 mm, see `BrainGenLib.attribution`. Of the pyramid alone nothing was rejected; `generate` samples "
        "again, twice at most, where a cortex is nearer to a donor's than any two donors' are to each other.",
        "“sd off”: how far the mean of samples lies from that of held-out people, in their standard deviations.",
    ]
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
