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


CHUNK = 64
"""Voxels whose shares of a candidate are left out together."""


@njit(nogil=True, fastmath=True, inline="always")
def _box_sums(d, plane, row, out, width):
    """Sums over cubes of ``width`` voxels, odd: (n, n m) -> b³ with n = b + width - 1, m >= n voxels in a row.

    ``plane`` (n m) and ``row`` (m) are scratch space. Along the first two axes sums slide, with long loops.
    """
    b0, b1, b2 = out.shape
    long = len(row)
    n2 = b2 + width - 1
    for i in range(b0):
        if i == 0:
            plane[:] = d[0]
            for j in range(1, width):
                part = d[j]
                for v in range(len(plane)):
                    plane[v] += part[v]
        else:
            added, taken = d[i + width - 1], d[i - 1]
            for v in range(len(plane)):
                plane[v] += added[v] - taken[v]
        for y in range(b1):
            if y == 0:
                row[:] = plane[:long]
                for j in range(1, width):
                    part = plane[j * long : (j + 1) * long]
                    for z in range(n2):
                        row[z] += part[z]
            else:
                added, taken = plane[(y + width - 1) * long : (y + width) * long], plane[(y - 1) * long : y * long]
                for z in range(n2):
                    row[z] += added[z] - taken[z]
            total = out[i, y]
            for z in range(b2):
                total[z] = row[z]
            for j in range(1, width, 2):
                part = row[j : j + b2 + 1]
                for z in range(b2):
                    total[z] += part[z] + part[z + 1]


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
        for start in range(0, voxels, CHUNK):
            part, lowest = scores[k, start : start + CHUNK], least[start : start + CHUNK]
            shallowest = np.float32(np.inf)
            for v in range(len(part)):
                shallowest = min(shallowest, part[v] - lowest[v])
            if shallowest * step > limit:
                part[:] = 0
                continue
            sums = total[start : start + CHUNK]
            for v in range(len(part)):
                # exp(-t) as the 256th power of its series at t / 256.
                u = min((part[v] - lowest[v]) * step, limit)
                e = 1 - u * (1 - u * (np.float32(0.5) - u * np.float32(1 / 6)))
                e *= e
                e *= e
                e *= e
                e *= e
                e *= e
                e *= e
                e *= e
                e *= e
                part[v] = e
                sums[v] += e
    for v in range(voxels):
        total[v] = 1 / total[v]
    for k in range(count):
        for v in range(voxels):
            scores[k, v] *= total[v]


@njit(nogil=True, inline="always")
def _row(i, n):
    """Index of a row, the last one where the grid ends."""
    return min(max(i, 0), n - 1)


@njit(nogil=True, inline="always")
def _anywhere(allowed, cx, cy, cz, size, cell):
    """Whether a donor is allowed in a cell of the block."""
    for i in range(cx // cell, (cx + size[0]) // cell):
        for j in range(cy // cell, (cy + size[1]) // cell):
            for k in range(cz // cell, (cz + size[2]) // cell):
                if allowed[i, j, k]:
                    return True
    return False


@njit(nogil=True, fastmath=True, cache=True)
def denoise_maps(
    first, last, x, units, maps, pad, weights, corners, candidates, offsets, size, radius, scale, temperature, cell,
    allowed, mean, nearest, near,
):  # fmt: skip
    """Blocks ``first`` to ``last`` of a grid whose donors are maps in several channels.

    Args:
        x: (C, X, Y, Z), noisy; units: (C,), by which it is multiplied to be in those of the maps.
        maps: (N, C, X, Y, Z + 2 pad) uint8; mean: (C, X, Y, Z), written.
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
    channels, nx, ny, nz = len(weights), x.shape[1], x.shape[2], x.shape[3]
    voxels = b0 * b1 * b2
    # Planes are one row of numbers, of rows as long as those of donors with their margin.
    long = n2 + 2
    wide, moved = n1 * long - 2, (n1 + 2) * long
    a = np.zeros((channels, n0, n1 * long), np.float32)
    y = np.empty((channels, n0 + 2, moved), np.float32)
    squares = np.empty((n0 + 2, moved), np.float32)
    d = np.zeros((n0, n1 * long), np.float32)
    plane, row_sums = np.empty(n1 * long, np.float32), np.empty(long, np.float32)
    scores = np.empty((count * moves, b0, b1, b2), np.float32)
    which, least = np.empty(voxels, np.int32), np.empty(voxels, np.float32)
    close = np.empty((b0, b1, b2), np.float32)
    sums = np.empty((channels, b0, b1, b2), np.float32)
    for block in range(first, last):
        cx, cy, cz = corners[block]
        for c in range(channels):
            double = np.float32(-2) * weights[c] * units[c]
            for i in range(n0):
                for j in range(n1):
                    given, row = x[c, _row(cx - r + i, nx), _row(cy - r + j, ny)], a[c, i, j * long :]
                    for z in range(n2):
                        row[z] = double * given[_row(cz - r + z, nz)]
        some = False
        if allowed.size > 0:
            for k in range(count):
                some = some or _anywhere(allowed[candidates[block, k]], cx, cy, cz, size, cell)
        for k in range(count):
            if some and not _anywhere(allowed[candidates[block, k]], cx, cy, cz, size, cell):
                # Behind donors that are not allowed at a voxel, but in the block.
                scores[k * moves : (k + 1) * moves] = np.float32(2 * FAR)
                continue
            who, mirrored = candidates[block, k] // 2, candidates[block, k] % 2
            for i in range(n0 + 2):
                xi = _row(cx - r - 1 + i, nx)
                if mirrored:
                    xi = nx - 1 - xi
                for j in range(n1 + 2):
                    xj = _row(cy - r - 1 + j, ny)
                    start = cz - r - 1 + pad
                    square = squares[i, j * long : (j + 1) * long]
                    square[:] = 0
                    for c in range(channels):
                        w = weights[c]
                        row, source = y[c, i, j * long : (j + 1) * long], maps[who, c, xi, xj, start : start + long]
                        for z in range(long):
                            row[z] = np.float32(source[z])
                        for z in range(long):
                            square[z] += w * row[z] * row[z]
            for m in range(moves):
                ox, start = 1 + offsets[m, 0], (1 + offsets[m, 1]) * long + 1 + offsets[m, 2]
                for i in range(n0):
                    row, source = d[i], squares[i + ox, start : start + wide]
                    for v in range(wide):
                        row[v] = source[v]
                    # Two channels at a time: half as often through memory.
                    for c in range(0, channels - 1, 2):
                        given, source = a[c, i], y[c, i + ox, start : start + wide]
                        given_too, source_too = a[c + 1, i], y[c + 1, i + ox, start : start + wide]
                        for v in range(wide):
                            row[v] += given[v] * source[v] + given_too[v] * source_too[v]
                    if channels % 2:
                        given, source = a[channels - 1, i], y[channels - 1, i + ox, start : start + wide]
                        for v in range(wide):
                            row[v] += given[v] * source[v]
                _box_sums(d, plane, row_sums, scores[k * moves + m], width)
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
    first, last, x, units, classes, image, pad, channel, mirror, weights, corners, candidates, offsets, size, radius,
    scale, spread, mean, labels, nearest,
):  # fmt: skip
    """Blocks ``first`` to ``last`` of a grid whose donors are class maps, and an image that may be empty.

    Args:
        x: (C, X, Y, Z), noisy: the channels of the classes, then the image.
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
    sorts, nx, ny, nz = len(weights) - painted, x.shape[1], x.shape[2], x.shape[3]
    long = n2 + 2
    wide, moved = n1 * long - 2, (n1 + 2) * long
    table = np.zeros((n0, n1 * long, sorts + 1), np.float32)
    a = np.zeros((n0, n1 * long), np.float32)
    codes = np.empty((n0 + 2, moved), np.uint8)
    values = np.empty((n0 + 2, moved if painted else 0), np.float32)
    d = np.zeros((n0, n1 * long), np.float32)
    plane, row_sums = np.empty(n1 * long, np.float32), np.empty(long, np.float32)
    wide_plane, wide_row = np.empty(w1 * w2, np.float32), np.empty(w2, np.float32)
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
                for c in range(sorts):
                    given, double, most = x[c, xi, xj], np.float32(2) * units[c], np.float32(255)
                    for z in range(n2):
                        table[i, j * long + z, c] = weights[c] * most * (most - double * given[_row(pz + z, nz)])
                if painted:
                    given, double, row = x[sorts, xi, xj], np.float32(-2) * units[sorts], a[i, j * long :]
                    for z in range(n2):
                        row[z] = double * given[_row(pz + z, nz)]
        for k in range(count):
            who, mirrored = candidates[block, k] // 2, candidates[block, k] % 2
            start = pz - 1 + pad
            for i in range(n0 + 2):
                xi = _row(px - 1 + i, nx)
                if mirrored:
                    xi = nx - 1 - xi
                for j in range(n1 + 2):
                    xj = _row(py - 1 + j, ny)
                    code, named = codes[i, j * long : (j + 1) * long], classes[who, xi, xj, start : start + long]
                    for z in range(long):
                        code[z] = channel[named[z]]
                    if painted:
                        row, source = values[i, j * long : (j + 1) * long], image[who, xi, xj, start : start + long]
                        for z in range(long):
                            row[z] = np.float32(source[z])
            for m in range(moves):
                ox, first_place = 1 + offsets[m, 0], (1 + offsets[m, 1]) * long + 1 + offsets[m, 2]
                for i in range(n0):
                    row, prices, code = d[i], table[i], codes[i + ox, first_place : first_place + wide]
                    for v in range(wide):
                        row[v] = prices[v, code[v]]
                    if painted:
                        w, given, source = weights[sorts], a[i], values[i + ox, first_place : first_place + wide]
                        for v in range(wide):
                            row[v] += w * source[v] * (source[v] + given[v])
                _box_sums(d, plane, row_sums, scores[k * moves + m], width)
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
                _box_sums(scores[k * moves + m].reshape(w0, w1 * w2), wide_plane, wide_row, summed, 2 * q + 1)
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
