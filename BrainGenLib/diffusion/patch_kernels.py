"""Compiled loops of :mod:`BrainGenLib.diffusion.patches` (numba); importing this module imports numba.

Blocks of a grid are independent of each other and every function releases the interpreter lock, so threads share
them. A *candidate* is a donor, mirrored or not, moved by an offset. What all candidates of a voxel have in common
(the square of the noisy patch) is left out of their distances: shares do not change by it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from BrainGenLib.diffusion.patches import FAR

DEEPEST = np.float32(20.0)
"""Shares below exp(-DEEPEST) of the largest count as none."""
LEAST = np.float32(1e-6)
"""Rows of voxels whose shares of a candidate are all smaller are left out of the sums."""
CLASSES = 64
"""Class indices are smaller than this."""


@njit(nogil=True, fastmath=True, inline="always")
def _box_sums(d, planes, rows, out, width):
    """Sums over cubes: (b + width - 1)³ -> b³; ``planes`` (b, n, n) and ``rows`` (b, n) are scratch space."""
    b0, b1, b2 = out.shape
    n1, n2 = d.shape[1], d.shape[2]
    plane = planes[0]
    for i in range(b0):
        for y in range(n1):
            total = plane[y]
            part = d[i, y]
            for z in range(n2):
                total[z] = part[z]
            for j in range(1, width):
                part = d[i + j, y]
                for z in range(n2):
                    total[z] += part[z]
        for y in range(b1):
            part = plane[y]
            for z in range(n2):
                rows[z] = part[z]
            for j in range(1, width):
                part = plane[y + j]
                for z in range(n2):
                    rows[z] += part[z]
            total = out[i, y]
            part = rows[:b2]
            for z in range(b2):
                total[z] = part[z]
            for j in range(1, width):
                part = rows[j : j + b2]
                for z in range(b2):
                    total[z] += part[z]


@njit(nogil=True, fastmath=True, inline="always")
def _to_shares(scores, scale, nearest, least):
    """Distances (K, voxels) become shares softmax(-scale · distance), in place; writes the nearest."""
    count, voxels = scores.shape
    for v in range(voxels):
        least[v] = scores[0, v]
        nearest[v] = 0
    for k in range(1, count):
        for v in range(voxels):
            if scores[k, v] < least[v]:
                least[v] = scores[k, v]
                nearest[v] = k
    total = np.zeros(voxels, np.float32)
    step = scale / np.float32(256)
    limit = DEEPEST / np.float32(256)
    for k in range(count):
        for v in range(voxels):
            # exp(-t) as the 256th power of its series at t / 256.
            u = min((scores[k, v] - least[v]) * step, limit)
            e = 1 - u * (1 - u * (np.float32(0.5) - u * np.float32(1 / 6)))
            e *= e
            e *= e
            e *= e
            e *= e
            e *= e
            e *= e
            e *= e
            e *= e
            scores[k, v] = e
            total[v] += e
    for v in range(voxels):
        total[v] = 1 / total[v]
    for k in range(count):
        for v in range(voxels):
            scores[k, v] *= total[v]


@njit(nogil=True, inline="always")
def _row(i, n):
    """Index of a row, the last one where the grid ends."""
    return min(max(i, 0), n - 1)


@njit(nogil=True, fastmath=True, cache=True)
def denoise_maps(
    first, last, x, maps, pad, weights, corners, candidates, offsets, size, radius, scale, temperature, cell,
    allowed, mean, nearest, near,
):  # fmt: skip
    """Blocks ``first`` to ``last`` of a grid whose donors are maps in several channels.

    Args:
        x: (C, X, Y, Z + 2 pad), noisy, in units of the maps; mean: (C, X, Y, Z), written.
        maps: (N, C, X, Y, Z + 2 pad) uint8.
        candidates: (blocks, K): twice the donor's index, one more if mirrored.
        scale: 1 / (2 σ²) in units of the maps; temperature: the same of ``near``.
        cell: edge of a cell of ``near`` (2 N, cells), voxels: the share of each donor there, at ``temperature``.
        allowed: (2 N, cells) bool: where each donor may be used; (0, 0, 0, 0): everywhere.
        nearest: (X, Y, Z): candidate · offsets + offset, written.
    """
    b0, b1, b2 = size
    r, moves, count = radius, len(offsets), candidates.shape[1]
    width = 2 * r + 1
    n0, n1, n2 = b0 + 2 * r, b1 + 2 * r, b2 + 2 * r
    channels, nx, ny = len(weights), x.shape[1], x.shape[2]
    voxels = b0 * b1 * b2
    a = np.empty((channels, n0, n1, n2), np.float32)
    y = np.empty((channels, n0 + 2, n1 + 2, n2 + 2), np.float32)
    squares = np.empty((n0 + 2, n1 + 2, n2 + 2), np.float32)
    d = np.empty((n0, n1, n2), np.float32)
    planes, rows = np.empty((1, n1, n2), np.float32), np.empty(n2, np.float32)
    scores = np.empty((count * moves, b0, b1, b2), np.float32)
    which, least = np.empty(voxels, np.int32), np.empty(voxels, np.float32)
    close = np.empty((b0, b1, b2), np.float32)
    sums = np.empty((channels, b0, b1, b2), np.float32)
    for block in range(first, last):
        cx, cy, cz = corners[block]
        for c in range(channels):
            double = -2 * weights[c]
            for i in range(n0):
                for j in range(n1):
                    xi, xj = _row(cx - r + i, nx), _row(cy - r + j, ny)
                    start = cz - r + pad
                    given, row = x[c, xi, xj, start : start + n2], a[c, i, j]
                    for z in range(n2):
                        row[z] = double * given[z]
        for k in range(count):
            who, mirrored = candidates[block, k] // 2, candidates[block, k] % 2
            for i in range(n0 + 2):
                xi = _row(cx - r - 1 + i, nx)
                if mirrored:
                    xi = nx - 1 - xi
                for j in range(n1 + 2):
                    xj = _row(cy - r - 1 + j, ny)
                    start = cz - r - 1 + pad
                    square = squares[i, j]
                    for z in range(n2 + 2):
                        square[z] = 0
                    for c in range(channels):
                        w = weights[c]
                        row, source = y[c, i, j], maps[who, c, xi, xj, start : start + n2 + 2]
                        for z in range(n2 + 2):
                            row[z] = np.float32(source[z])
                        for z in range(n2 + 2):
                            square[z] += w * row[z] * row[z]
            for m in range(moves):
                ox, oy, oz = 1 + offsets[m, 0], 1 + offsets[m, 1], 1 + offsets[m, 2]
                for i in range(n0):
                    for j in range(n1):
                        row, source = d[i, j], squares[i + ox, j + oy, oz : oz + n2]
                        for z in range(n2):
                            row[z] = source[z]
                        for c in range(channels):
                            given, source = a[c, i, j], y[c, i + ox, j + oy, oz : oz + n2]
                            for z in range(n2):
                                row[z] += given[z] * source[z]
                _box_sums(d, planes, rows, scores[k * moves + m], width)
        if allowed.size > 0:
            for k in range(count):
                for i in range(b0):
                    for j in range(b1):
                        may = allowed[candidates[block, k], (cx + i) // cell, (cy + j) // cell]
                        for m in range(moves):
                            row = scores[k * moves + m, i, j]
                            for z in range(b2):
                                if not may[(cz + z) // cell]:
                                    row[z] += np.float32(FAR)
        # How near each donor is, for the grid that follows; before distances become shares.
        for v in range(voxels):
            least[v] = np.float32(np.inf)
        flat = scores.reshape(count * moves, voxels)
        for k in range(count * moves):
            for v in range(voxels):
                least[v] = min(least[v], flat[k, v])
        lowest = least.reshape(b0, b1, b2)
        for k in range(count):
            for i in range(b0):
                for j in range(b1):
                    row, source = close[i, j], scores[k * moves, i, j]
                    for z in range(b2):
                        row[z] = source[z]
                    for m in range(1, moves):
                        source = scores[k * moves + m, i, j]
                        for z in range(b2):
                            row[z] = min(row[z], source[z])
                    source = lowest[i, j]
                    cells = near[candidates[block, k], (cx + i) // cell, (cy + j) // cell]
                    for z in range(b2):
                        cells[(cz + z) // cell] += np.exp((source[z] - row[z]) * temperature)
        _to_shares(flat, scale, which, least)
        sums[:] = 0
        for k in range(count):
            who, mirrored = candidates[block, k] // 2, candidates[block, k] % 2
            for m in range(moves):
                for i in range(b0):
                    xi = _row(cx + i + offsets[m, 0], nx)
                    if mirrored:
                        xi = nx - 1 - xi
                    for j in range(b1):
                        s, largest = scores[k * moves + m, i, j], np.float32(0)
                        for z in range(b2):
                            largest = max(largest, s[z])
                        if largest < LEAST:
                            continue
                        xj = _row(cy + j + offsets[m, 1], ny)
                        start = cz + offsets[m, 2] + pad
                        for c in range(channels):
                            total, value = sums[c, i, j], maps[who, c, xi, xj, start : start + b2]
                            for z in range(b2):
                                total[z] += s[z] * np.float32(value[z])
        at = which.reshape(b0, b1, b2)
        for i in range(b0):
            for j in range(b1):
                for z in range(b2):
                    w = at[i, j, z]
                    nearest[cx + i, cy + j, cz + z] = candidates[block, w // moves] * moves + w % moves
                    for c in range(channels):
                        mean[c, cx + i, cy + j, cz + z] = sums[c, i, j, z]


@njit(nogil=True, fastmath=True, cache=True)
def denoise_classes(
    first, last, x, classes, image, pad, channel, mirror, weights, corners, candidates, offsets, size, radius, scale,
    spread, mean, labels, nearest,
):  # fmt: skip
    """Blocks ``first`` to ``last`` of a grid whose donors are class maps, and an image that may be empty.

    Args:
        x: (C, X, Y, Z + 2 pad), noisy, in units of 1/255: the channels of the classes, then the image.
        classes, image: (N, X, Y, Z + 2 pad) uint8; image (0, 0, 0, 0) if there is none.
        channel: (classes,): the channel that a class belongs to, their number for none; mirror: (classes,).
        spread: voxels to each side over which shares are summed before classes are voted for.
        mean: (C, X, Y, Z), written; labels: (X, Y, Z) uint8, the class with most votes, written.

    The other arguments are those of :func:`denoise_maps`.
    """
    b0, b1, b2 = size
    r, q, moves, count = radius, spread, len(offsets), candidates.shape[1]
    width = 2 * r + 1
    w0, w1, w2 = b0 + 2 * q, b1 + 2 * q, b2 + 2 * q
    n0, n1, n2 = w0 + 2 * r, w1 + 2 * r, w2 + 2 * r
    painted = image.size > 0
    sorts, nx, ny = len(weights) - painted, x.shape[1], x.shape[2]
    table = np.zeros((n0, n1, n2, sorts + 1), np.float32)
    a = np.empty((n0, n1, n2), np.float32)
    codes = np.empty((n0 + 2, n1 + 2, n2 + 2), np.uint8)
    d = np.empty((n0, n1, n2), np.float32)
    planes, rows = np.empty((1, n1, n2), np.float32), np.empty(n2, np.float32)
    wide_planes, wide_rows = np.empty((1, w1, w2), np.float32), np.empty(w2, np.float32)
    scores = np.empty((count * moves, w0, w1, w2), np.float32)
    voxels = w0 * w1 * w2
    which, least = np.empty(voxels, np.int32), np.empty(voxels, np.float32)
    summed = np.empty((b0, b1, b2), np.float32)
    votes = np.empty((b0, b1, b2, CLASSES), np.float32)
    shades = np.empty((b0, b1, b2), np.float32)
    for block in range(first, last):
        cx, cy, cz = corners[block]
        px, py, pz = cx - q - r, cy - q - r, cz - q - r
        for i in range(n0):
            for j in range(n1):
                xi, xj = _row(px + i, nx), _row(py + j, ny)
                start = pz + pad
                for c in range(sorts):
                    given = x[c, xi, xj, start : start + n2]
                    for z in range(n2):
                        table[i, j, z, c] = weights[c] * 255 * (255 - 2 * given[z])
                if painted:
                    given, row = x[sorts, xi, xj, start : start + n2], a[i, j]
                    for z in range(n2):
                        row[z] = -2 * given[z]
        for k in range(count):
            who, mirrored = candidates[block, k] // 2, candidates[block, k] % 2
            start = pz - 1 + pad
            for i in range(n0 + 2):
                xi = _row(px - 1 + i, nx)
                if mirrored:
                    xi = nx - 1 - xi
                for j in range(n1 + 2):
                    code = codes[i, j]
                    named = classes[who, xi, _row(py - 1 + j, ny), start : start + n2 + 2]
                    for z in range(n2 + 2):
                        code[z] = channel[named[z]]
            for m in range(moves):
                ox, oy, oz = 1 + offsets[m, 0], 1 + offsets[m, 1], 1 + offsets[m, 2]
                for i in range(n0):
                    xi = _row(px + i + offsets[m, 0], nx)
                    if mirrored:
                        xi = nx - 1 - xi
                    for j in range(n1):
                        xj = _row(py + j + offsets[m, 1], ny)
                        start = pz + offsets[m, 2] + pad
                        row, prices, code = d[i, j], table[i, j], codes[i + ox, j + oy, oz : oz + n2]
                        for z in range(n2):
                            row[z] = prices[z, code[z]]
                        if painted:
                            w = weights[sorts]
                            given, source = a[i, j], image[who, xi, xj, start : start + n2]
                            for z in range(n2):
                                y = np.float32(source[z])
                                row[z] += w * y * (y + given[z])
                _box_sums(d, planes, rows, scores[k * moves + m], width)
        flat = scores.reshape(count * moves, voxels)
        _to_shares(flat, scale, which, least)
        votes[:] = 0
        shades[:] = 0
        for k in range(count):
            who, mirrored = candidates[block, k] // 2, candidates[block, k] % 2
            for m in range(moves):
                largest = np.float32(0)
                for v in range(voxels):
                    largest = max(largest, flat[k * moves + m, v])
                if largest < LEAST:
                    continue
                _box_sums(scores[k * moves + m], wide_planes, wide_rows, summed, 2 * q + 1)
                for i in range(b0):
                    xi = _row(cx + i + offsets[m, 0], nx)
                    if mirrored:
                        xi = nx - 1 - xi
                    for j in range(b1):
                        xj = _row(cy + j + offsets[m, 1], ny)
                        start = cz + offsets[m, 2] + pad
                        s, largest = summed[i, j], np.float32(0)
                        for z in range(b2):
                            largest = max(largest, s[z])
                        if largest < LEAST:
                            continue
                        ballots, named = votes[i, j], classes[who, xi, xj, start : start + b2]
                        for z in range(b2):
                            label = named[z]
                            ballots[z, mirror[label] if mirrored else label] += s[z]
                        if painted:
                            row, source = shades[i, j], image[who, xi, xj, start : start + b2]
                            for z in range(b2):
                                row[z] += s[z] * np.float32(source[z])
        at = which.reshape(w0, w1, w2)
        cube = np.float32((2 * q + 1) ** 3)
        for i in range(b0):
            for j in range(b1):
                for c in range(sorts):
                    for z in range(b2):
                        mean[c, cx + i, cy + j, cz + z] = 0
                if painted:
                    for z in range(b2):
                        mean[sorts, cx + i, cy + j, cz + z] = shades[i, j, z] / cube
                for z in range(b2):
                    top = 0
                    for c in range(CLASSES):
                        v = votes[i, j, z, c]
                        if v > votes[i, j, z, top]:
                            top = c
                        if v > 0 and channel[c] < sorts:
                            mean[channel[c], cx + i, cy + j, cz + z] += 255 * v / cube
                    labels[cx + i, cy + j, cz + z] = top
                    w = at[q + i, q + j, q + z]
                    nearest[cx + i, cy + j, cz + z] = candidates[block, w // moves] * moves + w % moves
