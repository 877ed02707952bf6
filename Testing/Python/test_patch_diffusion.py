"""The pyramid of patch diffusion on small donors."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from BrainGenLib import anatomy
from BrainGenLib.diffusion import patches
from BrainGenLib.diffusion.patches import FACES, Found, PatchDenoiser, Patches
from BrainGenLib.diffusion.samplers import nothing
from BrainGenLib.donors import PAD, Donors
from BrainGenLib.methods import patch_diffusion

SHAPE = (48, 64, 48)
WHITE, CORTEX = (anatomy.classes_of(name=f"cerebral {name}")[0] for name in ("white matter", "cortex"))


def donors_of(count: int, shape: tuple[int, int, int], contrast: str | None = None) -> Donors:
    """Donors whose brains are random blocks of cortex in white matter."""
    unknown: list[None] = [None] * count
    made = Donors(count, list(shape), [8, 20, 0], list(map(str, range(count))), unknown, unknown, contrast)
    rng = np.random.default_rng(0)
    for row in range(count):
        small = rng.choice([WHITE, CORTEX], [n // 4 - 2 for n in shape]).astype(np.uint8)
        brain = small.repeat(4, 0).repeat(4, 1).repeat(4, 2)
        inside = (row, slice(4, -4), slice(4, -4), slice(PAD + 4, -PAD - 4))
        made.classes[inside] = torch.from_numpy(brain)
        if made.image is not None:
            made.image[inside] = torch.from_numpy(np.where(brain == WHITE, 180, 110).astype(np.uint8))
    return made


@pytest.fixture(scope="module")
def people() -> Donors:
    return donors_of(6, SHAPE)


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


def test_donors_near_in_age_have_larger_regions_and_none_too_large() -> None:
    ages = [20.0, 22.0, 24.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0, 65.0, None]
    plain = patch_diffusion.sizes_of_regions(ages, 0.3, None)
    np.testing.assert_allclose(plain, 0.25)
    np.testing.assert_allclose(patch_diffusion.sizes_of_regions([None] * 12, 0.3, 40.0), 0.25)
    # Ages that no donor has are those of the oldest.
    for age, oldest in ((22.0, False), (65.0, True), (90.0, True)):
        sizes = patch_diffusion.sizes_of_regions(ages, 0.3, age)
        assert sizes.sum() == pytest.approx(2)
        assert sizes.max() == pytest.approx(0.3)
        young, old = sizes[:4].sum(), sizes[7:11].sum()
        assert (old > 3 * young) if oldest else (young > 3 * old)
    # Too few donors to keep the limit take equal shares.
    np.testing.assert_allclose(patch_diffusion.sizes_of_regions([20.0, 80.0], 0.3, 20.0), 0.5)


def test_regions_are_as_large_as_they_should_be() -> None:
    people = donors_of(12, (96, 96, 96))
    people.ages = [19.0, 21.0, 26.0, 28.0, 28.0, 29.0, 33.0, 34.0, 42.0, 44.0, 50.0, 55.0]
    brain = people.brain.reshape(12, 8, 12, 8, 12, 8).mean((1, 3, 5))
    for age in (None, 22.0, 80.0):
        allowed = patch_diffusion.regions(people, 0.3, torch.Generator().manual_seed(1), age)
        found = (allowed * brain).sum((1, 2, 3)) / brain.sum()
        wanted = patch_diffusion.sizes_of_regions(people.ages, 0.3, age)
        np.testing.assert_allclose(found, wanted, atol=0.02)
        assert (allowed.sum(0) == (3 if age is None else 2)).all()


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


def test_a_guide_knows_how_much_fluid_there_is_and_leaves_where_to_the_donors() -> None:
    """Gyri of the estimate stay where the map's lie elsewhere; parts and all of the fluid get the map's volume."""
    shares = torch.zeros(7, 24, 24, 24)
    stripes = torch.arange(24) % 6 < 2
    shares[0, 6:18, 6:18] = 0.7 * stripes + 0.15
    shares[1, 6:18, 6:18] = 0.85 - shares[0, 6:18, 6:18]
    shares[2, 6:18, 6:18] = 0.15
    target = shares.roll(3, 3)
    target[0] *= 0.85
    target[1] = 0.85 * (target.sum(0) > 0) - target[0]
    guide = patch_diffusion.guide_to(target, np.array([0.0, 0.5, 1.0]))
    guided = guide(shares, 4)
    assert float(guided[0].sum()) == pytest.approx(patch_diffusion.FLUID * float(target[0].sum()), rel=0.01)
    assert float(guided.sum()) == pytest.approx(float(target.sum()), rel=0.01)
    inside = (slice(6, 18), slice(6, 18))
    assert np.corrcoef(guided[0][inside].ravel(), shares[0][inside].ravel())[0, 1] > 0.9


def test_tensor_operators_sample_what_compiled_loops_do(monkeypatch: pytest.MonkeyPatch) -> None:
    people = donors_of(3, (32, 48, 32), contrast="T1w")
    devices = []
    build = patch_diffusion.PatchDenoiser

    def watched(*arguments: object, device: str, **named: object) -> PatchDenoiser:
        devices.append(device)
        # Of a device that this machine may lack, its path on the CPU.
        return build(*arguments, device="cpu", **named)

    def sample(device: str) -> patch_diffusion.Anatomy:
        return patch_diffusion.sample(people, torch.Generator().manual_seed(0), nothing, share=0.4, device=device)

    loops = sample("cpu")
    monkeypatch.setattr(patch_diffusion, "PatchDenoiser", watched)
    monkeypatch.setattr(patches, "compiled", lambda: None)
    operators = sample("cuda:0")
    assert devices == ["cuda:0"] * 3
    assert (loops.classes == operators.classes).mean() > 0.999
    assert (loops.donor == operators.donor)[loops.classes > 0].mean() > 0.99
    assert loops.image is not None
    assert operators.image is not None
    assert np.quantile(np.abs(loops.image - operators.image), 0.99) < 1e-3


def test_memory_is_that_of_two_grids_beside_the_donors_maps() -> None:
    people = donors_of(3, (128, 64, 64), contrast="T1w")
    grid = 8 * 4 * 128 * 64 * 64
    tracemalloc.start()
    try:
        patch_diffusion.sample(people, torch.Generator().manual_seed(0), nothing)
        # Of NumPy: what was pasted and is sampled, the posterior mean, and slabs and maps of donors.
        assert tracemalloc.get_traced_memory()[1] < 2 * grid + people.classes.nbytes + 0.5 * grid
    finally:
        tracemalloc.stop()
