"""Time and memory of rendering one contrast at 1 mm: ``python benchmarks/render_speed.py [--threads 2]``."""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch

from BrainGenLib import bundles, spaces
from BrainGenLib.methods.brainspade import Renderer, render
from BrainGenLib.reporting import Silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = Renderer.from_bundle(bundles.find("brainspade3d"), arguments.device)
    # Blocks of random classes: speed and memory do not depend on what is drawn.
    blocks = np.random.default_rng(0).integers(1, 33, [side // 16 for side in spaces.GRID_1MM.shape], np.uint8)
    classes = blocks.repeat(16, 0).repeat(16, 1).repeat(16, 2)
    tissue = np.full([side // 2 for side in classes.shape], 0.5, np.float32)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        start = time.perf_counter()
        render(model, classes, tissue, model.contrasts[0], style=None, seed=0, report=Silent())
        print(f"{time.perf_counter() - start:.1f} s with {arguments.threads} thread(s)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / 1e6:.2f} GB, {(peak - loaded) / 1e6:.2f} GB of it for rendering")


if __name__ == "__main__":
    main()
