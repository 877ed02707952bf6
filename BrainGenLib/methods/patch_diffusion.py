"""Anatomy sampled by closed-form patch diffusion: label maps of 1 mm that fold, and images with them.

A pyramid of grids, coarse to fine (:class:`~BrainGenLib.diffusion.patches.PatchDenoiser` on each): layout is decided
at 4 mm, gyri at 2 mm, borders and texture at 1 mm. Every grid says how near each donor was, so the next one compares
only the nearest of every block, and starts from donors pasted as they were found, plus noise: a mean of donors that
disagree has no sulci, and looks most like donors with fused cortex. The finest grid ends in a vote over classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from BrainGenLib import anatomy, donors
from BrainGenLib.diffusion import patches
from BrainGenLib.diffusion.patches import CELL_MM, CUBE, FACES, Found, PatchDenoiser, Patches
from BrainGenLib.diffusion.samplers import Callback, sample_ddim
from BrainGenLib.diffusion.schedules import Denoiser
from BrainGenLib.donors import PAD, RANGE, Donors
from BrainGenLib.requests import MAX_SHARE

LABEL_WEIGHT = 0.5
"""Of the channels of labels where there is an image, whose weight is that of a unit of the image, 1."""
REGION_MM = 20.0
"""Smoothness (one standard deviation) of the regions in which donors may be used."""
BALANCING_ROUNDS, BALANCING_PACE = 20, 0.3
"""After which such regions are as large as they should be within 2 % of the brain."""
FASTEST = 3.0
"""Excess of a region, over its size, beyond which it shrinks no faster."""
NEAR_YEARS = 10.0
"""Difference of ages (one standard deviation of a Gaussian) by which donors count less where an age is asked for."""
STRANGE = 0.02
"""How much donors of any other age count, over those of that age."""
OF_AN_AGE = 2 / 3
"""Donors that are allowed at a voxel where an age is asked for, over those without: room to prefer some."""

TEXTURE = 0.5
"""Share of the nearest donor's own value in an image; the rest is the posterior mean, which has too little noise."""
SLAB = 8
"""Planes of a coarser grid that are pasted at a time."""
GUIDE_MM = 4.0
"""What is slower than this (one standard deviation) is guided."""
PARTS = ((0, 1, 2), (3,), (4, 5), (6,))
"""Channels that are guided together: cerebrum with the CSF around and within it, deep grey matter, cerebellum,
ventricles."""
FLUID = 1.3
"""CSF that is asked of 4 and 2 mm, over that of the guide's map: as much as reaches 1 mm."""
MIXTURES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.4, 0.6], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
"""Of fluid, grey and white matter, what the channels look like in an image."""


@dataclass(frozen=True)
class Level:
    """A grid of the pyramid and the noises (σ/α) of its steps."""

    patches: Patches
    noises: tuple[float, ...]


COARSE = Level(
    Patches(4, ((1.0, 5), (0.5, 4), (0.25, 3), (0.0, 2)), (12, 16, 40), CUBE, temperature=0.3),
    (1.2, 0.8, 0.55, 0.4, 0.28, 0.2, 0.13, 0.08),
)
GUIDED = Level(COARSE.patches, COARSE.noises[2:])
"""COARSE from the donors' mean as the guide corrects it."""
MIDDLE = Level(Patches(2, ((0.0, 3),), (12, 12, 20), FACES, 8, temperature=0.3), (0.3, 0.2, 0.13, 0.08))
FINE = Level(Patches(1, ((0.0, 3),), (8, 8, 16), FACES, 6, spread=1), (0.6,))

Guide = Callable[[torch.Tensor, int], torch.Tensor]
"""(clean estimate (C, X, Y, Z), spacing) to the one to go on with."""


@dataclass
class Anatomy:
    """What was sampled, on the donors' part of GRID_1MM.

    Attributes:
        classes: uint8.
        image: float32, in RANGE; None without images.
        donor: int32, twice the index of the nearest donor, one more if mirrored.
    """

    classes: np.ndarray
    image: np.ndarray | None
    donor: np.ndarray


@torch.inference_mode()
def sample(
    people: Donors,
    generator: torch.Generator,
    callback: Callback,
    *,
    guide: Guide | None = None,
    share: float = MAX_SHARE,
    age: float | None = None,
    device: str = "cpu",
) -> Anatomy:
    """Sample an anatomy; the same generator gives the same.

    Args:
        people: donors, of one kind: all have images or none.
        callback: called before every step, counted over all grids.
        guide: conditions the donors' mean, from which 4 mm starts, and the estimates at 4 and 2 mm.
        share: of the brain where one donor, mirrored or not, may be used. It holds on all grids: what a coarse grid
            decided with donors that a finer one may not use fuses the cortex there.
        age: years; donors near to it have larger regions, up to ``share``.
        device: that compares patches.
    """
    allowed = None if share >= 1 else regions(people, share, generator, age)
    weights = np.full(len(donors.groups()), 1.0 if people.image is None else LABEL_WEIGHT, np.float32)
    if people.image is not None:
        weights = np.append(weights, np.float32((RANGE[1] - RANGE[0]) ** 2))
    roots = torch.from_numpy(np.sqrt(weights))[:, None, None, None]
    first = COARSE if guide is None else GUIDED
    denoiser = _denoiser(people, first.patches, weights, allowed, device)
    z = roots * mean_of(denoiser)
    if guide is not None:
        z = guide(z, first.patches.spacing)
    z, found = _level(denoiser, first, z, generator, guide, callback, 0)
    count = len(first.noises)
    for level in (MIDDLE, FINE):
        # One after the other: a grid's arrays take hundreds of megabytes.
        del z, denoiser
        denoiser = _denoiser(people, level.patches, weights, allowed, device)
        assert found.near is not None
        if level is MIDDLE:
            # Its blocks are larger than the cells in which donors are allowed: the denoiser knows them.
            denoiser.candidates = screened(denoiser, found.near, None)
            z = pasted_maps(denoiser, found, COARSE.patches).mul_(roots)
        else:
            denoiser.candidates = screened(denoiser, found.near, allowed)
            z = pasted(people, found, MIDDLE.patches).mul_(roots)
        z, found = _level(denoiser, level, z, generator, guide, callback, count)
        count += len(level.noises)
    assert found.labels is not None
    image = None
    if people.image is not None:
        # The last root is the span of the image's values.
        image = (z[-1] + RANGE[0]).numpy()
        image += TEXTURE * (pasted_image(people, found, FINE.patches) - image)
    return Anatomy(found.labels, image, found.candidate)


def _level(
    denoiser: PatchDenoiser,
    level: Level,
    z: torch.Tensor,
    generator: torch.Generator,
    guide: Guide | None,
    callback: Callback,
    done: int,
) -> tuple[torch.Tensor, Found]:
    """Sample a grid from ``z`` (C, …) and noise; ``done`` steps were reported before."""
    steps = patches.steps(level.noises)
    # Channel by channel: no noise of the whole grid beside it.
    for channel in z:
        channel.mul_(steps[0].alpha).add_(torch.randn(channel.shape, generator=generator), alpha=steps[0].sigma)

    def progress(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
        callback(done + index, x, z)

    clean = sample_ddim(_guided(denoiser, guide, level.patches.spacing), z[None], steps, progress)[0]
    assert denoiser.found is not None
    return clean, denoiser.found


def mean_of(denoiser: PatchDenoiser) -> torch.Tensor:
    """(C, …) mean of a denoiser's maps, 0 to 1."""
    assert denoiser.maps is not None
    return torch.from_numpy(denoiser.maps.mean(0, dtype=np.float32)[..., denoiser.pad : -denoiser.pad]) / 255


def _denoiser(
    people: Donors, how: Patches, weights: np.ndarray, allowed: np.ndarray | None, device: str
) -> PatchDenoiser:
    spacing = how.spacing
    if spacing == 1:
        return PatchDenoiser(
            how,
            weights,
            people.brain,
            PAD,
            classes=people.classes.numpy(),
            image=None if people.image is None else people.image.numpy(),
            channel=donors.channels(),
            mirror=np.array(anatomy.mirrored_classes(), np.uint8),
            device=device,
        )
    pad = how.radius(np.inf) + 1
    x, y, z = (n // spacing for n in people.shape)
    brain = np.asarray(people.brain.reshape(x, spacing, y, spacing, z, spacing).any((1, 3, 5)))
    both = None if allowed is None else allowed.repeat(2, 0)
    return PatchDenoiser(how, weights, brain, pad, maps=people.maps(spacing, pad), allowed=both, device=device)


def _guided(denoiser: Denoiser, guide: Guide | None, spacing: int) -> Denoiser:
    if guide is None or spacing == 1:
        return denoiser
    return lambda x, step: guide(denoiser(x, step)[0], spacing)[None]


def upsampled(z: torch.Tensor) -> torch.Tensor:
    """(C, …) on a grid twice as fine, trilinear."""
    return F.interpolate(z[None], scale_factor=2, mode="trilinear", align_corners=False)[0]


def screened(denoiser: PatchDenoiser, near: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """(blocks, K): the donors that the coarser grid found nearest around every block, among those allowed there.

    Where fewer than K are allowed, they stand there more than once.
    """
    blocks = np.maximum(np.array(denoiser.size) * denoiser.patches.spacing // CELL_MM, 1)
    around = ndimage.uniform_filter(near, [0, *(blocks + 1)], mode="nearest")
    cells = np.minimum((denoiser.centres / CELL_MM).astype(int), np.array(near.shape[1:]) - 1)
    score = around[:, cells[:, 0], cells[:, 1], cells[:, 2]]
    keep = min(denoiser.patches.keep or len(near), len(near))
    count = np.full(len(cells), keep)
    if allowed is not None:
        there = allowed[:, cells[:, 0], cells[:, 1], cells[:, 2]].repeat(2, 0)
        # A donor that is not allowed stands behind all that are.
        score = score - 2 * ~there
        count = np.minimum(there.sum(0), keep)
    ranked = np.argsort(-score, 0, kind="stable").T
    places = np.arange(keep) % count[:, None]
    return np.ascontiguousarray(np.take_along_axis(ranked, places, 1), np.int32)


def sizes_of_regions(ages: Sequence[float | None], share: float, age: float | None) -> np.ndarray:
    """(N,) shares of the brain, in all a whole number, one at least: equal, or larger for donors near in age.

    They are at most ``share``, but for fewer than 1 / share donors, who take equal ones.
    """
    known = [one for one in ages if one is not None]
    near_in_age = age is not None and bool(known)
    count = max(1, int((OF_AN_AGE if near_in_age else 1) * share * len(ages)))
    most = max(share, count / len(ages))
    equal = np.full(len(ages), count / len(ages))
    if age is None or not known:
        return equal
    # Beyond the donors' ages, the oldest or youngest are nearest.
    asked = np.clip(age, min(known), max(known))
    middle = float(np.mean(known))
    apart = np.array([middle if one is None else one for one in ages]) - asked
    weights = np.exp(-0.5 * (apart / NEAR_YEARS) ** 2) + STRANGE
    low, high = 0.0, most / weights.min()
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(most, middle * weights).sum() < count else (low, middle)
    return np.asarray(np.minimum(most, high * weights))


def regions(people: Donors, share: float, generator: torch.Generator, age: float | None = None) -> np.ndarray:
    """(N, …) bool in cells of CELL_MM: smooth random regions of the brain, as large as :func:`sizes_of_regions` has
    them. The same number of donors is allowed everywhere."""
    wanted = sizes_of_regions(people.ages, share, age)
    x, y, z = (n // CELL_MM for n in people.shape)
    brain = people.brain.reshape(x, CELL_MM, y, CELL_MM, z, CELL_MM).mean((1, 3, 5)).ravel()
    noise = torch.randn((len(people), x, y, z), generator=generator).numpy()
    sigma = REGION_MM / CELL_MM
    fields = ndimage.gaussian_filter(noise, (0, sigma, sigma, sigma))
    count = round(float(wanted.sum()))
    pace = BALANCING_PACE * fields.std()
    for _ in range(BALANCING_ROUNDS):
        allowed = fields >= np.partition(fields, -count, 0)[-count]
        excess = allowed.reshape(len(people), -1) @ (brain / brain.sum()) / wanted - 1
        fields -= (pace * excess.clip(max=FASTEST))[:, None, None, None]
    return np.asarray(allowed)


def pasted_maps(denoiser: PatchDenoiser, found: Found, how: Patches) -> torch.Tensor:
    """(C, …), 0 to 1: every voxel of a coarser grid's nearest donor, moved as it was found, of a denoiser's maps."""
    assert denoiser.maps is not None
    out = np.empty((len(denoiser.weights), *denoiser.shape), np.float32)
    for slab, (donor, at) in _moved(denoiser.shape, found, how, how.spacing // denoiser.patches.spacing):
        values = denoiser.maps[donor, :, at[0], at[1], at[2] + denoiser.pad]
        out[:, slab] = np.moveaxis(values, -1, 0)
    return torch.from_numpy(out).div_(255)


def pasted(people: Donors, found: Found, how: Patches) -> torch.Tensor:
    """The same of the donors' classes, and images if there are any, at 1 mm."""
    kinds = len(donors.groups())
    out = np.empty((kinds + (people.image is not None), *people.shape), np.float32)
    for slab, (donor, at) in _moved(people.shape, found, how, how.spacing):
        codes = donors.channels()[people.classes.numpy()[donor, at[0], at[1], at[2] + PAD]]
        for channel in range(kinds):
            out[channel, slab] = codes == channel
        if people.image is not None:
            out[-1, slab] = people.image.numpy()[donor, at[0], at[1], at[2] + PAD] / np.float32(255)
    return torch.from_numpy(out)


def pasted_image(people: Donors, found: Found, how: Patches) -> np.ndarray:
    """(X, Y, Z) image of every voxel's nearest donor, moved as it was found."""
    assert people.image is not None
    out = np.empty(people.shape, np.float32)
    for slab, (donor, at) in _moved(people.shape, found, how, how.spacing):
        out[slab] = people.image.numpy()[donor, at[0], at[1], at[2] + PAD] / np.float32(255)
    return out * np.float32(RANGE[1] - RANGE[0]) + np.float32(RANGE[0])


def _moved(
    shape: tuple[int, ...], found: Found, how: Patches, factor: int
) -> Iterator[tuple[slice, tuple[np.ndarray, list[np.ndarray]]]]:
    """The nearest donor of every voxel of a grid ``factor`` times finer, and its place there, by axis; in slabs along
    the first axis."""
    offsets = factor * how.offsets
    for start in range(0, shape[0] // factor, SLAB):
        part = slice(start, start + SLAB)
        nearest, move = (
            volume[part].repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
            for volume in (found.candidate, found.offset)
        )
        donor, mirrored = np.divmod(nearest, 2)
        first = start * factor
        at = []
        for axis, n in enumerate(shape):
            low, count = (first, len(nearest)) if axis == 0 else (0, n)
            place = np.arange(low, low + count, dtype=np.int32).reshape([-1 if axis == a else 1 for a in range(3)])
            at.append(np.clip(place + offsets[:, axis][move], 0, n - 1))
        at[0] = np.where(mirrored, shape[0] - 1 - at[0], at[0])
        yield slice(first, first + len(nearest)), (donor, at)


def guide_to(target: torch.Tensor, levels: np.ndarray) -> Guide:
    """The guide that puts back what an estimate lacks of the slow part of a coarse map.

    Shares are guided by the parts of :data:`PARTS`; within a part the estimate keeps its own proportions, because a
    coarse map knows the size of a part and not its folds. Of the CSF around the brain it knows the volume alone: that
    is brought to the map's (times :data:`FLUID`) by as much everywhere where fluid and tissue meet. The image changes
    by as much as the tissue that comes and goes is worth.

    Args:
        target: (C, X, Y, Z) at 4 mm, shares of the channels, 0 to 1.
        levels: of :class:`~BrainGenLib.donors.Donors`.
    """
    targets = {4: target, 2: upsampled(target)}
    kinds = len(donors.groups())
    values = torch.from_numpy(MIXTURES @ levels - RANGE[0]).float()

    def put_back(z: torch.Tensor, spacing: int) -> torch.Tensor:
        painted = len(z) > kinds
        root = z.new_tensor(LABEL_WEIGHT if painted else 1.0).sqrt()
        out = z.clone()
        for part in PARTS:
            members = list(part)
            lacking = root * targets[spacing][members].sum(0) - out[members].sum(0)
            slow = torch.from_numpy(ndimage.gaussian_filter(lacking.numpy(), GUIDE_MM / spacing))
            own = out[members] + 1e-3 * root
            out[members] += slow * own / own.sum(0)
        fluid, tissue = out[0].clamp_min(0), out[1:3].clamp_min(0) + 1e-3 * root
        whole = tissue.sum(0)
        # What a shift of the log-odds changes, to first order.
        meeting = fluid * whole / (fluid + whole)
        lacking = FLUID * root * targets[spacing][0].sum() - out[0].sum()
        change = meeting * (lacking / meeting.sum()).clamp(-1, 1)
        out[0] += change
        out[1:3] -= change * tissue / whole
        if painted:
            out[-1] += torch.tensordot(values, out[:kinds] - z[:kinds], 1) / root
        return out

    return put_back
