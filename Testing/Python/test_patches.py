"""The patch denoiser against the formula it stands for, on small random donors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from BrainGenLib.diffusion import patches
from BrainGenLib.diffusion.patches import CUBE, FACES, PatchDenoiser, Patches

CHANNEL = np.array([3, 0, 1, 2], np.uint8)
MIRROR = np.array([0, 2, 1, 3], np.uint8)
PAD = 8
INSIDE = (slice(None), *[slice(9, -9)] * 3)
"""Away from the grid's ends, which the formula does not know."""


def blocks_of_classes(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random classes in cubes of 2 voxels."""
    small = np.random.default_rng(seed).integers(0, 4, [shape[0], *(n // 2 for n in shape[1:])]).astype(np.uint8)
    return small.repeat(2, 1).repeat(2, 2).repeat(2, 3)


def exhaustive(
    x: np.ndarray, noise: float, donors: list[np.ndarray], offsets: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """The posterior mean (C, X, Y, Z) and the nearest candidate (X, Y, Z), straight from the formula."""
    moved = [np.roll(d, [-int(o) for o in offset], (1, 2, 3)) for d, offset in itertools.product(donors, offsets)]
    size = 2 * radius + 1
    distances = np.stack(
        [ndimage.uniform_filter(((x - m) ** 2).sum(0), size, mode="nearest") * size**3 for m in moved]
    )
    shares = np.exp(-(distances - distances.min(0)) / (2 * noise**2))
    shares /= shares.sum(0)
    return np.einsum("kxyz,kcxyz->cxyz", shares, np.stack(moved)), distances.argmin(0)


@pytest.fixture(params=["compiled", "torch"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(patches, "compiled", lambda: None)
    return request.param


@pytest.mark.parametrize("radius", [1, 3])
def test_maps_are_denoised_as_the_formula_says(kernel: str, radius: int) -> None:
    rng = np.random.default_rng(0)
    maps = np.rint(ndimage.gaussian_filter(rng.random((3, 2, 32, 32, 32 + 2 * PAD)), (0, 0, 1, 1, 1)) * 255).astype(
        np.uint8
    )
    maps[..., :PAD] = maps[..., -PAD:] = 0
    weights = np.array([1.0, 2.0])
    roots = np.sqrt(weights)[:, None, None, None]
    clean = [m[..., PAD:-PAD] / 255 * roots for m in maps]
    clean = [version for m in clean for version in (m, m[:, ::-1])]
    denoiser = PatchDenoiser(
        Patches(2, ((0.0, radius),), (8, 16, 16), CUBE), weights, np.ones((32, 32, 32), bool), PAD, maps=maps
    )
    step = patches.steps([0.6])[0]
    x = clean[0] + 0.6 * rng.standard_normal(clean[0].shape)
    mean = denoiser(torch.from_numpy(x[None] * step.alpha).float(), step)[0].numpy()
    wanted, nearest = exhaustive(x, 0.6, clean, CUBE, radius)
    np.testing.assert_allclose(mean[INSIDE], wanted[INSIDE], atol=1e-4)
    assert denoiser.found is not None
    found = denoiser.found.candidate * len(CUBE) + denoiser.found.offset
    assert (found == nearest)[INSIDE[1:]].mean() > 0.999


def test_donors_are_used_where_they_are_allowed(kernel: str) -> None:
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 256, (3, 1, 16, 16, 16 + 2 * PAD)).astype(np.uint8)
    allowed = np.zeros((6, 4, 4, 4), bool)
    # Everywhere, even where it is the only one; the other half of the grid has one that is nearer.
    allowed[2] = True
    allowed[5, :, :, :2] = True
    denoiser = PatchDenoiser(
        Patches(2, ((0.0, 1),), (8, 8, 8), FACES),
        np.ones(1),
        np.ones((16, 16, 16), bool),
        PAD,
        maps=maps,
        allowed=allowed,
    )
    near_the_third = torch.from_numpy(maps[2, :, ::-1, :, PAD:-PAD].copy() / np.float32(255))[None]
    step = patches.steps([0.3])[0]
    mean = denoiser(near_the_third * step.alpha, step)[0, 0].numpy()
    found = denoiser.found
    assert found is not None
    assert found.near is not None
    inner = slice(3, -3)
    assert (found.candidate[inner, inner, 3:8] == 5).all()
    assert (found.candidate[..., 8:] == 2).all()
    assert (found.near[[0, 1, 3, 4]] == 0).all()
    np.testing.assert_allclose(mean[inner, inner, 3:8], near_the_third[0, 0, inner, inner, 3:8].numpy(), atol=1e-3)
    # Where nobody is allowed, but in the block, those are used.
    denoiser.allowed = np.zeros_like(allowed)
    denoiser.allowed[2, :, :, 0] = True
    denoiser(near_the_third * step.alpha, step)
    assert (denoiser.found.candidate[..., :8] == 2).all()
    assert (denoiser.found.candidate[inner, inner, 8:-3] == 5).all()
    # Where nobody is allowed in all of it, the nearest is used.
    denoiser.allowed = np.zeros_like(allowed)
    denoiser(near_the_third * step.alpha, step)
    assert denoiser.found is not None
    assert (denoiser.found.candidate[inner, inner, inner] == 5).all()


def test_classes_and_an_image_are_denoised_as_the_formula_says(kernel: str) -> None:
    rng = np.random.default_rng(1)
    classes = blocks_of_classes((3, 32, 32, 32 + 2 * PAD), 2)
    image = rng.integers(0, 256, classes.shape).astype(np.uint8)
    weights = np.array([0.5, 0.5, 0.5, 2.0])
    roots = np.sqrt(weights)[:, None, None, None]

    def channels(each: np.ndarray, shades: np.ndarray) -> np.ndarray:
        codes = CHANNEL[each]
        return np.stack([*(codes == c for c in range(3)), shades / 255]) * roots

    clean = []
    for each, shades in zip(classes[..., PAD:-PAD], image[..., PAD:-PAD], strict=True):
        clean += [channels(each, shades), channels(MIRROR[each[::-1]], shades[::-1])]
    # The channel of a class is that of its mirror image in the library; here classes 1 and 2 change places.
    plain = PatchDenoiser(
        Patches(1, ((0.0, 2),), (8, 8, 16), FACES),
        weights,
        np.ones((32, 32, 32), bool),
        PAD,
        classes=classes,
        image=image,
        channel=np.array([3, 0, 0, 2], np.uint8),
        mirror=MIRROR,
    )
    for each in clean:
        each[0] = np.maximum(each[0], each[1])
        each[1] = 0
    step = patches.steps([4.0])[0]
    x = clean[0] + 4.0 * rng.standard_normal(clean[0].shape)
    mean = plain(torch.from_numpy(x[None] * step.alpha).float(), step)[0].numpy()
    wanted, nearest = exhaustive(x, 4.0, clean, FACES, 2)
    np.testing.assert_allclose(mean[INSIDE], wanted[INSIDE], atol=1e-4)
    assert plain.found is not None
    found = plain.found.candidate * len(FACES) + plain.found.offset
    assert (found == nearest)[INSIDE[1:]].mean() > 0.999
    at = (16, 16, 16)
    assert plain.found.labels is not None
    assert plain.found.labels[at] < 4


def test_blocks_tile_a_grid() -> None:
    brain = np.zeros((16, 16, 16), bool)
    brain[9, 3, 3] = True
    denoiser = PatchDenoiser(
        Patches(4, ((0.0, 1),), (8, 8, 8)), np.ones(1), brain, 2, maps=np.zeros((1, 1, 16, 16, 20), np.uint8)
    )
    np.testing.assert_array_equal(denoiser.corners, [[8, 0, 0]])
    with pytest.raises(ValueError, match="cannot be divided"):
        PatchDenoiser(
            Patches(1, ((0.0, 1),), (4, 8, 8)), np.ones(1), brain, 2, maps=np.zeros((1, 1, 16, 16, 20), np.uint8)
        )
