"""A bundle of a user's own donors: how long `braingen train donors`, its export and a case take, and its pictures.

python benchmarks/own_donors.py --cache CACHE --out benchmarks/results/own_donors.json [--donors 10]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from BrainGenLib.evaluation.results import Headline, Result, Table

PICTURES = Path(__file__).parents[1] / "docs" / "images"
WIDTH = 1600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache with scans of 1 mm")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--donors", type=int, default=10)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        bundles = Path(folder) / "bundles"
        run = Path(folder) / "run"
        seconds = {
            "train donors": braingen(
                bundles, "train", "donors", arguments.cache.absolute(), run, "--steps", arguments.donors
            ),
            "train export donors": braingen(bundles, "train", "export", "donors", run, bundles / "own"),
        }
        contrast = torch.load(run / "donors.pt", weights_only=True)["arguments"]["contrast"]
        seconds[f"generate, {contrast}"] = braingen(
            bundles, "generate", "--bundle", "own", "--contrast", contrast, "--out", Path(folder) / "cases"
        )
        size = (bundles / "own" / "models" / "donors.safetensors").stat().st_size / 1e6
        for name in ("donors", "sample"):
            (path,) = (run / "samples").glob(f"{name}-*.png")
            with Image.open(path) as picture:
                picture.thumbnail((WIDTH, WIDTH))
                picture.quantize(128).save(PICTURES / f"own_{name}.png", optimize=True)
    result = Result(
        name="own_donors",
        title="A bundle of one's own donors",
        settings={"donors": arguments.donors, "contrast": contrast},
        headlines=[
            Headline(
                what=f"A bundle of {arguments.donors} scans of one's own, prepared before",
                figure=f"{seconds['train donors'] + seconds['train export donors']:.0f} s",
            )
        ],
        tables=[
            Table(
                title="Seconds",
                columns=["command", "seconds"],
                rows=[[f"`braingen {name}`", round(value, 1)] for name, value in seconds.items()],
            )
        ],
        notes=[
            "Fresh processes, start of Python included. `train donors` samples an anatomy for its picture.",
            f"The donors take {size:.1f} MB in the bundle.",
            "![Donors](images/own_donors.png)",
            "![A sample, and whose anatomy it is](images/own_sample.png)",
        ],
    )
    result.print()
    result.save(arguments.out)


def braingen(bundles: Path, *arguments: object) -> float:
    """Seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "from BrainGenLib.cli import app; app()", *map(str, arguments)],
        env={**os.environ, "BRAINGEN_BUNDLES": str(bundles)},
        check=True,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
