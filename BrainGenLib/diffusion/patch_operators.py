"""The loops of :mod:`BrainGenLib.diffusion.patch_kernels` as tensor operators: for a GPU, and where numba is missing.

A portion of blocks is gathered with its surroundings, and every candidate of theirs is compared at once.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from BrainGenLib.diffusion.patches import FAR

NUMBERS = 2**25
"""Scores that a portion of blocks may have: what the memory of a portion goes by."""


def denoise(
    x: torch.Tensor,
    values: torch.Tensor,
    image: torch.Tensor | None,
    pad: int,
    channel: torch.Tensor | None,
    mirror: torch.Tensor | None,
    weights: torch.Tensor,
    corners: torch.Tensor,
    candidates: torch.Tensor,
    offsets: torch.Tensor,
    size: tuple[int, int, int],
    radius: int,
    scale: float,
    spread: int,
    temperature: float,
    cell: int,
    allowed: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Posterior means of all blocks.

    Args:
        x: (C, X, Y, Z), in units of 1/255.
        values: donors, (N, C, X, Y, Z + 2 pad) maps, or (N, X, Y, Z + 2 pad) classes with ``image``, ``channel`` and
            ``mirror``.
        allowed: (2 N, cells) bool, of maps; None allows all.

    Returns:
        mean (C, X, Y, Z), nearest (X, Y, Z), near (2 N, cells) of maps, labels (X, Y, Z) of classes; as
        the compiled loops write them.
    """
    maps = channel is None
    grid = x.shape[1:]
    moves, count = len(offsets), candidates.shape[1]
    mean = torch.zeros_like(x)
    nearest = torch.zeros(grid, dtype=torch.int32, device=x.device)
    near = labels = None
    if maps:
        near = torch.zeros((2 * len(values), *(n // cell for n in grid)), device=x.device)
    else:
        labels = torch.zeros(grid, dtype=torch.uint8, device=x.device)
    spread = 0 if maps else spread
    wide = [n + 2 * spread for n in size]
    portion = max(1, NUMBERS // (count * moves * wide[0] * wide[1] * wide[2]))
    for first in range(0, len(corners), portion):
        part = slice(first, first + portion)
        corner, who = corners[part].long(), candidates[part].long()
        here = _places(corner, size, spread + radius, grid, pad)
        given = x[:, here[0], here[1], (here[2] - pad).clamp(0, grid[2] - 1)]

        def donors(k: int, offset: torch.Tensor, margin: int) -> tuple[torch.Tensor, torch.Tensor | None]:
            """Channels (C, B, …) of a candidate moved by an offset, and its classes."""
            place = _places(corner + offset, size, margin, grid, pad)  # noqa: B023
            donor, mirrored = who[:, k] // 2, who[:, k] % 2  # noqa: B023
            across = torch.where(mirrored[:, None, None, None] > 0, grid[0] - 1 - place[0], place[0])
            index = (donor[:, None, None, None], across, place[1], place[2])
            if maps:
                return values.movedim(1, 0)[(slice(None), *index)].float(), None
            assert channel is not None
            assert mirror is not None
            named = values[index].long()
            codes = channel[named]
            kinds = len(weights) - (image is not None)
            stacked = torch.stack([(codes == c).float() * 255 for c in range(kinds)])
            if image is not None:
                stacked = torch.cat([stacked, image[index].float()[None]])
            return stacked, torch.where(mirrored[:, None, None, None] > 0, mirror[named], named)

        width = 2 * radius + 1
        scores = []
        for k in range(count):
            for m in range(moves):
                moved, _ = donors(k, offsets[m], spread + radius)
                squared = ((given - moved).square() * weights[:, None, None, None, None]).sum(0)
                scores.append(F.avg_pool3d(squared[:, None], width, 1)[:, 0] * width**3)
        distance = torch.stack(scores)  # (K M, B, wide)
        if near is not None:
            cells = _places(corner // cell, [n // cell for n in size], 0, near.shape[1:], 0)
            if allowed is not None:
                may = torch.stack([allowed[(who[:, k][:, None, None, None], *cells)] for k in range(count)])
                in_block = may.any(-1, keepdim=True).any(-2, keepdim=True).any(-3, keepdim=True)
                # Behind donors that are not allowed at a voxel, but in the block.
                apart = FAR * ((~may).float() + (~in_block & in_block.any(0)).float())
                for axis in (2, 3, 4):
                    apart = apart.repeat_interleave(cell, axis)
                distance += apart.repeat_interleave(moves, 0)
            lowest = distance.amin(0)
            for k in range(count):
                close = torch.exp((lowest - distance[k * moves : (k + 1) * moves].amin(0)) * temperature)
                sums = F.avg_pool3d(close[:, None], cell)[:, 0] * cell**3
                near[(who[:, k][:, None, None, None], *cells)] += sums
        best = distance.argmin(0)
        shares = torch.softmax(-scale * distance, 0)
        inner = tuple(slice(spread, spread + n) for n in size)
        if spread:
            box = 2 * spread + 1
            shares = F.avg_pool3d(shares.flatten(0, 1)[:, None], box, 1)[:, 0].unflatten(0, (count * moves, -1))
            best = best[(slice(None), *inner)]
        total = torch.zeros((len(x), len(corner), *size), device=x.device)
        votes = torch.zeros((len(corner), *size, 64), device=x.device) if labels is not None else None
        for k in range(count):
            for m in range(moves):
                moved, named = donors(k, offsets[m], 0)
                share = shares[k * moves + m]
                total += share * moved
                if votes is not None and named is not None:
                    votes.scatter_add_(-1, named[..., None].long(), share[..., None])
        place = _places(corner, size, 0, grid, 0)
        mean[:, place[0], place[1], place[2]] = total
        chosen = who.gather(1, (best // moves).flatten(1)).view_as(best)
        nearest[place] = (chosen * moves + best % moves).int()
        if labels is not None and votes is not None:
            labels[place] = votes.argmax(-1).to(torch.uint8)
    return mean, nearest, near, labels


def _places(
    corner: torch.Tensor, size: tuple[int, ...] | list[int], margin: int, grid: torch.Size | tuple[int, ...], pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Indices (B, n, n, n) of blocks with a margin; rows end with the grid, the last axis is ``pad`` longer."""
    at = []
    for axis in range(3):
        steps = torch.arange(-margin, size[axis] + margin, device=corner.device)
        index = corner[:, axis, None] + steps
        index = index + pad if axis == 2 else index.clamp(0, grid[axis] - 1)
        shape = [len(corner), 1, 1, 1]
        shape[axis + 1] = len(steps)
        at.append(index.reshape(shape))
    first, second, third = torch.broadcast_tensors(*at)
    return first, second, third
