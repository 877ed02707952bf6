"""Are counterfactuals of held-out scans what was asked for, and nothing else? Beside their simplest rivals.

Everything happens in template space, on the scans of the cache's test split: T1w scans get older and younger, white
matter lesions of FLAIR scans are taken away by diffusion and by labels. Age goes the tool's way, where tissue moves
and the diffusion does the rest, and each half of it alone. Rivals: for age, the shift of the latent that the model's
Gaussian part expects (linear in latent space); for lesions, filling the known mask with the white matter around it.

    python benchmarks/counterfactuals.py --cache CACHE --out benchmarks/results/counterfactuals.json
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from scipy import ndimage

from BrainGenLib import anatomy, bundles, counterfactuals
from BrainGenLib.diffusion.drift import Drift
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.errors import BadInput
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.lesions import split_lesions
from BrainGenLib.methods import (
    brainspade,
    brainspade3d,
    label_edit,
    latent_drifting,
    segmentation,
    soft_tissue,
)
from BrainGenLib.methods.brain_ldm import BrainLDM, volume_conditions
from BrainGenLib.methods.contrast import recognise
from BrainGenLib.methods.ventricle_warp import VentricleWarp, moved
from BrainGenLib.reporting import Silent
from BrainGenLib.requests import Counterfactual
from BrainGenLib.spaces import GRID_1MM, GRID_2MM
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.run import pick_device

YEARS = 30.0
ADULT = (20.0, 90.0)
STEPS, STRENGTH, GUIDANCE = (Counterfactual.model_fields[name].default for name in ("steps", "strength", "guidance"))
RIDGE = 3.0
"""Of the judge of age: what 5-fold cross-validation on the training scans finds best, of powers of about 3."""
Conditions = dict[str, float]
TOOL, LABELS = "ventricles moved, rest by diffusion", "ventricles moved alone"
RECOGNISED = ("T1w", "T2w", "FLAIR", "PDw")


@dataclass
class Scan:
    """A held-out scan: image in [0, 1] and class map on GRID_1MM."""

    case: CachedCase
    image: np.ndarray
    classes: np.ndarray


def fine(volume: np.ndarray, spacing: int) -> np.ndarray:
    """On GRID_1MM."""
    return volume if spacing == 1 else volume.repeat(2, 0).repeat(2, 1).repeat(2, 2)


def scan_of(cache: Cache, case: CachedCase, contrast: str) -> Scan:
    image = fine(cache.image(case, contrast), case.spacing).astype(np.float32) / 255
    return Scan(case, image, fine(cache.labels(case), case.spacing))


class AgeJudge:
    """Age from an image at 8 mm, by ridge regression on the training scans: a judge that the model does not know."""

    def __init__(self, cache: Cache) -> None:
        cases = [c for c in cache.select(split="train", space="template", contrast="T1w") if c.age is not None]
        rows = np.stack([self._row(scan_image(cache, case)) for case in cases])
        self._centre, ages = rows.mean(0), np.array([case.age for case in cases])
        self._mean = ages.mean()
        a = rows - self._centre
        self._weights = a.T @ np.linalg.solve(a @ a.T + RIDGE * np.eye(len(a)), ages - self._mean)

    def checked(self, cache: Cache, cases: list[CachedCase]) -> tuple[float, float]:
        """Its mean error on scans, in years, and by how much its answers differ per year between people."""
        found = np.array([self(scan_image(cache, case)) for case in cases])
        ages = np.array([case.age for case in cases], float)
        return float(np.abs(found - ages).mean()), float(np.polyfit(ages, found, 1)[0])

    def __call__(self, image_2mm: np.ndarray) -> float:
        return float((self._row(image_2mm) - self._centre) @ self._weights + self._mean)

    def _row(self, image_2mm: np.ndarray) -> np.ndarray:
        # Brightness is scaled away: scanners differ in it, and so would the answer.
        inside = image_2mm > 0
        scaled = np.where(inside, image_2mm / image_2mm[inside].mean(), 0)
        return torch.nn.functional.avg_pool3d(torch.from_numpy(scaled)[None, None].float(), 4).numpy().ravel()


def scan_image(cache: Cache, case: CachedCase) -> np.ndarray:
    image = cache.image(case, "T1w").astype(np.float32) / 255
    return counterfactuals.halved(image) if case.spacing == 1 else image


def asked(model: BrainLDM, own: Conditions, wanted: Conditions, auto: bool) -> latent_drifting.Change:
    volumes = counterfactuals.expected_volumes(own, wanted, model.ageing)
    return latent_drifting.Change(own, {**own, **volumes, **wanted}, STRENGTH, GUIDANCE, Drift(), auto, STEPS, 1)


def by_diffusion(
    model: BrainLDM, scan: Scan, contrast: str, own: Conditions, wanted: Conditions, auto: bool
) -> np.ndarray:
    """The change on GRID_2MM; ventricles are changed as the years expect by default."""
    given = torch.from_numpy(coarse(scan))[None, None].to(model.device)
    generator = torch.Generator().manual_seed(0)
    change = asked(model, own, wanted, auto)
    return counterfactuals.noticed(
        latent_drifting.edit(model, given, contrast, [change], generator, Silent())[0].change, GRID_2MM.spacing
    )


def by_line(model: BrainLDM, scan: Scan, contrast: str, own: Conditions, wanted: Conditions) -> np.ndarray:
    """The change if the latent is moved by what the Gaussian model expects."""
    given = torch.from_numpy(coarse(scan))[None, None].to(model.device)
    change = latent_drifting.expected_change(model, given, contrast, asked(model, own, wanted, False))
    return counterfactuals.noticed(change, GRID_2MM.spacing)


def coarse(scan: Scan) -> np.ndarray:
    """The image on GRID_2MM."""
    return counterfactuals.halved(scan.image)


def added(scan: Scan, change: np.ndarray) -> Scan:
    """A scan with a change on GRID_2MM added."""
    return replace(scan, image=np.clip(scan.image + fine(change, 2), 0, 1) * (scan.classes > 0))


def with_ventricles(model: BrainLDM, scan: Scan, own: Conditions, wanted: Conditions) -> Scan:
    """A scan whose ventricles have the size that is expected of the years."""
    size = counterfactuals.expected_volumes(own, wanted, model.ageing)["ventricles"]
    ways = VentricleWarp(scan.classes)
    warp = ways.to(float(np.clip(size, ways.least, ways.most)))
    return replace(scan, image=moved(scan.image, warp, order=3), classes=moved(scan.classes, warp, order=0))


def both_ways(model: BrainLDM, scan: Scan, own: Conditions, wanted: Conditions, auto: bool) -> Scan:
    """A scan whose ventricles move, and all else by diffusion: what `braingen counterfactual` makes."""
    rest = {**wanted, "ventricles": own["ventricles"]}
    return with_ventricles(model, added(scan, by_diffusion(model, scan, "T1w", own, rest, auto)), own, wanted)


def ventricles(segmenter: Any, image: np.ndarray) -> float:
    return volume_conditions(segmentation.segment_in_template(segmenter, image), GRID_1MM.spacing)["ventricles"]


def ages(cache: Cache, model: BrainLDM, segmenter: Any, count: int) -> tuple[Table, dict[str, dict[str, float]]]:
    """Older and younger: for each way the ventricles, the judge's verdict, identity and the way back."""
    judge = AgeJudge(cache)
    cases = [
        case
        for case in cache.select(split="test", space="template", contrast="T1w", labelled=True)
        if case.age is not None and case.quality.get("structures", 1) > 0.95
    ]
    error, slope = judge.checked(cache, cases)
    cases = [cases[i] for i in np.linspace(0, len(cases) - 1, min(count, len(cases))).astype(int)]
    ways: dict[str, Callable[[Scan, Conditions, Conditions], Scan]] = {
        TOOL: lambda scan, own, wanted: both_ways(model, scan, own, wanted, False),
        f"{TOOL}, drift auto": lambda scan, own, wanted: both_ways(model, scan, own, wanted, True),
        "diffusion alone": lambda scan, own, wanted: added(
            scan, by_diffusion(model, scan, "T1w", own, wanted, False)
        ),
        LABELS: lambda scan, own, wanted: with_ventricles(model, scan, own, wanted),
        "line in latent space": lambda scan, own, wanted: added(scan, by_line(model, scan, "T1w", own, wanted)),
    }
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for case in track(cases, "ages"):
        scan = scan_of(cache, case, "T1w")
        image = coarse(scan)
        before, age = ventricles(segmenter, scan.image), float(case.age or 0)
        own = {"age": age, **volume_conditions(scan.classes, GRID_1MM.spacing)}
        for direction, years in (("older", YEARS), ("younger", -YEARS)):
            target = float(np.clip(age + years, *ADULT))
            # Less than ten years are too few to tell a direction by.
            if abs(target - age) < 10:
                continue
            there = {**counterfactuals.expected_volumes(own, {"age": target}, model.ageing), "age": target}
            for way, changed in ways.items():
                edited = changed(scan, own, {"age": target})
                after, back = coarse(edited), coarse(changed(edited, there, {"age": age}))
                found.setdefault((direction, way), []).append(
                    {
                        "ratio": ventricles(segmenter, edited.image) / before,
                        "expected": float(np.exp(model.ageing["ventricles"] * (target - age))),
                        "moved": (judge(after) - judge(image)) / (target - age) / slope,
                        "ssim": counterfactuals.similarity(image, after)["ssim"],
                        "change": float(np.abs(after - image)[image > 0].mean()),
                        "return": float(np.abs(back - image)[image > 0].mean()),
                    }
                )
    rows: list[list[Any]] = []
    summary: dict[str, dict[str, float]] = {}
    for (direction, way), values in found.items():
        column = {name: np.array([value[name] for value in values]) for name in values[0]}
        sign = 1 if direction == "older" else -1
        figures = {
            "scans": float(len(values)),
            "right": float((sign * (column["ratio"] - 1) > 0).mean()),
            "ratio": float(np.median(column["ratio"])),
            "expected": float(np.median(column["expected"])),
            "flip": float((column["moved"] > 0.5).mean()),
            "moved": float(np.median(column["moved"])),
            "ssim": float(column["ssim"].mean()),
            "return": float((column["return"] / column["change"].clip(1e-9)).mean()),
        }
        summary[f"{direction}, {way}"] = figures
        rows.append([direction, way, *figures.values()])
    columns = ["asked", "way", "scans", "ventricles in the right direction", "ventricles after / before"]
    columns += ["expected of the years", "judge flips", "the judge's age moves / between people"]
    columns += ["SSIM to the scan", "left after the way back / change"]
    title = f"{YEARS:.0f} years older and younger (judge of age: mean error {error:.1f} years, {slope:.2f} a year)"
    return Table(title=title, columns=columns, rows=rows), summary


def lesion_contrast(image: np.ndarray, lesion: np.ndarray, white: np.ndarray) -> float:
    """How far a lesion stands out of the white matter around it, in its standard deviations."""
    shell = white & ndimage.binary_dilation(lesion, iterations=8) & ~ndimage.binary_dilation(lesion, iterations=2)
    return float((image[lesion].mean() - image[shell].mean()) / max(image[shell].std(), 1e-3))


def removals(
    cache: Cache, model: BrainLDM, segmenter: Any, bundle: bundles.Bundle, count: int
) -> tuple[Table, dict[str, dict[str, float]]]:
    """White matter lesions taken away: what is left of them, and what else changed."""
    renderer = brainspade.Renderer.from_bundle(bundle, model.device)
    labels = brainspade3d.LabelModel.from_bundle(bundle, model.device)
    cases = cache.select(split="test", space="template", contrast="FLAIR", labelled=True, pathology="wmh")[:count]
    kind = anatomy.lesions()["wmh"].index
    found: dict[str, list[dict[str, float]]] = {}
    for case in track(cases, "lesions"):
        scan = scan_of(cache, case, "FLAIR")
        lesion = scan.classes == kind
        white = np.isin(scan.classes, anatomy.classes_of(name="cerebral white matter"))
        load = min(lesion.sum() / 1000 / labels.millilitres["wmh"], 1.0)
        own = {"wmh": load, **volume_conditions(scan.classes, GRID_1MM.spacing)}
        without = label_edit.with_loads(scan.classes, {"wmh": 0.0}, labels, 0, nothing)
        style = brainspade.encode_style(renderer, scan.image)
        generator = torch.Generator().manual_seed(0)
        tissue = soft_tissue.tissue_of_classes(renderer.tissue, split_lesions(scan.classes)[0], generator, nothing)
        drawn, redrawn = (
            brainspade.render(renderer, classes, tissue.cpu().numpy(), "FLAIR", style=style, seed=0, report=Silent())
            for classes in (scan.classes, without)
        )
        shell = white & ndimage.binary_dilation(lesion, iterations=6)
        filled = np.where(ndimage.binary_dilation(lesion) & (scan.classes > 0), scan.image[shell].mean(), scan.image)
        changed = {
            "as it was": scan.image,
            "diffusion": scan.image + fine(by_diffusion(model, scan, "FLAIR", own, {"wmh": 0.0}, False), 2),
            "labels": scan.image + counterfactuals.rendered_change(scan.image, drawn, redrawn, scan.classes, without),
            "filled with white matter": filled,
        }
        far = (scan.classes > 0) & ~ndimage.binary_dilation(lesion, iterations=4)
        for way, after in changed.items():
            again = segmentation.segment_in_template(segmenter, np.clip(after, 0, 1) * (scan.classes > 0))
            found.setdefault(way, []).append(
                {
                    "contrast": lesion_contrast(after, lesion, white),
                    "spread": float(after[lesion].std() / scan.image[shell].std()),
                    "elsewhere": float(np.abs(after - scan.image)[far].mean()),
                    "segmented": float((again == kind).sum() / 1000),
                }
            )
    summary = {
        way: {name: float(np.mean([value[name] for value in values])) for name in values[0]}
        for way, values in found.items()
    }
    rows: list[list[Any]] = [[way, len(found[way]), *figures.values()] for way, figures in summary.items()]
    columns = ["way", "scans", "lesion stands out (sd of white matter)", "texture / white matter's"]
    columns += ["mean change elsewhere", "lesion found by the segmenter, mL"]
    return Table(title="White matter lesions of FLAIR scans taken away", columns=columns, rows=rows), summary


def recognitions(cache: Cache) -> Table:
    """What each contrast is taken for, with the cache's label maps; nobody learnt it, so every rare scan counts."""
    counts: Counter[tuple[str, str]] = Counter()
    for case in cache.select(space="template", labelled=True):
        for contrast in case.images:
            if contrast == "T1w" and case.split != "test":
                continue
            scan = scan_of(cache, case, contrast)
            try:
                found = recognise(scan.image, scan.classes, RECOGNISED)
            except BadInput:
                found = "not recognised"
            counts[contrast, found] += 1
    columns = [*RECOGNISED, "not recognised"]
    shown = sorted({contrast for contrast, _ in counts})
    return Table(
        title="Contrast, as recognised",
        columns=["contrast", *columns],
        rows=[[contrast, *(counts[contrast, found] for found in columns)] for contrast in shown],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scans", type=int, default=12, help="T1w scans; FLAIR scans are as many as there are")
    parser.add_argument("--quick", action="store_true", help="a rehearsal with one scan of each")
    arguments = parser.parse_args()
    device, cache = pick_device(arguments.device).type, Cache(arguments.cache)
    bundle = bundles.find("brain-ldm")
    model = BrainLDM.from_bundle(bundle, device)
    segmenter = segmentation.Segmenter.from_bundle(bundles.find("segmenter"), device)
    with torch.inference_mode():
        age_table, age = ages(cache, model, segmenter, 1 if arguments.quick else arguments.scans)
        lesion_table, lesion = removals(
            cache, model, segmenter, bundles.find("brainspade3d"), 1 if arguments.quick else 99
        )
    right = [age[f"{asked}, {way}"]["right"] for way in (TOOL, LABELS) for asked in ("older", "younger")]
    flip = [figures["flip"] for name, figures in age.items() if name.endswith(TOOL)]
    result = Result(
        name="counterfactuals",
        title="Counterfactuals",
        headlines=[
            Headline(
                what=f"Counterfactual age ± {YEARS:.0f}: ventricles change in the right direction",
                figure="{:.0%} / {:.0%}, by moving them alone {:.0%} / {:.0%} (older / younger)".format(*right),
                target="all",
                met=min(right) == 1.0,
            ),
            Headline(
                what="… a judge of age moves by more than half of what so many years make between people",
                figure=" / ".join(f"{value:.0%}" for value in flip) + " (older / younger)",
            ),
            Headline(
                what="White matter lesions taken away stand out by (before / diffusion / labels / filled)",
                figure=" / ".join(f"{figures['contrast']:.1f}" for figures in lesion.values()) + " sd",
            ),
        ],
        tables=[age_table, lesion_table, recognitions(cache)],
        notes=[
            "The judge of age is a ridge regression on training scans at 8 mm; it has seen what the model has. As "
            "all that regress it tells people apart by less than their years, as the title says. It "
            "flips if its answer moves by more than half of what people so many years apart differ by to it.",
            "Lesion masks are given to the ways labels and filled; the diffusion is conditioned on the load alone.",
            "The segmenter hardly finds lesions, so that it finds none says little.",
            "No held-out subject was scanned twice years apart: whether a person would change so is not known.",
        ],
        settings={"steps": STEPS, "strength": STRENGTH, "guidance": GUIDANCE},
    )
    result.save(arguments.out)
    result.print()


if __name__ == "__main__":
    main()
