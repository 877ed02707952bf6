"""Do rendered images look like real ones? Per contrast, beside a floor (real against real) and a baseline.

Scans are halved at random, again and again. Renders *of the label maps of one half* are compared with the real scans
of the other half, exactly as the real scans of the one half are: the same anatomy, the same number of scans, only the
rendering differs.

    python benchmarks/realism.py --cache CACHE --synthetic SYNTHETIC --out benchmarks/results/realism.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track
from synthetic_cases import to_1mm, to_2mm, to_spacing

from BrainGenLib import bundles
from BrainGenLib.evaluation import baselines, fidelity
from BrainGenLib.evaluation.looks import DISTANCES, Looks, Yardstick, look, standardised
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.networks.label_unet import LabelUNet
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.run import pick_device

FEWEST = 4  # scans of a contrast on one grid, below which halves say nothing
HEADLINE = ("MMD deep", "MMD fine", "FID deep", "FID fine")


class Group:
    """Real scans of one contrast on one grid, and what stands against them; ``sets`` maps names to images' looks."""

    def __init__(self, contrast: str, spacing: int, cases: list[CachedCase], network: LabelUNet) -> None:
        self.contrast, self.spacing, self.cases, self.network = contrast, spacing, cases, network
        self.rng = np.random.default_rng(0)
        self.sets: dict[str, list[Looks]] = {}
        self.small: dict[str, list[np.ndarray]] = {}

    def add(self, name: str, image: np.ndarray, classes: np.ndarray) -> None:
        """Look at an image on the group's grid."""
        self.sets.setdefault(name, []).append(look(self.network, image, classes, self.rng))
        small = to_spacing(standardised(image, classes), 2) if self.spacing == 1 else standardised(image, classes)
        self.small.setdefault(name, []).append(small)

    def collect(self, cache: Cache, rendered: Cache, generated: Cache) -> None:
        """Look at every image of the group."""
        reals = {case.id: standardised(cache.image(case, self.contrast), cache.labels(case)) for case in self.cases}
        statistics = [baselines.class_statistics(reals[case.id], cache.labels(case)) for case in self.cases]
        renders = {case.id: case for case in rendered.select(contrast=self.contrast)}
        for case in track(self.cases, f"{self.contrast} {self.spacing} mm"):
            labels = cache.labels(case)
            classes = to_1mm(labels) if self.spacing == 2 else labels
            self.add("real", reals[case.id], labels)
            images = {
                "rendered": rendered.image(renders[case.id], self.contrast) / np.float32(255),
                "Gaussian, measured": to_spacing(
                    baselines.gaussian_render(classes, baselines.matched_statistics(statistics, self.rng), self.rng),
                    self.spacing,
                ),
                "Gaussian, random": to_spacing(
                    baselines.gaussian_render(classes, baselines.random_statistics(self.rng), self.rng), self.spacing
                ),
            }
            for name, image in images.items():
                self.add(name, image, labels)
                if max(case.images[self.contrast]) > 1.2 * self.spacing:
                    coarse = baselines.acquire(image, self.spacing, case.images[self.contrast])
                    self.add(f"{name}, blurred as the scan", coarse, labels)
                else:
                    self.sets.setdefault(f"{name}, blurred as the scan", []).append(self.sets[name][-1])
                    self.small.setdefault(f"{name}, blurred as the scan", []).append(self.small[name][-1])
        for case in track(generated.select(contrast=self.contrast)[: len(self.cases)], "generated"):
            classes = generated.labels(case)
            labels = classes if self.spacing == 1 else to_2mm(classes)
            self.add(
                "generated", to_spacing(generated.image(case, self.contrast) / np.float32(255), self.spacing), labels
            )

    def compare(self, rounds: int) -> dict[str, np.ndarray]:
        """Distances of every set to real scans, (rounds, distances); the halves are the same for every set."""
        real = self.sets["real"]
        yardstick = Yardstick(real)
        found = {}
        for name, images in self.sets.items():

            def statistic(half: np.ndarray, other: np.ndarray, images: list[Looks] = images) -> list[float]:
                return yardstick.distances([images[i] for i in half if i < len(images)], [real[i] for i in other])

            found[name] = fidelity.split_halves(len(real), rounds, np.random.default_rng(1), statistic)
        return found

    def diversity(self, pairs: int) -> dict[str, float]:
        """Mean MS-SSIM over pairs of each set, at 2 mm."""
        return {
            name: fidelity.ms_ssim_diversity(volumes, pairs, np.random.default_rng(2))
            for name, volumes in self.small.items()
            if name in ("real", "rendered", "generated")
        }


def groups(cache: Cache, rendered: Cache, network: LabelUNet, most: int) -> list[Group]:
    """Contrasts and grids with enough labelled scans that were rendered, too."""
    found = []
    for contrast in sorted({contrast for case in rendered.cases for contrast in case.images}):
        for spacing in (1, 2):
            ids = {case.id for case in rendered.select(contrast=contrast, spacing=spacing)}
            cases = [case for case in cache.select(contrast=contrast, spacing=spacing) if case.id in ids][:most]
            if len(cases) >= FEWEST:
                found.append(Group(contrast, spacing, cases, network))
    return found


def table(group: Group, found: dict[str, np.ndarray], diversity: dict[str, float]) -> Table:
    """One row for each set: distance ± 95 % half-width."""
    rows: list[list[str | float | int | None]] = []
    for name, values in found.items():
        spread = 1.96 * values.std(0)
        cells = [f"{mean:.3g} ± {width:.2g}" for mean, width in zip(values.mean(0), spread, strict=True)]
        label = "real, other half (floor)" if name == "real" else name
        rows.append([label, len(group.sets[name]), *cells, diversity.get(name)])
    title = f"{group.contrast}, {group.spacing} mm grid, {len(group.cases)} real scans"
    return Table(title=title, columns=["images", "n", *DISTANCES, "MS-SSIM of pairs"], rows=rows)


def headline(group: Group, found: dict[str, np.ndarray]) -> Headline:
    """Rendered images against the plain random Gaussian, and beside the one that was measured in real scans."""
    means = {key: dict(zip(DISTANCES, values.mean(0), strict=True)) for key, values in found.items()}
    shown = ("rendered", "Gaussian, random", "Gaussian, measured", "real")
    return Headline(
        what=f"Realism {group.contrast}, {group.spacing} mm "
        "(rendered / random Gaussian / measured Gaussian / real floor)",
        figure="; ".join(f"{name} {' / '.join(f'{means[key][name]:.2g}' for key in shown)}" for name in HEADLINE),
        target="rendered nearer to real scans than the random Gaussian in all four",
        met=all(means["rendered"][name] < means["Gaussian, random"][name] for name in HEADLINE),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache: real scans with labels")
    parser.add_argument("--synthetic", type=Path, required=True, help="folder that synthetic_cases.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--rounds", type=int, default=100, help="random halvings")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="8 scans a contrast, 20 halvings")
    arguments = parser.parse_args()
    network = bundles.find("segmenter").load("segmenter", str(pick_device(arguments.device)))
    assert isinstance(network, LabelUNet)
    cache = Cache(arguments.cache)
    rendered, generated = (Cache(arguments.synthetic / name) for name in ("rendered", "generated"))
    most, rounds = (8, 20) if arguments.quick else (10_000, arguments.rounds)
    result = Result(
        name="realism",
        title="Realism: rendered against real scans",
        settings={"rounds": rounds, "segmenter": bundles.find("segmenter").sha256[:12]},
        notes=[
            "Features are those of this project's own segmenter: FID and MMD are not comparable with published ones.",
            "Every distance is between half of the set and the other half of the real scans, mean ± 1.96 standard "
            "deviations over random halvings (which is the delete-half jackknife of the whole set).",
            "Real scans of training subjects are included; there are too few held-out ones in all contrasts but T1w.",
            "“Gaussian”: independent voxels per label, with means and deviations measured in a real scan of the "
            "contrast, or random as SynthSeg draws them. “Blurred as the scan”: at the voxel size that the scan had.",
            *(f"{name}: {meaning}." for name, meaning in DISTANCES.items()),
        ],
    )
    for group in groups(cache, rendered, network, most):
        group.collect(cache, rendered, generated)
        found = group.compare(rounds)
        result.tables.append(table(group, found, group.diversity(10 if arguments.quick else 60)))
        result.headlines.append(headline(group, found))
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
