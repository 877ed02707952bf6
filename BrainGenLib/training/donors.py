"""Recipe: the donors of patch diffusion, chosen from a training cache. Nothing is trained.

A bundle with donors holds the scans of people: it may be shared as far as the scans may.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from BrainGenLib import attribution, devices
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.donors import MULTIPLE, PAD, RANGE, Donors, check_memory, encoded
from BrainGenLib.methods import patch_diffusion
from BrainGenLib.methods.scan_texture import intensities
from BrainGenLib.spaces import GRID_1MM
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.donor_material import Person, chosen, name_of, people_of
from BrainGenLib.training.pictures import GREYS, LABEL_COLORS, views
from BrainGenLib.training.run import Run

MARGIN = 4
"""Voxels around the brains of all donors."""
SHOWN = 12
"""Donors in a picture, the youngest first."""


def train(
    cache: Path,
    out: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
) -> None:
    """Choose at most ``steps`` donors (all if None), spread over ages, and write them to ``out``, with their pictures
    and that of a sample. Scans without labels are segmented on ``device``.

    Raises:
        BadInput: the cache holds too few people who can be donors.
        OutOfMemory: they need more memory than there is.
    """
    data = Cache(cache)
    cases, contrast = chosen(data, steps)
    check_memory(len(cases), GRID_1MM.shape)
    people = people_of(data, cases, contrast, devices.pick(device))
    donors = gathered(people, contrast)
    used = {person.name for person in people}
    sources = sorted({f"{c.dataset} ({c.licence or 'licence not stated'})" for c in cases if name_of(c) in used})
    study = {name_of(case): case.dataset for case in cases}
    run = Run(out, {}, {})
    among = attribution.among_people(donors)
    saved = {
        "arguments": donors.arguments,
        "state": donors.state_dict(),
        "sources": sources,
        "studies": [study[name] for name in donors.names],
        "among": among,
    }
    temporary = out / "donors.pt.part"
    torch.save(saved, temporary)
    os.replace(temporary, out / "donors.pt")
    for run.step, person in enumerate(people, 1):
        run.record(likeness_to_template=person.likeness)
    run.record(**{f"{name}_{which}": value for name, found in among.items() for which, value in found.items()})
    del people
    inside = (..., slice(PAD, -PAD))
    pictures = [
        _shown(
            donors,
            donors.classes[row][inside].numpy(),
            None if donors.image is None else donors.image[row][inside].numpy(),
        )
        for row in range(min(len(donors), SHOWN))
    ]
    run.picture("donors", np.concatenate(pictures, 1))
    made = patch_diffusion.sample(donors, torch.Generator().manual_seed(0), nothing)
    image = None if made.image is None else encoded(made.image, made.classes > 0)
    whose = (made.donor // 2 + 1) * (made.classes > 0)
    colors = np.random.default_rng(0).uniform(0.2, 1, (len(donors) + 1, 3))
    colors[0] = 0
    run.picture("sample", np.concatenate([_shown(donors, made.classes, image), views(whose, colors)], 1))
    print(f"{len(donors)} donors in {out / 'donors.pt'}.", flush=True)


def gathered(people: list[Person], contrast: str | None) -> Donors:
    """People on the part of the grid that holds them all, with images of that contrast."""
    box = around([person.classes for person in people])
    donors = Donors(
        len(people),
        [part.stop - part.start for part in box],
        [part.start for part in box],
        [person.name for person in people],
        [person.age for person in people],
        [person.sex for person in people],
        contrast,
    )
    ends = [(0, 0), (0, 0), (PAD, PAD)]
    for row, person in enumerate(people):
        donors.classes[row] = torch.from_numpy(np.pad(person.classes[box], ends))
        if donors.image is not None and person.image is not None:
            donors.image[row] = torch.from_numpy(np.pad(person.image[box], ends))
    if contrast:
        brightness = np.mean([person.brightness for person in people if person.brightness is not None], 0)
        donors.landmarks.copy_(torch.from_numpy(brightness))
    return donors


def around(maps: list[np.ndarray]) -> tuple[slice, ...]:
    """The part of GRID_1MM that holds all brains and their mirror images: symmetric, its sides multiples."""
    brain = np.zeros(GRID_1MM.shape, bool)
    for classes in maps:
        brain |= classes > 0
    brain |= brain[::-1]
    (found,) = ndimage.find_objects(brain.astype(np.uint8))
    box = []
    for part, n in zip(found, GRID_1MM.shape, strict=True):
        size = min(-(-(part.stop - part.start + 2 * MARGIN) // MULTIPLE) * MULTIPLE, n)
        start = min(max((part.start + part.stop - size) // 2, 0), n - size)
        # Voxels of the grid at 2 mm are whole there.
        start -= start % 2
        box.append(slice(start, start + size))
    return tuple(box)


def _shown(donors: Donors, classes: np.ndarray, image: np.ndarray | None) -> np.ndarray:
    """Labels, and beside them the image as donors have it, if there is one."""
    labels = views(classes, LABEL_COLORS)
    if image is None:
        return labels
    values = image * ((RANGE[1] - RANGE[0]) / 255) + RANGE[0]
    grey = (255 * intensities(values, donors.knots, classes > 0)).astype(np.uint8)
    return np.concatenate([labels, views(grey, GREYS)], 1)
