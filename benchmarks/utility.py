"""Utility: a lesion segmenter trained on real, on synthetic, and on both, tested on held-out real scans.

python benchmarks/utility.py --cache CACHE --synthetic SYNTHETIC --out benchmarks/results/utility.json
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from synthetic_cases import to_spacing

from BrainGenLib import anatomy, spaces
from BrainGenLib.evaluation import utility
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.run import pick_device


@dataclass(frozen=True)
class Task:
    """What is to be found: any of ``pathologies`` on a contrast."""

    name: str
    contrast: str
    pathologies: tuple[str, ...]


TASKS = (
    Task("white matter lesions", "FLAIR", ("wmh", "ms")),
    Task("glioma with oedema", "FLAIR", ("tumour", "oedema", "enhancing")),
)

Volumes = tuple[list[np.ndarray], list[np.ndarray]]


def gather(cache: Cache, task: Task, split: str) -> Volumes:
    """Images (standard scores) and lesion masks of a split at 2 mm, of the cases that have the lesion."""
    wanted = [anatomy.lesions()[name].index for name in task.pathologies]
    images, masks = [], []
    for case in cache.select(space="template", split=split, contrast=task.contrast, labelled=True):
        classes = cache.labels(case)
        share = to_spacing(np.isin(classes, wanted).astype(np.float32), 2 if case.spacing == 1 else 1)
        if (share >= 0.5).sum() < 20:
            continue
        image = np.where(classes > 0, cache.image(case, task.contrast), 0).astype(np.float32)
        images.append(utility.standard_scores(to_spacing(image, 2 if case.spacing == 1 else 1)))
        masks.append(share >= 0.5)
    return images, masks


def mixed(a: Volumes, b: Volumes) -> Volumes:
    """Both sets, the smaller one repeated so that each is drawn about as often."""
    small, large = sorted((a, b), key=lambda volumes: len(volumes[0]))
    times = max(1, round(len(large[0]) / len(small[0])))
    return small[0] * times + large[0], small[1] * times + large[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache: real scans with labels")
    parser.add_argument("--synthetic", type=Path, required=True, help="folder that synthetic_cases.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--steps", type=int, default=400, help="optimiser steps of every training")
    parser.add_argument("--batch", type=int, default=2, help="crops a step")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="30 steps, one seed")
    arguments = parser.parse_args()
    steps, seeds = (30, 1) if arguments.quick else (arguments.steps, arguments.seeds)
    device = pick_device(arguments.device)
    cache, generated = Cache(arguments.cache), Cache(arguments.synthetic / "generated")
    rows: list[list[str | float | int | None]] = []
    headlines = []
    for task in TASKS:
        real, synthetic = gather(cache, task, "train"), gather(generated, task, "train")
        tests = gather(cache, task, "test")
        if not (tests[0] and real[0] and synthetic[0]):
            print(f"{task.name}: left out, for want of test scans, real or synthetic training cases")
            continue
        arms = {"real only": real, "synthetic only": synthetic, "real and synthetic": mixed(real, synthetic)}
        counts = [len(real[0]), len(synthetic[0]), len(real[0]) + len(synthetic[0])]
        means = {}
        cut = utility.best_threshold(*real)
        baseline = [spaces.dice(image > cut, mask) for image, mask in zip(*tests, strict=True)]
        means["threshold"] = float(np.mean(baseline))
        rows.append(
            [
                task.name,
                task.contrast,
                "intensity threshold, tuned on real",
                len(real[0]),
                len(tests[0]),
                means["threshold"],
                None,
                min(baseline),
                max(baseline),
            ]
        )
        for count, (arm, (images, masks)) in zip(counts, arms.items(), strict=True):
            dice = np.zeros((seeds, len(tests[0])))
            for seed in range(seeds):
                start = time.monotonic()
                network = utility.train(images, masks, steps=steps, seed=seed, device=device, batch=arguments.batch)
                dice[seed] = [
                    spaces.dice(utility.predict(network, image), mask) for image, mask in zip(*tests, strict=True)
                ]
                took = time.monotonic() - start
                print(f"{task.name}, {arm}, seed {seed}: Dice {dice[seed].mean():.3f} ({took:.0f} s)", flush=True)
            means[arm] = float(dice.mean())
            rows.append(
                [
                    task.name,
                    task.contrast,
                    arm,
                    count,
                    len(tests[0]),
                    means[arm],
                    float(dice.mean(1).std()),
                    float(dice.mean(0).min()),
                    float(dice.mean(0).max()),
                ]
            )
        headlines.append(
            Headline(
                what=f"Utility, {task.name} on {task.contrast}: Dice on {len(tests[0])} held-out real scan(s)",
                figure="; ".join(f"{arm} {value:.2f}" for arm, value in means.items()),
                target="synthetic only beats the threshold; adding synthetic to real helps",
                met=means["synthetic only"] > means["threshold"] and means["real and synthetic"] > means["real only"],
            )
        )
    result = Result(
        name="utility",
        title="Utility: lesion segmenters trained on synthetic cases",
        tables=[
            Table(
                title="Dice on held-out real scans",
                columns=[
                    "task",
                    "contrast",
                    "trained on",
                    "training cases",
                    "test scans",
                    "mean Dice",
                    "sd over seeds",
                    "worst scan",
                    "best scan",
                ],
                rows=rows,
            )
        ],
        headlines=headlines,
        notes=[
            f"One 3D U-Net at 2 mm (8-16-32-64-64 channels), {steps} steps of {arguments.batch} crops of 48³ "
            f"whatever it is trained on, {seeds} seed(s). The generator itself saw the real training scans.",
            "Test scans are few: a difference of a few hundredths says nothing.",
        ],
        settings={"steps": steps, "seeds": seeds, "batch": arguments.batch, "device": device.type},
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
