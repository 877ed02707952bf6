"""What does somebody else's segmenter see in generated T1w images? Beside what it sees in held-out scans.

MESHSEG is ``meshseg.py`` of the shared data (brainchop's MeshNet, MIT), which knows nothing of this project; it is
loaded from there. SHIPPED are what ``sampled_anatomies.py --shipped`` wrote, HELD_OUT caches of people of the test
split; the first is the reference.

    python benchmarks/ruler.py MESHSEG --samples SHIPPED … --held-out HELD_OUT [OTHERS …] --seen SEEN \
        --out benchmarks/results/ruler.json --pictures ruler.png
"""

from __future__ import annotations

import argparse
import hashlib
import json
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from rich.progress import track
from scipy import ndimage

from BrainGenLib import anatomy, bundles, spaces
from BrainGenLib.donors import Donors
from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.methods.scan_texture import intensities
from BrainGenLib.training.cache import Cache

TISSUES = {
    "cortex": anatomy.classes_of(name="cerebral cortex"),
    "white matter": anatomy.classes_of(name="cerebral white matter"),
    "ventricles": [
        *anatomy.classes_of(name="lateral ventricle"),
        *anatomy.classes_of(name="inferior lateral ventricle"),
    ],
    "deep grey matter": anatomy.classes_of(tissue="deep_gm"),
    "cerebellum": [
        *anatomy.classes_of(name="cerebellar cortex"),
        *anatomy.classes_of(name="cerebellar white matter"),
    ],
}
LEAST_DICE, MOST_CORTEX = 0.95, 0.12
"""Targets: of the Dice of held-out scans, and by how much the cortex in the image may differ from the labelled."""
DEGREES, VOXELS = 1.0, 0.5
"""How far a scan is turned about each axis and shifted along it, to see the ruler's own error."""

Ruler = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(image, affine) to a class map."""


@dataclass
class Seen:
    """An image with the labels that it should show, and those that the ruler sees in it, as classes."""

    name: str
    image: np.ndarray
    labels: np.ndarray
    found: np.ndarray

    def dice(self, tissue: str) -> float:
        a, b = (np.isin(classes, TISSUES[tissue]) for classes in (self.labels, self.found))
        return float(2 * (a & b).sum() / max(int(a.sum() + b.sum()), 1))

    def excess(self, tissue: str) -> float:
        """How much more of a tissue the ruler sees than is labelled, as a share of it."""
        labelled, seen = (int(np.isin(classes, TISSUES[tissue]).sum()) for classes in (self.labels, self.found))
        return seen / max(labelled, 1) - 1


def loaded(path: Path, seen: Path) -> Ruler:
    """The segmenter of a file. Which side a voxel lies on is of no account here, so its search for the midplane, a
    third of its time, is left out. What it has seen is kept in a folder, for an interrupted run to go on."""
    module = runpy.run_path(str(path), run_name="meshseg")
    network = module["net"]()
    module["segment"].__globals__["midplane"] = lambda labels, affine: (np.array([1.0, 0, 0]), 0.0, 0.0)
    seen.mkdir(parents=True, exist_ok=True)

    def see(image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        scan = image.astype(np.float32)
        file = seen / f"{hashlib.sha256(scan.tobytes()).hexdigest()[:16]}.nii.gz"
        if not file.is_file():
            values, _ = module["segment"](nib.Nifti1Image(scan, affine), network)
            part = seen / f"part-{file.name}"
            nib.save(nib.Nifti1Image(values, affine), part)
            part.rename(file)
        return anatomy.to_classes(np.asarray(nib.nifti1.load(file).dataobj))

    return see


def generated(folders: list[Path]) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Name, T1w image, class map and affine of samples, as ``generate`` gives them out."""
    people = bundles.find("brainspade3d").load("donors")
    assert isinstance(people, Donors)
    for path in (path for folder in folders for path in sorted(folder.glob("*.npz"))):
        with np.load(path) as found:
            classes, tissue = found["classes"], found["tissue"].astype(np.float32)
            person = json.loads(str(found["about"]))["person"]
        name = (
            f"{person['age']:.0f} years, {'male' if person['sex'] else 'female'}" if person else "nothing asked for"
        )
        image = intensities(tissue, people.knots, classes > 0)
        yield f"seed {int(path.stem)}, {name}", image, classes, spaces.GRID_1MM.affine


def held_out(folder: Path, most: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """The same of scans of the test split of a cache, spread over it."""
    cache = Cache(folder)
    cases = cache.select(split="test", space="template", contrast="T1w", labelled=True)
    for index in np.unique(np.linspace(0, len(cases) - 1, min(most, len(cases))).round().astype(int)):
        case = cases[index]
        grid = spaces.GRID_1MM if case.spacing == 1 else spaces.GRID_2MM
        yield case.id, cache.image(case, "T1w") / np.float32(255), cache.labels(case), grid.affine


def moved(volume: np.ndarray, order: int) -> np.ndarray:
    """A volume turned about its centre and shifted."""
    angle = np.deg2rad(DEGREES)
    turn = np.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        about = np.eye(3)
        about[[first, second], [first, second]] = np.cos(angle)
        about[first, second], about[second, first] = -np.sin(angle), np.sin(angle)
        turn = turn @ about
    centre = (np.array(volume.shape) - 1) / 2
    return np.asarray(ndimage.affine_transform(volume, turn, centre - turn @ centre + VOXELS, order=order))


def means(group: list[Seen], tissue: str) -> list[str]:
    dices, excesses = ([getattr(one, what)(tissue) for one in group] for what in ("dice", "excess"))
    return [f"{np.mean(dices):.3f} (least {min(dices):.3f})", f"{np.mean(excesses):+.1%}"]


def picture(groups: list[list[Seen]]) -> np.ndarray:
    """Image, labels and what the ruler sees, an axial slice of every case side by side."""
    colors = np.array([label.color for label in anatomy.labels()], np.uint8)
    columns = []
    for one in (each for group in groups for each in group):
        level = one.image.shape[2] // 2
        grey = (one.image[..., level].clip(0, 1) * 255).astype(np.uint8)
        parts = [np.stack([grey] * 3, -1), colors[one.labels[..., level]], colors[one.found[..., level]]]
        column = np.concatenate([part.transpose(1, 0, 2)[::-1] for part in parts])
        columns.append(column.repeat(2, 0).repeat(2, 1) if one.image.shape[0] < spaces.GRID_1MM.shape[0] else column)
    return np.concatenate(columns, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("meshseg", type=Path, help="meshseg.py, with the folder meshnet beside it")
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="folders of sampled_anatomies.py")
    parser.add_argument("--held-out", type=Path, nargs="+", required=True, help="caches with a test split")
    parser.add_argument("--seen", type=Path, required=True, help="folder for what the segmenter sees")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--pictures", type=Path, help="PNG")
    parser.add_argument("--most", type=int, default=9, help="scans of a cache")
    arguments = parser.parse_args()
    see = loaded(arguments.meshseg, arguments.seen)

    def judged(found: Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]], what: str) -> list[Seen]:
        return [
            Seen(name, image, labels, see(image, affine)) for name, image, labels, affine in track(found, what, None)
        ]

    scans = {folder.name: judged(held_out(folder, arguments.most), folder.name) for folder in arguments.held_out}
    reference = next(iter(scans.values()))
    # Only where the voxels are those of the generated cases.
    again = [
        Seen(one.name, moved(one.image, 1), moved(one.found, 0), see(moved(one.image, 1), spaces.GRID_1MM.affine))
        for one in track(reference, "turned and shifted")
    ]
    cases = judged(generated(arguments.samples), "generated")
    groups = {"generated": cases, **{f"held-out: {name}": group for name, group in scans.items()}}
    rows: list[list[str | float | int | None]] = []
    shares = {}
    for tissue in TISSUES:
        own, real = (float(np.mean([one.dice(tissue) for one in group])) for group in (cases, reference))
        shares[tissue] = own / real
        cells = [cell for group in groups.values() for cell in means(group, tissue)]
        rows.append([tissue, *cells, f"{np.mean([one.dice(tissue) for one in again]):.3f}", f"{own / real:.0%}"])
    columns = ["tissue"]
    for name, group in groups.items():
        columns += [f"{name} ({len(group)}), Dice", "volume"]
    columns += ["scans turned and shifted, Dice with themselves", "generated, of the first scans'"]
    cortex = [one.excess("cortex") for one in cases]
    result = Result(
        name="ruler",
        title="Generated T1w images, segmented by an independent network",
        tables=[
            Table(title="Dice with the labels that the image should show, and volume against theirs", columns=columns,
                  rows=rows),
            Table(
                title="Generated cases",
                columns=["case", *(f"{tissue}, Dice" for tissue in TISSUES), "cortex against labels"],
                rows=[
                    [one.name, *(round(one.dice(tissue), 3) for tissue in TISSUES), f"{one.excess('cortex'):+.1%}"]
                    for one in cases
                ],
            ),
        ],
        headlines=[
            Headline(
                what="Independent segmenter: Dice on generated T1w, of that on held-out scans ("
                + ", ".join(shares) + ")",
                figure=", ".join(f"{share:.0%}" for share in shares.values()),
                target=f"≥ {LEAST_DICE:.0%}",
                met=min(shares.values()) >= LEAST_DICE,
            ),
            Headline(
                what="… cortex that it sees in generated T1w, against the label map",
                figure=f"{np.mean(cortex):+.1%}, farthest {max(cortex, key=abs):+.1%}",
                target=f"within {MOST_CORTEX:.0%}",
                met=max(map(abs, cortex)) <= MOST_CORTEX,
            ),
        ],
        notes=[
            "MeshNet “model30chan18cls” of brainchop (MIT) on 1 mm; it has no fluid around the brain.",
            f"Labels of the first held-out scans ({next(iter(scans))}) are those of the same network on the scan as "
            "it was measured, resampled to the template with it: Dice says how well it agrees with itself on a "
            "resampled scan, the most that any image can reach. Donors were labelled by it as well.",
            f"“Turned and shifted”: by {DEGREES:g}° about every axis and {VOXELS:g} voxel, against itself before.",
            *(f"{name}: labels of another origin, at the grid of its cache." for name in list(scans)[1:]),
        ],
    )  # fmt: skip
    if arguments.pictures:
        Image.fromarray(picture(list(groups.values()))).save(arguments.pictures)
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
