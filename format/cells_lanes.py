"""Decoding chunks of the `cells` codec side by side (spec §5.3): one Gaussian of each lane at a time, in passes.

Within a chunk each step waits for the one before, so that with a single one the processor is often idle: each step is
taken for all lanes before the next. A lane that is done with a chunk takes the next one. Bounded by the counts and the
grids, whatever the bytes are: behind a payload's end others' words or zeros are read, until it is noticed.
"""

from __future__ import annotations

import math

import numpy as np

from igs.format.cells_model import (
    CODE_MAX,
    MARGIN,
    ODDS,
    WEIBULL,
    context_of,
    expected_value,
    factor,
    feature_range,
    grid,
    neighbours,
    number_of,
    rows_of,
    shape,
)
from igs.format.cells_numbers import get_angle, get_curved
from igs.format.fields import BOUND, FEATURE_MAX, MEAN_UNIT, UNIT
from igs.format.jit import inline, kernels
from igs.format.rans import STATE_BYTES, STATE_LOW, get_uniform, get_yes

TRIM_BYTES = 4
HEAD_BYTES = TRIM_BYTES + STATE_BYTES
CONTEXTS = len(ODDS)
_UNITS, _BOUND = float(UNIT), float(BOUND)
kernel = kernels(__file__, "rans.py", "cells_model.py", "cells_numbers.py", "lattice.py", "arithmetic.py")

# Of a chunk and of the lane that decodes it, int64: state, next word, word behind the last; next row, row behind the
# last; the grid's size. Of a lane: its cell's number and place in the grid, context, neighbours; of the Gaussian being
# read number of angles, first j, how many.
X, READ, STOP, ROW, END, COLUMNS, ROWS, AT, CELL_X, CELL_Y, CONTEXT, NEAR, ANGLES, FIRST_J, HEIGHT = range(15)
# Binary64, of both: the grid's origin and cell; the chunk's box, and what is left of its reach_area. Of a lane, for the
# Gaussian being read: P·γ, φ, sy, sx, q/p.
X0, Y0, CELL, BOX_X0, BOX_Y0, BOX_X1, BOX_Y1, AREA, STEP, GAIN, SY, SX, SHEAR = range(13)
OF_CHUNK, REAL_OF_CHUNK = AT, STEP  # how many of these a chunk has


@inline
def _mean(v):  # type: ignore[no-untyped-def]
    """A coordinate in units of 2^-14 pixel (spec §6.1)."""
    return np.int32(min(max(np.floor(v * _UNITS + 0.5), -_BOUND), _BOUND - 1.0))


@inline
def _feature(v):  # type: ignore[no-untyped-def]
    return np.float32(min(max(v, -FEATURE_MAX), FEATURE_MAX))


@kernel
def plan(heads, counts, grid_boxes, chunks, places):  # type: ignore[no-untyped-def]
    """Fill in the states and grids of chunks; returns how many cells the largest needs, or −1: one has no valid state.

    heads: uint8 [n, HEAD_BYTES], how payloads begin. counts: of Gaussians. chunks: int64 [n, OF_CHUNK], places: float64
    [n, REAL_OF_CHUNK].
    """
    most = 0
    for c in range(len(counts)):
        x = np.int64(0)
        for byte in range(STATE_BYTES):
            x |= np.int64(heads[c, TRIM_BYTES + byte]) << (8 * byte)
        if x < STATE_LOW:
            return -1
        x0, y0, cell, columns, rows = grid(grid_boxes[c], heads[c], counts[c])
        chunks[c, X], chunks[c, COLUMNS], chunks[c, ROWS] = x, columns, rows
        places[c, X0], places[c, Y0], places[c, CELL] = x0, y0, cell
        most = max(most, number_of(0, rows, columns))
    return most


@inline
def _begin(c, chunk, chunks, places, lanes, reals, cells, odds, fresh):  # type: ignore[no-untyped-def]
    """Give a lane a chunk: no cell of its grid has a Gaussian, and nothing is known of how they are filled."""
    for i in range(OF_CHUNK):
        lanes[c, i] = chunks[chunk, i]
    for i in range(REAL_OF_CHUNK):
        reals[c, i] = places[chunk, i]
    counts, last = cells
    room, columns = len(counts) // len(lanes), lanes[c, COLUMNS]
    for at in range(c * room, c * room + number_of(0, lanes[c, ROWS], columns)):
        counts[at], last[at] = 0, -1
    for i in range(CONTEXTS):
        for k in range(3):
            odds[c * CONTEXTS + i, k] = fresh[i, k]
    lanes[c, AT], lanes[c, CONTEXT] = c * room + number_of(0, 0, columns), c * CONTEXTS
    lanes[c, CELL_X] = lanes[c, CELL_Y] = 0


# -- passes over the lanes ``here`` that have a Gaussian to read; arrays as in ``decode_lanes``


@inline
def _find_cells(here, words, lanes, near, cells, odds, before):  # type: ignore[no-untyped-def]
    """The next cell of each lane that has another Gaussian, and its neighbours; False: a grid has none."""
    counts, last = cells
    for c in here:
        x, read, at, context = lanes[c, X], lanes[c, READ], lanes[c, AT], lanes[c, CONTEXT]
        pitch = lanes[c, COLUMNS] + MARGIN
        while True:
            x, read, yes = get_yes(x, words, read, odds, context)
            if yes:
                break
            at += 1
            lanes[c, CELL_X] += 1
            if lanes[c, CELL_X] == lanes[c, COLUMNS]:
                at += MARGIN
                lanes[c, CELL_X] = 0
                lanes[c, CELL_Y] += 1
                if lanes[c, CELL_Y] == lanes[c, ROWS]:
                    return False
            context = context_of(counts, at, pitch) + c * CONTEXTS
        if counts[at] == 0:
            context += 7
        lanes[c, X], lanes[c, READ], lanes[c, AT], lanes[c, CONTEXT] = x, read, at, context
        lanes[c, NEAR] = neighbours(near, c, last, before, at, pitch)
    return True


@inline
def _read_sizes(here, words, lanes, near, p, codes, values):  # type: ignore[no-untyped-def]
    """Codes of the minor axis, by the neighbours', and of the elongation."""
    _, _, families, models, _, minors, edges = p
    zero, none = np.int64(0), edges[:0]
    most, spread = len(minors) - 1, models[0, 2]
    for c in here:
        expected = expected_value(values, zero, near, c, lanes[c, NEAR], models[0, 0], models[0, 1])
        lanes[c, X], lanes[c, READ], codes[lanes[c, ROW], 2] = get_curved(
            lanes[c, X], words, lanes[c, READ], zero, most, expected, spread, edges, families[0]
        )
    for c in here:
        row = lanes[c, ROW]
        unit, largest = minors[codes[row, 2], 3], int(minors[codes[row, 2], 4])
        lanes[c, X], lanes[c, READ], codes[row, 3] = get_curved(
            lanes[c, X], words, lanes[c, READ], zero, largest, 0.0, unit, none, np.int64(WEIBULL)
        )


@inline
def _read_angles(here, words, lanes, reals, p, codes, scales, values):  # type: ignore[no-untyped-def]
    """Deviations, steps and number of angles by the codes of size, and the angle; False: it is none of them."""
    steps, _, _, _, angles, minors, _ = p
    for c in here:
        row = lanes[c, ROW]
        l2, s1, s2, step, gain, n = shape(np.int64(codes[row, 2]), np.int64(codes[row, 3]), minors, steps)
        values[row, 0], scales[row, 0], scales[row, 1] = l2, s1, s2
        reals[c, STEP], reals[c, GAIN], lanes[c, ANGLES] = step, gain, n
    for c in here:
        angle, n = np.int64(0), lanes[c, ANGLES]
        if n > 1:
            lanes[c, X], lanes[c, READ], angle = get_angle(lanes[c, X], words, lanes[c, READ], n, angles)
            if angle >= n:
                return False
        codes[lanes[c, ROW], 4] = angle
    return True


@inline
def _read_means(here, words, lanes, reals, codes, scales, factors, covariances, means):  # type: ignore[no-untyped-def]
    """Factors and covariances, and the mean among the points of its lattice in its cell; False: it is none of them."""
    for c in here:
        row = lanes[c, ROW]
        u, v, w, sxx, sxy, syy = factor(scales[row, 0], scales[row, 1], (codes[row, 4] + 0.5) / lanes[c, ANGLES])
        factors[row, 0], factors[row, 1], factors[row, 2] = u * MEAN_UNIT, v * MEAN_UNIT, w * MEAN_UNIT
        covariances[row, 0], covariances[row, 1], covariances[row, 2] = sxx, sxy, syy
        sy, sx, shear = rows_of(u, v, w, reals[c, STEP])
        reals[c, SY], reals[c, SX], reals[c, SHEAR] = sy, sx, shear
        y0, cell, y = reals[c, Y0], reals[c, CELL], lanes[c, CELL_Y]
        top = math.ceil((y0 + y * cell) / sy)
        lanes[c, FIRST_J], lanes[c, HEIGHT] = top, math.ceil((y0 + (y + 1) * cell) / sy) - top
    for c in here:
        row, height, sx = lanes[c, ROW], lanes[c, HEIGHT], reals[c, SX]
        if height < 1:
            return False
        x, read, j = get_uniform(lanes[c, X], words, lanes[c, READ], height)
        mean_y = (lanes[c, FIRST_J] + j) * reals[c, SY]
        shift = reals[c, SHEAR] * mean_y
        x0, cell, x_cell = reals[c, X0], reals[c, CELL], lanes[c, CELL_X]
        first = math.ceil(((x0 + x_cell * cell) + shift) / sx)
        width = math.ceil(((x0 + (x_cell + 1) * cell) + shift) / sx) - first
        if j >= height or width < 1:
            return False
        x, read, i = get_uniform(x, words, read, width)
        if i >= width or abs(first + i) > CODE_MAX or abs(lanes[c, FIRST_J] + j) > CODE_MAX:
            return False
        lanes[c, X], lanes[c, READ], codes[row, 0], codes[row, 1] = x, read, first + i, lanes[c, FIRST_J] + j
        means[row, 0], means[row, 1] = _mean((first + i) * sx - shift), _mean(mean_y)
    return True


@inline
def _read_features(here, words, lanes, reals, near, p, codes, values):  # type: ignore[no-untyped-def]
    """Codes and values of the features, by the neighbours'; False: a code is too large."""
    _, feature_steps, families, models, _, _, edges = p
    none = edges[:0]
    for f in range(1, 1 + len(feature_steps)):
        pull, mean, spread, curve = models[f, 0], models[f, 1], models[f, 2], families[f]
        for c in here:
            row, step = lanes[c, ROW], feature_steps[f - 1] * reals[c, GAIN]
            unit = step / spread
            offset = expected_value(values, f, near, c, lanes[c, NEAR], pull, mean) / spread
            low, high = feature_range(mean, spread, unit)
            lanes[c, X], lanes[c, READ], k = get_curved(
                lanes[c, X], words, lanes[c, READ], low, high, offset, unit, none, curve
            )
            if abs(k) > CODE_MAX:
                return False
            codes[row, 4 + f], values[row, f] = k, k * step
    return True


@inline
def _set_features(row, rgb, values, features):  # type: ignore[no-untyped-def]
    """A Gaussian's features of their values, luma and chroma turned back."""
    for f in range(features.shape[1]):
        features[row, f] = _feature(values[row, 1 + f])
    for f in rgb:
        luma, blue, red = values[row, 1 + f], values[row, 2 + f], values[row, 3 + f]
        features[row, f] = _feature(luma + 1.402 * red)
        features[row, f + 1] = _feature((luma - 0.344136 * blue) - 0.714136 * red)
        features[row, f + 2] = _feature(luma + 1.772 * blue)


@inline
def _within_box(c, row, reals, reach, means, covariances):  # type: ignore[no-untyped-def]
    """Whether a Gaussian reaches no further than its chunk's box."""
    x_reach, y_reach = reach[0] * math.sqrt(covariances[row, 0]), reach[0] * math.sqrt(covariances[row, 2])
    x, y = means[row, 0] * MEAN_UNIT, means[row, 1] * MEAN_UNIT
    if x - x_reach < reals[c, BOX_X0] or x + x_reach > reals[c, BOX_X1]:
        return False
    return not (y - y_reach < reals[c, BOX_Y0] or y + y_reach > reals[c, BOX_Y1])


@kernel
def decode_lanes(words, chunks, places, lanes, reals, near, alive, cells, odds, fresh, p, rgb, reach, out):  # type: ignore[no-untyped-def]
    """Decode chunks, several side by side; whether each is what it should be and reaches no further than stated.

    words: of all payloads, uint16. chunks, places: [n, OF_CHUNK], [n, REAL_OF_CHUNK], as above. The lanes' own: lanes
    int64 [m, 15], reals float64 [m, 13], near int32 [m, 16], alive int64 [m], odds int64 [m·CONTEXTS, 3], and cells:
    how many Gaussians each has and the latest, int32, room for the largest grid m times. fresh: contexts to begin with.
    p: Parameters. rgb: first channels to turn back from luma and chroma. reach: R⁺ and π·R². out: Columns.
    """
    counts, last = cells
    codes, means, factors, features, covariances, scales, before, values = out
    begun = left = len(lanes)
    for c in range(left):
        alive[c] = c
        _begin(c, c, chunks, places, lanes, reals, cells, odds, fresh)
    while left:
        here = alive[:left]
        if not _find_cells(here, words, lanes, near, cells, odds, before):
            return False
        _read_sizes(here, words, lanes, near, p, codes, values)
        if not _read_angles(here, words, lanes, reals, p, codes, scales, values):
            return False
        if not _read_means(here, words, lanes, reals, codes, scales, factors, covariances, means):
            return False
        if not _read_features(here, words, lanes, reals, near, p, codes, values):
            return False
        a = np.int64(0)
        while a < left:
            c = alive[a]
            row, at = lanes[c, ROW], lanes[c, AT]
            _set_features(row, rgb, values, features)
            reals[c, AREA] -= reach[1] * (scales[row, 0] * scales[row, 1])
            if not _within_box(c, row, reals, reach, means, covariances) or lanes[c, READ] > lanes[c, STOP]:
                return False
            before[row], last[at] = last[at], row
            counts[at] += 1
            lanes[c, ROW] += 1
            if row + 1 < lanes[c, END]:
                a += 1
                continue
            if lanes[c, X] != STATE_LOW or lanes[c, READ] != lanes[c, STOP] or reals[c, AREA] < 0.0:
                return False
            if begun < len(chunks):
                _begin(c, begun, chunks, places, lanes, reals, cells, odds, fresh)
                begun += 1
                a += 1
                continue
            left -= 1
            alive[a] = alive[left]
    return True
