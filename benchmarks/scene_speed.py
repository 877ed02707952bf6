"""How long each step holds up a front end when a 1 mm case comes into a scene, is read back, and leaves.

python benchmarks/scene_speed.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from BrainGenLib import anatomy, spaces
from BrainGenLib.case import Case
from BrainGenLib.scene import cases
from BrainGenLib.scene.bootstrap import headless
from BrainGenLib.scene.case_to_scene import adding
from BrainGenLib.scene.segmentation import label_map_of

ROUNDS = 5


def phantom() -> Case:
    """All labels in slabs, and two images of noise."""
    labels = np.zeros(spaces.GRID_1MM.shape, np.uint16, order="F")
    for index, label in enumerate(anatomy.labels()[1:]):
        labels[20 + 3 * index : 23 + 3 * index, 30:190, 20:140] = label.value
    noise = np.random.default_rng(0).random(labels.shape, np.float32)
    images = {name: np.asfortranarray(noise * (labels > 0)) for name in ("T1w", "FLAIR")}
    return Case(images, labels, spaces.GRID_1MM.affine, {"volumes_ml": {"brainstem": 20.0}})


def main() -> None:
    case, stage = phantom(), headless()
    times: dict[str, list[float]] = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = action()
        times.setdefault(name, []).append(1000 * (time.perf_counter() - start))
        return result

    for _ in range(ROUNDS):
        steps: Iterator[Any] = adding(stage.scene, case, "case")
        nodes: Any = None
        for name in ("first volume", "second volume", "segmentation", "request, table, folder"):
            nodes = timed(name, partial(next, steps))
        timed("label map of the segmentation", partial(label_map_of, nodes.segmentation))
        del nodes, steps  # the last references: what is removed is also freed
        timed("removal", lambda: cases.remove_case(stage.scene, "case"))
    for name, values in times.items():
        print(f"{name:32s} {np.median(values):6.1f} ms (longest {max(values):.0f})")


if __name__ == "__main__":
    main()
