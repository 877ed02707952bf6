"""How long does it take to sample an anatomy by patch diffusion, and how much memory? Over donors and over spacing.

Beside the prototype that it grew from, if its folder is given: labels at 1 mm of the same donors, in one run. Every
figure is of a fresh process with one thread; compiled loops come from a cache that was filled before.

    python benchmarks/patch_speed.py --cache CACHE --out benchmarks/results/patch_speed.json \
        [--prototype FOLDER] [--picture docs/images/patch_speed.png]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from BrainGenLib.evaluation.results import Headline, Result, Table

RATIO, MEMORY_GB, MANY = 0.5, 1.5, 50
COUNTS = (10, 20, MANY, 100, 200, 400)
SHIFT = 4
"""Voxels of background around all brains, and so the furthest that one may be moved."""
SPACINGS = (4, 2, 1)
Rows = list[list[str | float | int | None]]


def ours(source: Path, count: int, painted: bool, seed: int, side: int | None = None) -> dict[str, Any]:
    """Sample and tidy an anatomy of ``count`` donors; what that took.

    Args:
        source: file of :func:`prepare`.
        painted: whether donors have images.
        side: voxels of the grid, of a try that compiles the loops.
    """
    import torch

    from BrainGenLib.methods import patch_diffusion, topology

    torch.set_num_threads(1)
    people = several(source, count, painted, side)
    started = time.process_time()
    ends: list[tuple[float, float]] = []

    def finished(index: int, x: object, z: object) -> None:
        ends.append((time.process_time() - started, peak()))

    sampled = patch_diffusion.sample(people, torch.Generator().manual_seed(seed), finished)
    topology.without_handles(topology.without_islands(sampled.classes))
    took, most = time.process_time() - started, peak()
    levels = (patch_diffusion.COARSE, patch_diffusion.MIDDLE)
    after = np.cumsum([len(level.noises) for level in levels]) - 1
    return {"seconds": took, "gigabytes": most, "spacings": [*(ends[index] for index in after), (took, most)]}


def prototype(folder: str, source: Path, seed: int, side: int | None = None) -> dict[str, Any]:
    """The same of labels by the prototype, whose donors are pooled before time is taken."""
    sys.path.insert(0, folder)
    import fast
    import topology

    from BrainGenLib import anatomy
    from BrainGenLib.donors import channels, groups

    with np.load(source) as found:
        labels = found["classes"]
    if side is not None:
        labels = np.ascontiguousarray(labels[(slice(None), *middle(labels.shape[1:], side))])
    both = np.empty((2 * len(labels), *labels.shape[1:]), np.uint8)
    both[0::2], both[1::2] = labels, np.array(anatomy.mirrored_classes(), np.uint8)[labels[:, ::-1]]
    people = fast.Donors(both, channels(), [1.0] * len(groups()))
    white, cortex = (list(anatomy.classes_of(name=f"cerebral {part}")) for part in ("white matter", "cortex"))
    inside = [
        *anatomy.classes_of(tissue="deep_gm", kind="structure"),
        *(index for name in ("lateral ventricle", "inferior lateral ventricle", "third ventricle")
          for index in anatomy.classes_of(name=name)),
    ]  # fmt: skip
    started = time.process_time()
    made = fast.sample(people, np.random.default_rng(seed), fast.capped(share=0.3))
    islands = topology.without_islands(made["labels"], list(anatomy.classes_of(name="extraventricular CSF")))
    topology.without_handles(islands, white, inside, cortex)
    return {"seconds": time.process_time() - started, "gigabytes": peak()}


def several(source: Path, count: int, painted: bool, side: int | None) -> Any:
    """``count`` donors: the people of a file, then copies of them, mirrored or not, moved by some voxels."""
    import torch

    from BrainGenLib import anatomy
    from BrainGenLib.donors import PAD, Donors

    mirror = np.array(anatomy.mirrored_classes(), np.uint8)
    with np.load(source) as found:
        classes, image, corner = found["classes"], found["image"], found["corner"]
    if side is not None:
        part = (slice(None), *middle(classes.shape[1:], side))
        classes, image = classes[part], image[part]
    unknown: list[Any] = [None] * count
    people = Donors(
        count,
        list(classes.shape[1:]),
        corner.tolist(),
        list(map(str, range(count))),
        unknown,
        unknown,
        "T1w" if painted else None,
    )
    for row in range(count):
        copy, one = divmod(row, len(classes))
        moves = np.random.default_rng(row).integers(-SHIFT, SHIFT + 1, 3) * (copy > 0)
        for volume, goal, table in ((classes, people.classes, mirror), (image, people.image, None)):
            if goal is not None:
                each = volume[one] if copy % 2 == 0 else volume[one, ::-1]
                each = table[each] if copy % 2 and table is not None else each
                goal[row, ..., PAD:-PAD] = torch.from_numpy(np.roll(each, tuple(moves), (0, 1, 2)))
    return people


def middle(shape: tuple[int, ...], side: int) -> tuple[slice, ...]:
    return tuple(slice((n - side) // 2, (n + side) // 2) for n in shape)


def peak() -> float:
    """Largest resident memory of this process so far, GB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def in_fresh_process(call: str, loops: Path) -> dict[str, Any]:
    """What a call of this module returns, on one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    code = f"import json, patch_speed\nfrom pathlib import Path\nprint(json.dumps(patch_speed.{call}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env=os.environ | one | {"NUMBA_CACHE_DIR": str(loops)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    print(call, done.stdout.strip(), flush=True)
    return dict(json.loads(done.stdout))


def prepare(cache: Path, count: int, out: Path) -> int:
    """Write the donors of ``count`` people at most; how many there are."""
    from sampled_anatomies import donors_of, scanned

    from BrainGenLib.donors import PAD
    from BrainGenLib.training.cache import Cache

    data = Cache(cache)
    people = donors_of(data, scanned(data, "train")[:count])
    assert people.image is not None
    corner = [side.start for side in people.box]
    np.savez(out, classes=people.classes[..., PAD:-PAD], image=people.image[..., PAD:-PAD], corner=corner)
    return len(people)


def picture(rows: Rows, spacings: Rows, out: Path) -> None:
    """CPU seconds and memory over donors and over spacing."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6), layout="constrained")
    for column, (across, found) in enumerate((("donors", rows), ("spacing of the finest grid (mm)", spacings))):
        for row, what in enumerate(("CPU seconds, one thread", "peak memory (GB)")):
            axis = axes[row, column]
            for offset, name in ((1, "labels"), (3, "T1w with labels")):
                axis.plot([one[0] for one in found], [one[offset + row] for one in found], "o-", label=name)
            axis.set(xlabel=across, ylabel=what, xscale="log", yscale="log" if column == 0 else "linear")
            axis.set_xticks([one[0] for one in found], [str(one[0]) for one in found])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    axes[0, 0].legend()
    figure.savefig(out, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache, of labels as they were given")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--prototype", type=Path, help="folder with the prototype's fast.py and topology.py")
    parser.add_argument("--picture", type=Path, help="PNG file")
    parser.add_argument("--donors", type=int, default=14, help="people beside the prototype")
    parser.add_argument("--seeds", type=int, default=3, help="of each; the median counts")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: one seed, 4 and 8 donors")
    arguments = parser.parse_args()
    counts = (4, 8) if arguments.quick else COUNTS
    seeds = range(1 if arguments.quick else arguments.seeds)
    result = Result(name="patch_speed", title="Time and memory of patch diffusion")
    with tempfile.TemporaryDirectory() as name:
        source, loops = Path(name) / "people.npz", Path(name) / "loops"
        people = prepare(arguments.cache, 4 if arguments.quick else arguments.donors, source)

        def of(function: str, seed: int, *values: object) -> dict[str, Any]:
            given = ", ".join(map(repr, values)).replace("PosixPath", "Path")
            return in_fresh_process(f"{function}({given}, seed={seed})", loops)

        def median(function: str, *values: object) -> tuple[float, float]:
            found = [of(function, seed, *values) for seed in seeds]
            seconds, gigabytes = (np.median([one[key] for one in found]) for key in ("seconds", "gigabytes"))
            return float(seconds), float(gigabytes)

        for painted in (False, True):
            in_fresh_process(f"ours(Path({str(source)!r}), 2, {painted}, 0, side=64)", loops)
        rows: Rows = []
        mine = median("ours", source, people, False)
        if arguments.prototype is not None:
            folder = str(arguments.prototype.resolve())
            in_fresh_process(f"prototype({folder!r}, Path({str(source)!r}), 0, side=64)", loops)
            theirs = median("prototype", folder, source)
            rows.append(["prototype", *theirs])
            ratio = mine[0] / theirs[0]
            result.headlines.append(
                Headline(
                    what=f"Labels at 1 mm of {people} donors, CPU seconds beside the prototype's",
                    figure=f"{mine[0]:.1f} s of {theirs[0]:.1f} s, {ratio:.2f}×",
                    target=f"≤ {RATIO}×",
                    met=ratio <= RATIO,
                )
            )
        rows.append(["BrainGen", *mine])
        over_donors: Rows = []
        over_spacing: Rows = []
        for count in counts:
            plain, with_image = (of("ours", 0, source, count, painted) for painted in (False, True))
            pairs = [(one["seconds"], one["gigabytes"]) for one in (plain, with_image)]
            over_donors.append([count, *pairs[0], *pairs[1]])
            if count == counts[0]:
                over_spacing = [
                    [spacing, *plain["spacings"][index], *with_image["spacings"][index]]
                    for index, spacing in enumerate(SPACINGS)
                ]
            if count == MANY:
                result.headlines.append(
                    Headline(
                        what=f"Peak memory of a T1w image with labels, {MANY} donors",
                        figure=f"{pairs[1][1]:.2f} GB",
                        target=f"≤ {MEMORY_GB} GB",
                        met=pairs[1][1] <= MEMORY_GB,
                    )
                )
    figures = ["labels: CPU s", "labels: peak GB", "T1w with labels: CPU s", "T1w with labels: peak GB"]
    result.tables = [
        Table(title=f"Labels at 1 mm of {people} people", columns=["", "CPU s", "peak GB"], rows=rows),
        Table(
            title=f"Over donors: {people} people, then copies of them, mirrored or not and moved by up to {SHIFT} mm",
            columns=["donors", *figures],
            rows=over_donors,
        ),
        Table(
            title=f"Over the spacing of the finest grid, {counts[0]} donors", columns=["mm", *figures],
            rows=over_spacing,
        ),
    ]  # fmt: skip
    result.notes = [
        "Every row is a fresh process with one thread; peaks include Python and PyTorch, seconds leave them out. "
        "Sampling without a guide, and tidying; BrainGen's seconds hold the pooling of donors to 2 and 4 mm, the "
        "prototype's do not.",
    ]
    result.settings = {"donors": people, "seeds": len(seeds)}
    result.print()
    result.save(arguments.out)
    if arguments.picture is not None:
        picture(over_donors, over_spacing, arguments.picture)


if __name__ == "__main__":
    main()
