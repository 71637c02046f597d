"""Reading the `cells` codec (spec §5.3): the Gaussians of a chunk from its payload. Errors are those of the stream.

Bounded by the count and the grid, whatever the bytes are: behind the payload's end zeros are read, until it is noticed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from igs.format import cells_model as m
from igs.format import rans
from igs.format.cells_model import (
    CODE_MAX,
    CURVES,
    GUESS_LOW,
    GUESS_STEPS,
    GUESSES,
    KNOTS,
    MARGIN,
    SEEK,
    SPREADS,
    TAIL,
    WEIBULL,
    below,
    below_angle,
    context_of,
    expected_value,
    feature_range,
    neighbours,
    rows_of,
    shape,
)
from igs.format.codes import invalid
from igs.format.jit import helper, inline, kernels
from igs.format.lattice import Lattice
from igs.format.quantize import Codes
from igs.format.rans import STATE_LOW, advance, get_bits, get_uniform, get_yes, low_bits

TRIM_BYTES = 4
kernel = kernels(__file__, "rans.py", "cells_model.py", "lattice.py")


@helper
def _search(slot, k, low, high, first, second, edges, curve):  # type: ignore[no-untyped-def]
    """What ``_get_curved`` looks for, and its range, from a guess: in steps that double, then by halves."""
    under, above, step = k, k + 1, 1
    start, end = np.int64(0), np.int64(65536)
    wide = True
    while wide:  # until below(under) ≤ slot < below(above)
        cut = below(under, low, high, first, second, edges, curve)
        if cut > slot:
            under, above, end = max(under - step, low), under, cut
        else:
            start = cut
            cut = below(above, low, high, first, second, edges, curve)
            wide = cut <= slot
            if wide:
                under, above = above, min(above + step, high + 1)
            else:
                end = cut
        step *= 2
    while above - under > 1:
        middle = (under + above) >> 1
        cut = below(middle, low, high, first, second, edges, curve)
        if cut <= slot:
            under, start = middle, cut
        else:
            above, end = middle, cut
    return under, start, end


@inline
def _get_curved(x, words, read, low, high, first, second, edges, curve):  # type: ignore[no-untyped-def]
    """A number low … high by a curve; what ``below`` says of ``first``, ``second`` and ``edges``."""
    slot = x & 0xFFFF
    codes = 1.0 / second  # known before the slot is: what follows is a guess, and waits for no division
    knot, target = np.int64(SEEK[curve, slot >> 6]), slot << 8
    while CURVES[curve, knot + 1] <= target:
        knot += 1
    z = (target - CURVES[curve, knot]) * SPREADS[curve, knot] + (knot * (1.0 / KNOTS) - TAIL)
    if len(edges):
        at = min(max((z * second + first - GUESS_LOW) * GUESS_STEPS, 0.0), GUESSES - 1.0)
        k = int(edges[high + 2 + int(at)])
    else:
        k = math.floor((z + first) * codes + 0.5)
    k = min(max(k, low), high)
    start, end = below(k, low, high, first, second, edges, curve), below(k + 1, low, high, first, second, edges, curve)
    if not start <= slot < end:
        k, start, end = _search(slot, k, low, high, first, second, edges, curve)
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


@kernel
def _decode(words, x, x0, y0, cell, odds, known, p, codes):  # type: ignore[no-untyped-def]
    """Fill codes int32 [count, 5 + F]; returns (whether the payload is wrong, final state, words read).

    known: ``fresh_known``. p: Parameters.
    """
    steps, feature_steps, families, reals, angles, minors, edges = p
    count, features, zero, none = len(codes), len(feature_steps), np.int64(0), edges[:0]
    counts, last, before, values, found = known
    read = done = zero
    for at_y in range(MARGIN, counts.shape[0]):
        y = at_y - MARGIN
        for at_x in range(MARGIN, counts.shape[1] - MARGIN):
            x_cell = at_x - MARGIN
            context = context_of(counts, at_x, at_y)
            while True:
                x, read, yes = get_yes(x, words, read, odds, context)
                if not yes:
                    break
                if counts[at_y, at_x] == 0:
                    context += 7
                near = neighbours(found, last, before, at_x, at_y)
                expected = expected_value(values, zero, found, near, reals[0, 0], reals[0, 1])
                x, read, minor = _get_curved(
                    x, words, read, zero, len(minors) - 1, expected, reals[0, 2], edges, families[0]
                )
                unit, most = minors[minor, 3], int(minors[minor, 4])
                x, read, ratio = _get_curved(x, words, read, zero, most, 0.0, unit, none, np.int64(WEIBULL))
                l2, s1, s2, step, gain, n = shape(minor, ratio, minors, steps)
                angle = zero
                if n > 1:
                    x, read, angle = _get_angle(x, words, read, n, angles)
                sy, sx, shear = rows_of(s1, s2, (angle + 0.5) / n, step)
                top = math.ceil((y0 + y * cell) / sy)
                height = math.ceil((y0 + (y + 1) * cell) / sy) - top
                if angle >= n or height < 1:
                    return True, x, read
                x, read, j = get_uniform(x, words, read, height)
                shift = shear * ((top + j) * sy)
                left = math.ceil(((x0 + x_cell * cell) + shift) / sx)
                width = math.ceil(((x0 + (x_cell + 1) * cell) + shift) / sx) - left
                if j >= height or width < 1:
                    return True, x, read
                x, read, i = get_uniform(x, words, read, width)
                if i >= width or abs(left + i) > CODE_MAX or abs(top + j) > CODE_MAX:
                    return True, x, read
                codes[done, 0], codes[done, 1], codes[done, 2] = left + i, top + j, minor
                codes[done, 3], codes[done, 4], values[done, 0] = ratio, angle, l2

                for f in range(1, 1 + features):
                    mean, spread, curve = reals[f, 1], reals[f, 2], families[f]
                    step = feature_steps[f - 1] * gain
                    unit = step / spread
                    offset = expected_value(values, f, found, near, reals[f, 0], mean) / spread
                    low, high = feature_range(mean, spread, unit)
                    x, read, k = _get_curved(x, words, read, low, high, offset, unit, none, curve)
                    if abs(k) > CODE_MAX:
                        return True, x, read
                    codes[done, 4 + f], values[done, f] = k, k * step
                if read > len(words):
                    return True, x, read
                before[done], last[at_y, at_x] = last[at_y, at_x], done
                counts[at_y, at_x] += 1
                done += 1
                if done == count:
                    return False, x, read
    return True, x, read


def decode(payload: bytes, count: int, lattice: Lattice, box: NDArray[np.float64]) -> Codes:
    """The codes table of a chunk, rows in the order of the stream. Raises InvalidFile E_STREAM."""
    state, words = rans.open_payload(payload[TRIM_BYTES:])
    trim = np.frombuffer(payload, np.uint8, TRIM_BYTES)
    codes = np.empty((count, 5 + len(lattice.feature)), np.int32)
    x0, y0, cell, columns, rows = m.grid(box, trim, count)
    known = m.fresh_known(columns, rows, codes)
    models = tuple(m.parameters(lattice))
    wrong, final, read = _decode(words, state, x0, y0, cell, m.fresh_odds(), known, models, codes)
    if wrong or read != len(words) or final != STATE_LOW:
        raise invalid("E_STREAM", f"{count} Gaussians in the whole payload", "something else")
    return codes.view(np.uint32)
