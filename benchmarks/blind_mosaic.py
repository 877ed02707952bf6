"""A mosaic of real and synthetic slices in random order, to guess which is which; the key is a separate file.

Only scans whose licence allows it are shown (CC0, CC BY), as downsized slices.

    python benchmarks/blind_mosaic.py --cache CACHE --synthetic SYNTHETIC --out docs/images/blind_mosaic.png
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from BrainGenLib.evaluation.looks import standardised
from BrainGenLib.training.cache import Cache, CachedCase

COLUMNS = 6
TILE = (140, 190)  # pixels, left-right by front-back: less than the slices' own 160 by 224
ATTRIBUTION = {
    "ds002748": "Bezmaternykh et al. 2021, OpenNeuro ds002748 (CC0)",
    "open_ms": "Lesjak et al. 2018, 2016 (CC BY)",
}


@dataclass
class Tile:
    """One slice and the truth about it."""

    picture: Image.Image
    contrast: str
    truth: str
    source: str


def may_be_shown(case: CachedCase) -> bool:
    """Whether the licence lets anyone show pictures with no more than attribution."""
    return case.dataset in ATTRIBUTION and case.licence.startswith(("CC0", "CC BY")) and "SA" not in case.licence


def slices(
    cache: Cache, cases: list[CachedCase], contrast: str, truth: str, rng: np.random.Generator, count: int
) -> list[Tile]:
    """Axial slices at random heights through the ventricles and above, one of each case in turn."""
    tiles = []
    for number in range(count if cases else 0):
        case = cases[number % len(cases)]
        image = standardised(cache.image(case, contrast), cache.labels(case))
        height = int(rng.integers(70, 115))
        turned = Image.fromarray((image[:, :, height].T[::-1] * 255).astype(np.uint8)).resize(
            TILE, Image.Resampling.LANCZOS
        )
        tiles.append(Tile(turned, contrast, truth, ATTRIBUTION.get(case.dataset, "BrainGen")))
    return tiles


def draw(tiles: list[Tile]) -> Image.Image:
    """All tiles with their names, A1 at the top left."""
    width, height = TILE
    rows = -(-len(tiles) // COLUMNS)
    page = Image.new("L", (COLUMNS * (width + 4), rows * (height + 4)), 0)
    pen = ImageDraw.Draw(page)
    for number, tile in enumerate(tiles):
        x, y = number % COLUMNS * (width + 4), number // COLUMNS * (height + 4)
        page.paste(tile.picture, (x, y))
        pen.text((x + 3, y + 3), f"{name_of(number)} {tile.contrast}", fill=255)
    return page


def name_of(number: int) -> str:
    """A1 … A6, B1 …"""
    return f"{chr(ord('A') + number // COLUMNS)}{number % COLUMNS + 1}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="training cache: real scans")
    parser.add_argument("--synthetic", type=Path, required=True, help="folder that synthetic_cases.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="PNG file; the key is written beside it")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cache, generated = Cache(arguments.cache), Cache(arguments.synthetic / "generated")
    rng = np.random.default_rng(arguments.seed)
    tiles = []
    # T1w of healthy people are plentiful and free to show; few lesioned scans are, so few slices of other contrasts.
    for contrast, count in (("T1w", 6), ("T2w", 3), ("FLAIR", 3)):
        real = [case for case in cache.select(contrast=contrast, spacing=1, labelled=True) if may_be_shown(case)]
        if contrast == "T1w":
            real = [case for case in real if case.dataset == "ds002748"]
        lesions = {name for case in real for name in case.pathologies}
        synthetic = [
            case
            for case in generated.select(contrast=contrast)
            if (lesions & set(case.pathologies) if lesions else not case.pathologies)
        ]
        tiles += slices(cache, real, contrast, "real", rng, count)
        tiles += slices(generated, synthetic, contrast, "synthetic", rng, count)
    tiles = [tiles[i] for i in rng.permutation(len(tiles))]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    draw(tiles).save(arguments.out, optimize=True)
    with arguments.out.with_name(f"{arguments.out.stem}_key.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("tile", "contrast", "truth", "source"))
        writer.writerows(
            (name_of(number), tile.contrast, tile.truth, tile.source) for number, tile in enumerate(tiles)
        )


if __name__ == "__main__":
    main()
