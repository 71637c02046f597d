"""Reading the `cells` codec (spec §5.3): chunks of codes from their payloads, and the Gaussians that they are (§6.4).

Bounded by the counts and the grids, whatever the bytes are: behind a payload's end others' words or zeros are read,
until it is noticed. Gaussians come out as ``gaussians.dequantize`` makes them of the codes, bit for bit, in a fraction
of its time: their shapes are needed for decoding anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igs.format import cells_model as m
from igs.format import rans
from igs.format.cells_model import (
    CODE_MAX,
    F64,
    GUESS_LOW,
    GUESS_STEPS,
    GUESSES,
    MARGIN,
    PLACES,
    WEIBULL,
    below,
    below_angle,
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
from igs.format.error_codes import invalid
from igs.format.fields import BOUND, FEATURE_MAX, MEAN_UNIT, REACH_MARGIN, UNIT
from igs.format.gaussians import Gaussians
from igs.format.header import Header
from igs.format.jit import helper, inline, kernels
from igs.format.lattice import Lattice
from igs.format.quantize import Codes
from igs.format.rans import STATE_BYTES, STATE_LOW, advance, get_bits, get_uniform, get_yes, low_bits
from igs.format.threads import run

TRIM_BYTES = 4
HEAD_BYTES = TRIM_BYTES + STATE_BYTES
CONTEXTS = len(m.ODDS)
LANES = 8  # chunks decoded side by side; more gain nothing
_UNITS, _BOUND = float(UNIT), float(BOUND)
GUESS_TRIES = 4  # so many steps by a curve's slope, which end sooner but for the odd place; halving always ends
kernel = kernels(__file__, "rans.py", "cells_model.py", "lattice.py", "arithmetic.py")


@helper
def _search(slot, k, start, end, low, high, first, second, edges, curve):  # type: ignore[no-untyped-def]
    """What ``_get_curved`` looks for, and its range, from a guess and its: by how far off that is, then by halves."""
    under, above, tries = low, high, 0
    while not start <= slot < end:
        if slot < start:
            above = k - 1
        else:
            under = k + 1
        k = k + math.floor((slot - start) / (end - start)) if tries < GUESS_TRIES else (under + above) >> 1
        k = min(max(k, under), above)
        start = below(k, low, high, first, second, edges, curve)
        end = below(k + 1, low, high, first, second, edges, curve)
        tries += 1
    return k, start, end


@inline
def _get_curved(x, words, read, low, high, first, second, edges, curve):  # type: ignore[no-untyped-def]
    """A number low … high by a curve; what ``below`` says of ``first``, ``second`` and ``edges``."""
    slot = x & 0xFFFF
    codes = 1.0 / second  # known before the slot is: what follows is a guess, and waits for no division
    z = PLACES[curve, slot >> 6, 0] + (slot & 63) * PLACES[curve, slot >> 6, 1]
    if len(edges):
        at = min(max((z * second + first - GUESS_LOW) * GUESS_STEPS, 0.0), GUESSES - 2.0)
        entry = high + 2 + int(at)
        k = int(edges[entry] + (at - int(at)) * (edges[entry + 1] - edges[entry]))
    else:
        k = math.floor((z + first) * codes + 0.5)
    k = min(max(k, low), high)
    start, end = below(k, low, high, first, second, edges, curve), below(k + 1, low, high, first, second, edges, curve)
    if not start <= slot < end:
        k, start, end = _search(slot, k, start, end, low, high, first, second, edges, curve)
    x, read = advance(x, words, read, start, end - start)
    return x, read, k


@helper
def _get_angle(x, words, read, n, angles):  # type: ignore[no-untyped-def]
    """An angle below n, or not: the caller checks."""
    bits = low_bits(n)
    groups = ((n - 1) >> bits) + 1
    slot = x & 0xFFFF
    bin_, target = slot >> 12, slot << 8
    while angles[bin_ + 1] <= target:
        bin_ += 1
    while angles[bin_] > target:
        bin_ -= 1
    low = int((bin_ + (target - angles[bin_]) / (angles[bin_ + 1] - angles[bin_])) * 0.0625 * n) >> bits
    low = min(low, groups - 1)
    start, end = below_angle(low, groups, bits, n, angles), below_angle(low + 1, groups, bits, n, angles)
    while slot < start:
        low, end = low - 1, start
        start = below_angle(low, groups, bits, n, angles)
    while slot >= end:
        low, start = low + 1, end
        end = below_angle(low + 1, groups, bits, n, angles)
    x, read = advance(x, words, read, start, end - start)
    return get_bits(x, words, read, low, bits)


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
def _plan(heads, counts, grid_boxes, chunks, places):  # type: ignore[no-untyped-def]
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


@kernel
def _decode(words, chunks, places, lanes, reals, near, alive, cells, odds, fresh, p, rgb, reach, out):  # type: ignore[no-untyped-def]
    """Decode chunks, several side by side; whether each is what it should be and reaches no further than stated.

    Within a chunk each step waits for the one before, so that with a single one the processor is often idle: each step
    is taken for all lanes before the next. A lane that is done with a chunk takes the next one.

    words: of all payloads, uint16. chunks, places: [n, OF_CHUNK], [n, REAL_OF_CHUNK], as above. The lanes' own: lanes
    int64 [m, 15], reals float64 [m, 13], near int32 [m, 16], alive int64 [m], odds int64 [m·CONTEXTS, 3], and cells:
    how many Gaussians each has and the latest, int32, room for the largest grid m times. fresh: contexts to begin with.
    p: Parameters. rgb: first channels to turn back from luma and chroma. reach: R⁺ and π·R². out: Columns.
    """
    steps, feature_steps, families, models, angles, minors, edges = p
    counts, last = cells
    codes, means, factors, features, covariances, scales, before, values = out
    number, zero, none, left = len(feature_steps), np.int64(0), edges[:0], len(lanes)
    for c in range(left):
        alive[c] = c
        _begin(c, c, chunks, places, lanes, reals, cells, odds, fresh)
    begun = left
    while left:
        for c in alive[:left]:  # the next cell that has another Gaussian, and its neighbours
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
        for c in alive[:left]:
            expected = expected_value(values, zero, near, c, lanes[c, NEAR], models[0, 0], models[0, 1])
            most, spread = len(minors) - 1, models[0, 2]
            lanes[c, X], lanes[c, READ], codes[lanes[c, ROW], 2] = _get_curved(
                lanes[c, X], words, lanes[c, READ], zero, most, expected, spread, edges, families[0]
            )
        for c in alive[:left]:
            row = lanes[c, ROW]
            unit, most = minors[codes[row, 2], 3], int(minors[codes[row, 2], 4])
            lanes[c, X], lanes[c, READ], codes[row, 3] = _get_curved(
                lanes[c, X], words, lanes[c, READ], zero, most, 0.0, unit, none, np.int64(WEIBULL)
            )
        for c in alive[:left]:
            row = lanes[c, ROW]
            l2, s1, s2, step, gain, n = shape(np.int64(codes[row, 2]), np.int64(codes[row, 3]), minors, steps)
            values[row, 0], scales[row, 0], scales[row, 1] = l2, s1, s2
            reals[c, STEP], reals[c, GAIN], lanes[c, ANGLES] = step, gain, n
        for c in alive[:left]:
            angle, n = zero, lanes[c, ANGLES]
            if n > 1:
                lanes[c, X], lanes[c, READ], angle = _get_angle(lanes[c, X], words, lanes[c, READ], n, angles)
                if angle >= n:
                    return False
            codes[lanes[c, ROW], 4] = angle
        for c in alive[:left]:
            row = lanes[c, ROW]
            u, v, w, sxx, sxy, syy = factor(scales[row, 0], scales[row, 1], (codes[row, 4] + 0.5) / lanes[c, ANGLES])
            factors[row, 0], factors[row, 1], factors[row, 2] = u * MEAN_UNIT, v * MEAN_UNIT, w * MEAN_UNIT
            covariances[row, 0], covariances[row, 1], covariances[row, 2] = sxx, sxy, syy
            sy, sx, shear = rows_of(u, v, w, reals[c, STEP])
            reals[c, SY], reals[c, SX], reals[c, SHEAR] = sy, sx, shear
            y0, cell, y = reals[c, Y0], reals[c, CELL], lanes[c, CELL_Y]
            top = math.ceil((y0 + y * cell) / sy)
            lanes[c, FIRST_J], lanes[c, HEIGHT] = top, math.ceil((y0 + (y + 1) * cell) / sy) - top
        for c in alive[:left]:
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
        for f in range(1, 1 + number):
            pull, mean, spread, curve = models[f, 0], models[f, 1], models[f, 2], families[f]
            for c in alive[:left]:
                row, step = lanes[c, ROW], feature_steps[f - 1] * reals[c, GAIN]
                unit = step / spread
                offset = expected_value(values, f, near, c, lanes[c, NEAR], pull, mean) / spread
                low, high = feature_range(mean, spread, unit)
                lanes[c, X], lanes[c, READ], k = _get_curved(
                    lanes[c, X], words, lanes[c, READ], low, high, offset, unit, none, curve
                )
                if abs(k) > CODE_MAX:
                    return False
                codes[row, 4 + f], values[row, f] = k, k * step
        a = zero
        while a < left:
            c = alive[a]
            row, at = lanes[c, ROW], lanes[c, AT]
            for f in range(number):
                features[row, f] = _feature(values[row, 1 + f])
            for f in rgb:
                luma, blue, red = values[row, 1 + f], values[row, 2 + f], values[row, 3 + f]
                features[row, f] = _feature(luma + 1.402 * red)
                features[row, f + 1] = _feature((luma - 0.344136 * blue) - 0.714136 * red)
                features[row, f + 2] = _feature(luma + 1.772 * blue)
            x_reach, y_reach = reach[0] * math.sqrt(covariances[row, 0]), reach[0] * math.sqrt(covariances[row, 2])
            mean_x, mean_y = means[row, 0] * MEAN_UNIT, means[row, 1] * MEAN_UNIT
            if mean_x - x_reach < reals[c, BOX_X0] or mean_x + x_reach > reals[c, BOX_X1]:
                return False
            if mean_y - y_reach < reals[c, BOX_Y0] or mean_y + y_reach > reals[c, BOX_Y1]:
                return False
            reals[c, AREA] -= reach[1] * (scales[row, 0] * scales[row, 1])
            if lanes[c, READ] > lanes[c, STOP]:
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


class Coded(NamedTuple):
    """Chunks to decode. counts: int64 [n], of Gaussians. boxes, areas: float64 [n, 4], [n], as the index has them, in
    pixels. grid_boxes: float64 [n, 4], as ``cells.clip_box`` gives them."""

    payloads: Sequence[bytes]
    counts: NDArray[np.int64]
    grid_boxes: F64
    boxes: F64
    areas: F64

    @classmethod
    def anywhere(cls, payload: bytes, count: int, grid_box: F64) -> Coded:
        """A chunk by itself, whose Gaussians may reach as far as they like."""
        everywhere = np.array([[-math.inf, -math.inf, math.inf, math.inf]])
        return cls([payload], np.array([count]), grid_box.reshape(1, 4), everywhere, np.array([math.inf]))


class Columns(NamedTuple):
    """What is decoded, row by row; all but the last two as in ``Gaussians``."""

    codes: NDArray[np.int32]  # [n, 5 + F]
    means: NDArray[np.int32]
    factors: NDArray[np.float32]
    features: NDArray[np.float32]
    covariances: F64
    scales: F64
    before: NDArray[np.int32]  # [n] the Gaussian before in its cell, or −1
    values: F64  # [n, 1 + F] λ2 and features

    @classmethod
    def empty(cls, n: int, features: int) -> Columns:
        """Room for n Gaussians."""
        codes, features_ = np.empty((n, 5 + features), np.int32), np.empty((n, features), np.float32)
        means, factors = np.empty((n, 2), np.int32), np.empty((n, 3), np.float32)
        before, values = np.empty(n, np.int32), np.empty((n, 1 + features))
        return cls(codes, means, factors, features_, np.empty((n, 3)), np.empty((n, 2)), before, values)


def _decode_part(coded: Coded, part: slice, lattice: Lattice, rgb: Sequence[int], reach2: float, out: Columns) -> bool:
    """Whether some of the chunks are what they should be; their Gaussians into their rows of ``out``."""
    payloads, counts = coded.payloads[part], coded.counts[part]
    lengths = np.array([len(p) for p in payloads], np.int64) - HEAD_BYTES
    if (lengths < 0).any() or (lengths & 1).any():
        return False
    chunks, places = np.empty((len(payloads), OF_CHUNK), np.int64), np.empty((len(payloads), REAL_OF_CHUNK))
    chunks[:, STOP], chunks[:, END] = np.cumsum(lengths >> 1), np.cumsum(coded.counts)[part]
    chunks[:, READ], chunks[:, ROW] = chunks[:, STOP] - (lengths >> 1), chunks[:, END] - counts
    places[:, BOX_X0:AREA], places[:, AREA] = coded.boxes[part], coded.areas[part]
    heads = np.frombuffer(b"".join([p[:HEAD_BYTES] for p in payloads]), np.uint8).reshape(-1, HEAD_BYTES)
    room = _plan(heads, counts, coded.grid_boxes[part], chunks, places)
    if room < 0:
        return False
    n = min(len(payloads), LANES)
    return bool(
        _decode(
            np.frombuffer(b"".join([p[HEAD_BYTES:] for p in payloads]), "<u2"),
            chunks,
            places,
            np.empty((n, HEIGHT + 1), np.int64),
            np.empty((n, SHEAR + 1)),
            np.empty((n, 16), np.int32),
            np.empty(n, np.int64),
            (np.empty(n * room, np.int32), np.empty(n * room, np.int32)),
            np.empty((n * CONTEXTS, 3), np.int64),
            m.FRESH,
            tuple(m.parameters(lattice)),
            np.array(rgb if lattice.ycbcr else (), np.int64),
            np.array([math.sqrt(reach2) * REACH_MARGIN, math.pi * reach2]),
            tuple(out),
        )
    )


def decode(payload: bytes, count: int, lattice: Lattice, box: F64) -> Codes:
    """The codes table of a chunk, rows in the order of the stream. box: of its grid. Raises InvalidFile E_STREAM."""
    rans.open_payload(payload, TRIM_BYTES)
    out = Columns.empty(count, len(lattice.feature))
    if not _decode_part(Coded.anywhere(payload, count, box), slice(None), lattice, (), 1.0, out):
        raise invalid("E_STREAM", f"{count} Gaussians in the whole payload", "something else")
    return out.codes.view(np.uint32)


def decode_gaussians(coded: Coded, header: Header, threads: int) -> Gaussians | None:
    """The Gaussians of chunks in their order, or None: one holds something else, or more than its index entry allows.

    Which one and what, ``decode`` and the reader's checks tell. header: with a lattice.
    """
    lattice, rgb = header.lattice, header.rgb_groups
    assert lattice is not None
    out = Columns.empty(int(coded.counts.sum()), header.features)
    parts = min(threads, len(coded.payloads))
    good = [False] * parts

    def work(part: int) -> None:
        good[part] = _decode_part(coded, slice(part, None, parts), lattice, rgb, header.reach2, out)

    run(parts, threads, work)
    return Gaussians(*out[1:6]) if all(good) else None
