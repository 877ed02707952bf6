"""The pyramid of patch diffusion on small donors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from BrainGenLib import anatomy
from BrainGenLib.diffusion.patches import FACES, Found, PatchDenoiser, Patches
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.donors import PAD, Donors
from BrainGenLib.methods import patch_diffusion

SHAPE = (48, 64, 48)
WHITE, CORTEX = (anatomy.classes_of(name=f"cerebral {name}")[0] for name in ("white matter", "cortex"))


@pytest.fixture(scope="module")
def people() -> Donors:
    """Six donors whose brains are random blocks of cortex in white matter."""
    made = Donors(6, SHAPE, (8, 20, 0), list("abcdef"), [np.nan] * 6, [""] * 6, None)
    rng = np.random.default_rng(0)
    for row in range(6):
        small = rng.choice([WHITE, CORTEX], (10, 14, 10)).astype(np.uint8)
        brain = small.repeat(4, 0).repeat(4, 1).repeat(4, 2)
        made.classes[row, 4:-4, 4:-4, PAD + 4 : -PAD - 4] = torch.from_numpy(brain)
    return made


def test_no_grid_uses_a_donor_where_it_is_not_allowed(people: Donors, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    level = patch_diffusion._level

    def watched(*arguments: object) -> tuple[torch.Tensor, Found]:
        z, found = level(*arguments)
        used.append(found.candidate // 2)
        return z, found

    monkeypatch.setattr(patch_diffusion, "_level", watched)
    generator = torch.Generator().manual_seed(3)
    patch_diffusion.sample(people, generator, nothing, share=0.34)
    allowed = patch_diffusion.regions(people, 0.34, torch.Generator().manual_seed(3))
    assert allowed.mean() == pytest.approx(1 / 3)
    for donor, spacing in zip(used[:2], (4, 2), strict=True):
        cell = 8 // spacing
        fine = allowed.repeat(cell, 1).repeat(cell, 2).repeat(cell, 3)
        assert np.take_along_axis(fine, donor[None], 0).all()


def test_a_finer_grid_starts_from_the_voxels_that_were_found() -> None:
    rng = np.random.default_rng(1)
    maps = rng.integers(0, 256, (2, 1, 8, 8, 8 + 2 * 4)).astype(np.uint8)
    denoiser = PatchDenoiser(Patches(2, ((0.0, 1),), (8, 8, 8)), np.ones(1), np.ones((8, 8, 8), bool), 4, maps=maps)
    candidate, offset = np.full((4, 4, 4), 2, np.int32), np.zeros((4, 4, 4), np.int32)
    candidate[1, 1, 1], offset[1, 1, 1] = 1, 5
    coarse = Found(candidate, offset, np.ones((4, 4, 4), np.float32))
    pasted = patch_diffusion.pasted_maps(denoiser, coarse, Patches(4, ((0.0, 1),), (4, 4, 4), FACES))[0].numpy() * 255
    assert pasted[0, 3, 7] == pytest.approx(maps[1, 0, 0, 3, 7 + 4])
    # The first donor mirrored, moved by a voxel of 4 mm along the last axis.
    assert tuple(FACES[5]) == (0, 0, 1)
    assert pasted[2, 3, 3] == pytest.approx(maps[0, 0, 7 - 2, 3, 3 + 2 + 4])
