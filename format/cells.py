"""The `cells` codec (spec §5.3): a chunk's Gaussians in the order of a grid of cells, entropy-coded with rANS.

The order of Gaussians carries no information, so none is spent on it: for each cell of the grid a few adaptive yes/no
decisions tell how many means lie in it, and what a Gaussian then costs is its size, its elongation, an angle if it has
one to speak of, the place of its mean among the lattice points of the cell, and its features, some of them predicted
from Gaussians nearby that are already known. All models are static but for those decisions; nothing crosses chunks.

Compiled by Numba, which is loaded with this module and therefore only where a file needs it. Everything that decides
is an integer or binary64 without contraction, so that every machine decodes the same. Slow twin:
tests/reference_cells.py, written from the specification.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from igs.format import lattice as la
from igs.format.codes import invalid
from igs.format.errors import UsageError
from igs.format.quantize import Codes

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

STATE_LOW = 2**24  # rANS: 2^24 ≤ state < 2^40 between symbols, words of 16 bits
STATE_BYTES = 5
TRIM_BYTES = 4
TAIL = 12.0  # the distributions' tables end at so many spreads
KNOTS = 16  # table entries per spread
SIZE = int(2 * TAIL * KNOTS) + 1
PER_GAUSSIAN = 4  # cells
SIDE_CELLS = 1024
NEAR = 4  # known Gaussians that a prediction is the mean of
SPLIT = 1024  # codes beyond which low bits are stored as they are
RATIO_FALL = -0.375  # the elongation's spread falls with the size
MINOR_MAX = 8191
RATIO_MAX_CODE = 8191
FEATURE_SPAN = 16384

# How often a cell has another Gaussian, by what its neighbours hold (spec §5.3): counts of 32.
FIRST = (3, 5, 7, 8, 9, 11, 14)
NEXT = (4, 6, 6, 7, 8, 8, 10)

_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}


def _kernel(function: Callable[..., Any]) -> Any:
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder for the machine code can be written
        return numba.njit(**_OPTIONS)(function)


def _inline(function: Callable[..., Any]) -> Any:
    return numba.njit(**_OPTIONS)(function)


# -- models


@functools.cache
def tables() -> I64:
    """Cumulative distributions, int64 [4, SIZE], of 2^24, at −12 … 12 spreads (spec §5.3).

    Rows: logistic, Laplace, Student's t with 4 degrees of freedom, and the one-sided Weibull with exponent 3/2.
    """
    z = np.arange(SIZE) / KNOTS - TAIL
    e = 1.4426950408889634
    logistic = 1.0 / (1.0 + la.exp2(-z * e))
    tail = 0.5 * la.exp2(-np.abs(z) * e)
    laplace = np.where(z < 0, tail, 1.0 - tail)
    w = 4.0 + z * z
    student = 0.5 + (z * (6.0 + z * z)) / (2.0 * (w * np.sqrt(w)))
    positive = np.maximum(z, 0.0)
    weibull = 1.0 - la.exp2(-(positive * np.sqrt(positive)) * e)
    rows = np.floor(np.stack([logistic, laplace, student, weibull]) * 2.0**24 + 0.5).astype(np.int64)
    rows[:, 0], rows[:, -1] = 0, 2**24
    rows.flags.writeable = False
    return rows


class Parameters(NamedTuple):
    """A lattice record as the kernels take it."""

    steps: F64  # position, minor, ratio, rotation
    feature_steps: F64  # [F]
    families: I64  # [1 + F]: minor, features
    reals: F64  # [1 + F, 3]: pull, mean, spread
    scalars: F64  # [2]: spread of the elongation, largest code of minor
    angles: I64  # [17] cumulative, of 2^24
    tables: I64


@functools.lru_cache(maxsize=64)
def parameters(lattice: la.Lattice) -> Parameters:
    """Numbers of a lattice record."""
    models = (lattice.minor_model, *lattice.feature_models)
    steps = np.array([la.step_value(c) for c in (lattice.position, lattice.minor, lattice.ratio, lattice.rotation)])
    top = float(la.exp2(np.array([min((models[0].mean + TAIL * models[0].width) / 2, 7.0)]))[0])
    largest = min(float(np.ceil(max(top - la.ROOT_MIN, 0.0) / steps[1])) + 1.0, MINOR_MAX)
    weights = np.array(lattice.angles, np.int64) + 1
    angles = np.concatenate([[0], np.cumsum(weights)])
    return Parameters(
        steps,
        np.array([la.step_value(c) for c in lattice.feature]),
        np.array([m.family for m in models], np.int64),
        np.array([[m.pull / 64, m.mean, m.width] for m in models]),
        np.array([la.spread_value(lattice.ratio_spread), largest]),
        (angles * 2**24) // angles[-1],
        tables(),
    )


_SIN, _COS, _EXP, _LOG = (tuple(c) for c in (la.SIN, la.COS, la.EXP, la.LOG))
_PI, _LN2, _TWO_OVER_LN2, _SQRT_HALF = la.PI, la.LN2, la.TWO_OVER_LN2, la.SQRT_HALF
_ROOT_MIN, _ROOT_MAX, _RATIO_MAX, _LOG_MAX = la.ROOT_MIN, la.ROOT_MAX, la.RATIO_MAX, la.LOG_MAX
_ANGLES_MAX, _GAIN_MIN = float(la.ANGLES_MAX), la.FEATURE_GAIN_MIN


@_inline
def _exp2(v):  # type: ignore[no-untyped-def]
    n = np.floor(v)
    a = (v - n) * _LN2
    total = _EXP[17] * a
    for i in range(16, 0, -1):
        total = (total + _EXP[i]) * a
    return math.ldexp(total + _EXP[0], int(n))


@_inline
def _log2(v):  # type: ignore[no-untyped-def]
    m, e = math.frexp(v)
    if m < _SQRT_HALF:
        m = m * 2.0
        e -= 1
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    total = _LOG[10] * z
    for i in range(9, 0, -1):
        total = (total + _LOG[i]) * z
    return e + (s * _TWO_OVER_LN2) * (total + _LOG[0])


@_inline
def _cospi_sinpi(t):  # type: ignore[no-untyped-def]
    f = t - np.floor(t)
    k = np.floor(2.0 * f + 0.5)
    a = (f - k / 2.0) * _PI
    z = a * a
    s = _SIN[8] * z
    c = _COS[8] * z
    for i in range(7, 0, -1):
        s = (s + _SIN[i]) * z
        c = (c + _COS[i]) * z
    s = a * (s + _SIN[0])
    c = c + _COS[0]
    if k == 0:
        return c, s
    if k == 1:
        return -s, c
    return -c, -s


@_inline
def _size(minor, ratio, steps):  # type: ignore[no-untyped-def]
    """(root, log2 σ₁, log2 σ₂, σ₁, σ₂, gain)."""
    root = min(_ROOT_MIN + minor * steps[1], _ROOT_MAX)
    l2 = 2.0 * _log2(root)
    l1 = min(l2 + min(ratio * (steps[2] / root), _RATIO_MAX), _LOG_MAX)
    return root, l1, l2, _exp2(l1), root * root, _exp2((l1 + 3.0 * l2) * -0.125)


@_inline
def _angle_count(s1, s2, gain, steps):  # type: ignore[no-untyped-def]
    levels = np.ceil((s1 / s2 - s2 / s1) * (_PI / (steps[3] * gain)))
    return np.int64(min(max(levels, 1.0), _ANGLES_MAX))


@_inline
def _rows(s1, s2, turn, step):  # type: ignore[no-untyped-def]
    """The mean's lattice: distance of rows, distance of points in a row, shift of a row per pixel down."""
    c, s = _cospi_sinpi(turn)
    a, b = s1 * s1, s2 * s2
    cc, ss, sc = c * c, s * s, s * c
    d = np.sqrt(a) * np.sqrt(b)
    syy = a * ss + b * cc
    sxy = (a - b) * sc
    g = np.sqrt(syy)
    p, q, r = g / d, -sxy / (d * g), 1.0 / g
    return step / r, step / p, q / p


@_inline
def _curve(table, z):  # type: ignore[no-untyped-def]
    """The table's value at z spreads, of 2^24."""
    at = (z + TAIL) * KNOTS
    if at <= 0.0:
        return np.int64(0)
    if at >= SIZE - 1:
        return np.int64(1 << 24)
    i = np.int64(at)
    return table[i] + np.int64((at - i) * (table[i + 1] - table[i]))


@_inline
def _share(part, count, k):  # type: ignore[no-untyped-def]
    """A cumulative frequency of 2^16 that leaves each of ``count`` codes at least 1: part of 2^24 below code k."""
    return ((part * (65536 - count)) >> 24) + k


@_inline
def _minor_cum(k, last, expected, width, steps, table):  # type: ignore[no-untyped-def]
    if k <= 0:
        return np.int64(0)
    if k > last:
        return np.int64(65536)
    edge = 2.0 * _log2(_ROOT_MIN + (k - 0.5) * steps[1])
    return _share(_curve(table, (edge - expected) / width), last + 1, k)


@_inline
def _linear_cum(k, low, high, unit, offset, table):  # type: ignore[no-untyped-def]
    """Codes low … high whose edges lie at (k − ½)·unit − offset spreads."""
    if k <= low:
        return np.int64(0)
    if k > high:
        return np.int64(65536)
    return _share(_curve(table, (k - 0.5) * unit - offset), high - low + 1, k - low)


@_inline
def _angle_cum(k, count, shift, n, angles):  # type: ignore[no-untyped-def]
    """Directions: piecewise linear in the angle over 16 bins. k: of ``count`` groups of 2^shift angles out of n."""
    if k >= count:
        return np.int64(65536)
    at = min(((k << shift) / n) * 16.0, 16.0)
    i = min(np.int64(at), 15)
    part = angles[i] + np.int64((at - i) * (angles[i + 1] - angles[i]))
    return _share(part, count, k)


@_inline
def _shift(n):  # type: ignore[no-untyped-def]
    """Low bits stored as they are, so that at most SPLIT groups remain of n codes."""
    s = 0
    while ((n - 1) >> s) >= SPLIT:
        s += 1
    return s


@_inline
def _feature_range(width, mean, unit):  # type: ignore[no-untyped-def]
    centre = np.floor(mean / (unit * width))
    reach = min(np.ceil(TAIL / unit), FEATURE_SPAN)
    return np.int64(centre - reach), np.int64(centre + reach)


@_inline
def _grid(box, trim, count):  # type: ignore[no-untyped-def]
    """Origin, side of a cell in pixels, and how many columns and rows."""
    w, h = box[2] - box[0], box[3] - box[1]
    x0 = box[0] + w * (trim[0] / 256.0)
    y0 = box[1] + h * (trim[1] / 256.0)
    x1 = box[2] - w * (trim[2] / 256.0)
    y1 = box[3] - h * (trim[3] / 256.0)
    w, h = max(x1 - x0, 0.125), max(y1 - y0, 0.125)
    cell = max(np.sqrt((w * h) / (PER_GAUSSIAN * count)), max(w, h) / SIDE_CELLS)
    columns = min(np.int64(np.ceil(w / cell)), SIDE_CELLS)
    rows = min(np.int64(np.ceil(h / cell)), SIDE_CELLS)
    return x0, y0, cell, max(columns, 1), max(rows, 1)


@_inline
def _context(counts, x, y):  # type: ignore[no-untyped-def]
    """0–6: how full the known neighbours are. counts: a margin of 2 above, left and right."""
    near = counts[y + 2, x + 1] + counts[y + 1, x + 2]
    far = counts[y + 1, x + 1] + counts[y + 1, x + 3] + counts[y + 2, x] + counts[y, x + 2]
    return min(2 * near + far, 6)


@_inline
def _yes(odds, context):  # type: ignore[no-untyped-def]
    """Frequency of 'yes' of 2^16."""
    f = (odds[context, 0] << 16) // odds[context, 1]
    return min(max(f, 64), 65536 - 64)


@_inline
def _learn(odds, context, yes):  # type: ignore[no-untyped-def]
    odds[context, 1] += 2
    if yes:
        odds[context, 0] += 2
    if odds[context, 1] > 1024:
        odds[context, 1] >>= 1
        odds[context, 0] = (odds[context, 0] >> 1) | 1


_DX = np.array([-1, 0, -1, 1, -2, 0, -2, 2, -1, 1, -2, 2], np.int64)
_DY = np.array([0, -1, -1, -1, 0, -2, -1, -1, -2, -2, -2, -2], np.int64)


@_inline
def _neighbours(found, last, before, x, y, columns):  # type: ignore[no-untyped-def]
    """Up to NEAR known Gaussians: the two latest of this cell, then the latest of the cells around, nearest first."""
    n = 0
    i = last[y, x]
    while i >= 0 and n < 2:
        found[n] = i
        n += 1
        i = before[i]
    for k in range(12):
        if n >= NEAR:
            break
        cx, cy = x + _DX[k], y + _DY[k]
        if 0 <= cx < columns and cy >= 0 and last[cy, cx] >= 0:
            found[n] = last[cy, cx]
            n += 1
    return n


@_inline
def _expected(values, column, found, n, pull, mean):  # type: ignore[no-untyped-def]
    if n == 0 or pull == 0.0:
        return mean
    total = 0.0
    for i in range(n):
        total += values[found[i], column]
    return mean + pull * (total / n - mean)


@_inline
def _fresh_odds():  # type: ignore[no-untyped-def]
    odds = np.empty((14, 2), np.int64)
    odds[:, 1] = 32
    for i in range(7):
        odds[i, 0] = FIRST[i]
        odds[7 + i, 0] = NEXT[i]
    return odds


# -- decoding


@_inline
def _advance(rans, words, start, frequency):  # type: ignore[no-untyped-def]
    """rans: state, next word, error. words: the payload's 16-bit words."""
    x = frequency * (rans[0] >> 16) + (rans[0] & 0xFFFF) - start
    if x < STATE_LOW:
        if rans[1] >= len(words):
            rans[2] = 1
            x = STATE_LOW
        else:
            x = (x << 16) | np.int64(words[rans[1]])
            rans[1] += 1
    rans[0] = x


@_inline
def _uniform(rans, words, n):  # type: ignore[no-untyped-def]
    """A number below n, all equally likely."""
    shift = _shift(n)
    groups = ((n - 1) >> shift) + 1
    slot = rans[0] & 0xFFFF
    high = ((slot + 1) * groups - 1) >> 16
    start = (high << 16) // groups
    while start > slot:
        high -= 1
        start = (high << 16) // groups
    end = ((high + 1) << 16) // groups
    while end <= slot:
        high += 1
        start, end = end, ((high + 1) << 16) // groups
    _advance(rans, words, start, end - start)
    return _low_bits(rans, words, high, shift)


@_inline
def _low_bits(rans, words, high, shift):  # type: ignore[no-untyped-def]
    while shift > 0:
        bits = min(shift, 16)
        low = (rans[0] & 0xFFFF) >> (16 - bits)
        _advance(rans, words, low << (16 - bits), 1 << (16 - bits))
        high = (high << bits) | low
        shift -= bits
    return high


@_inline
def _seek(table, slot):  # type: ignore[no-untyped-def]
    """About how many spreads lie below a slot of 2^16."""
    target = slot << 8
    low, high = 0, SIZE - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if table[middle] <= target:
            low = middle
        else:
            high = middle
    width = table[low + 1] - table[low]
    part = 0.5 if width == 0 else (target - table[low]) / width
    return (low + part) / KNOTS - TAIL


@_inline
def _get_linear(rans, words, low, high, unit, offset, table):  # type: ignore[no-untyped-def]
    slot = rans[0] & 0xFFFF
    k = np.int64(np.floor((_seek(table, slot) + offset) / unit + 0.5))
    k = min(max(k, low), high)
    start = _linear_cum(k, low, high, unit, offset, table)
    end = _linear_cum(k + 1, low, high, unit, offset, table)
    while slot < start:
        k -= 1
        start, end = _linear_cum(k, low, high, unit, offset, table), start
    while slot >= end:
        k += 1
        start, end = end, _linear_cum(k + 1, low, high, unit, offset, table)
    _advance(rans, words, start, end - start)
    return k


@_inline
def _get_minor(rans, words, last, expected, width, steps, table):  # type: ignore[no-untyped-def]
    slot = rans[0] & 0xFFFF
    root = _exp2(min(max((_seek(table, slot) * width + expected) * 0.5, -8.0), 8.0))
    k = min(max(np.int64(np.floor((root - _ROOT_MIN) / steps[1] + 0.5)), 0), last)
    start = _minor_cum(k, last, expected, width, steps, table)
    end = _minor_cum(k + 1, last, expected, width, steps, table)
    while slot < start:
        k -= 1
        start, end = _minor_cum(k, last, expected, width, steps, table), start
    while slot >= end:
        k += 1
        start, end = end, _minor_cum(k + 1, last, expected, width, steps, table)
    _advance(rans, words, start, end - start)
    return k


@_inline
def _get_angle(rans, words, n, angles):  # type: ignore[no-untyped-def]
    if n == 1:
        return np.int64(0)
    shift = _shift(n)
    count = ((n - 1) >> shift) + 1
    slot = rans[0] & 0xFFFF
    low, high = np.int64(0), count
    while high - low > 1:
        middle = (low + high) >> 1
        if _angle_cum(middle, count, shift, n, angles) <= slot:
            low = middle
        else:
            high = middle
    start = _angle_cum(low, count, shift, n, angles)
    _advance(rans, words, start, _angle_cum(low + 1, count, shift, n, angles) - start)
    return _low_bits(rans, words, low, shift)


@_kernel
def _decode(words, state, trim, box, count, steps, feature_steps, families, reals, scalars, angles, table, codes):  # type: ignore[no-untyped-def]
    """Fill codes int32 [count, 5 + F]; returns (error, final state, words used). Errors: 1 stream, 2 position."""
    rans = np.array([state, 0, 0], np.int64)
    features = len(feature_steps)
    x0, y0, cell, columns, rows = _grid(box, trim, count)
    counts = np.zeros((rows + 2, columns + 4), np.int64)
    last = np.full((rows, columns), -1, np.int64)
    before = np.full(count, -1, np.int64)
    values = np.zeros((count, 1 + features))
    found = np.zeros(NEAR, np.int64)
    odds = _fresh_odds()
    largest = np.int64(scalars[1])
    done = 0
    for y in range(rows):
        for x in range(columns):
            context = _context(counts, x, y)
            while True:
                c = context + 7 * (counts[y + 2, x + 2] > 0)
                f = _yes(odds, c)
                yes = (rans[0] & 0xFFFF) < f
                if yes:
                    _advance(rans, words, 0, f)
                else:
                    _advance(rans, words, f, 65536 - f)
                _learn(odds, c, yes)
                if not yes:
                    break
                near = _neighbours(found, last, before, x, y, columns)
                expected = _expected(values, 0, found, near, reals[0, 0], reals[0, 1])
                minor = _get_minor(rans, words, largest, expected, reals[0, 2], steps, table[families[0]])
                root, l1, l2, s1, s2, gain = _size(minor, 0, steps)
                spread = scalars[0] * _exp2(RATIO_FALL * l2)
                unit = (steps[2] / root) / spread
                top = np.int64(min(np.ceil(TAIL / unit), RATIO_MAX_CODE))
                ratio = _get_linear(rans, words, 0, top, unit, 0.0, table[3])
                root, l1, l2, s1, s2, gain = _size(minor, ratio, steps)
                n = _angle_count(s1, s2, gain, steps)
                angle = _get_angle(rans, words, n, angles)
                sy, sx, shear = _rows(s1, s2, (angle + 0.5) / n, steps[0] * gain)
                top_row = np.int64(np.ceil((y0 + y * cell) / sy))
                height = np.int64(np.ceil((y0 + (y + 1) * cell) / sy)) - top_row
                if angle >= n or height < 1 or rans[2]:
                    return 2 - rans[2], rans[0], rans[1]
                j = top_row + _uniform(rans, words, height)
                shift = shear * (j * sy)
                left = np.int64(np.ceil(((x0 + x * cell) + shift) / sx))
                width = np.int64(np.ceil(((x0 + (x + 1) * cell) + shift) / sx)) - left
                if j >= top_row + height or width < 1:
                    return 2, rans[0], rans[1]
                i = left + _uniform(rans, words, width)
                if i >= left + width or abs(i) > 1 << 30 or abs(j) > 1 << 30:
                    return 2, rans[0], rans[1]
                codes[done, 0], codes[done, 1] = i, j
                codes[done, 2], codes[done, 3], codes[done, 4] = minor, ratio, angle
                values[done, 0] = l2
                gain = max(_exp2((3.0 * l1 + 4.0 * l2) * -0.125), _GAIN_MIN)
                for f in range(features):
                    pull, mean, spread = reals[1 + f, 0], reals[1 + f, 1], reals[1 + f, 2]
                    expected = _expected(values, 1 + f, found, near, pull, mean)
                    step = feature_steps[f] * gain
                    unit = step / spread
                    low, high = _feature_range(spread, mean, unit)
                    k = _get_linear(rans, words, low, high, unit, expected / spread, table[families[1 + f]])
                    codes[done, 5 + f] = k
                    values[done, 1 + f] = k * step
                if rans[2]:
                    return 1, rans[0], rans[1]
                before[done] = last[y, x]
                last[y, x] = done
                counts[y + 2, x + 2] += 1
                done += 1
                if done == count:
                    return 0, rans[0], rans[1]
    return 1, rans[0], rans[1]


# -- encoding


@_inline
def _put(symbols, at, start, end):  # type: ignore[no-untyped-def]
    symbols[at, 0] = start
    symbols[at, 1] = end - start
    return at + 1


@_inline
def _put_uniform(symbols, at, value, n):  # type: ignore[no-untyped-def]
    shift = _shift(n)
    groups = ((n - 1) >> shift) + 1
    high = value >> shift
    at = _put(symbols, at, (high << 16) // groups, ((high + 1) << 16) // groups)
    return _put_low(symbols, at, value, shift)


@_inline
def _put_low(symbols, at, value, shift):  # type: ignore[no-untyped-def]
    while shift > 0:
        bits = min(shift, 16)
        low = (value >> (shift - bits)) & ((1 << bits) - 1)
        at = _put(symbols, at, low << (16 - bits), (low + 1) << (16 - bits))
        shift -= bits
    return at


@_inline
def _cell_of(i, j, sy, sx, shear, x0, y0, cell, columns, rows):  # type: ignore[no-untyped-def]
    """The cell whose range of lattice points holds (i, j); −1 where none does."""
    y = min(max(np.int64(np.floor((j * sy - y0) / cell)), 0), rows - 1)
    while y > 0 and j < np.int64(np.ceil((y0 + y * cell) / sy)):
        y -= 1
    while y < rows - 1 and j >= np.int64(np.ceil((y0 + (y + 1) * cell) / sy)):
        y += 1
    shift = shear * (j * sy)
    x = min(max(np.int64(np.floor((i * sx - shift - x0) / cell)), 0), columns - 1)
    while x > 0 and i < np.int64(np.ceil(((x0 + x * cell) + shift) / sx)):
        x -= 1
    while x < columns - 1 and i >= np.int64(np.ceil(((x0 + (x + 1) * cell) + shift) / sx)):
        x += 1
    inside = np.int64(np.ceil((y0 + y * cell) / sy)) <= j < np.int64(np.ceil((y0 + (y + 1) * cell) / sy))
    inside = inside and np.int64(np.ceil(((x0 + x * cell) + shift) / sx)) <= i
    inside = inside and i < np.int64(np.ceil(((x0 + (x + 1) * cell) + shift) / sx))
    return y * columns + x if inside else -1


@_kernel
def _place(codes, trim, box, steps, cells):  # type: ignore[no-untyped-def]
    """The cell of each Gaussian into cells int64 [n]; −1 where it is outside of the grid."""
    x0, y0, cell, columns, rows = _grid(box, trim, len(codes))
    for g in range(len(codes)):
        root, l1, l2, s1, s2, gain = _size(codes[g, 2], codes[g, 3], steps)
        n = _angle_count(s1, s2, gain, steps)
        sy, sx, shear = _rows(s1, s2, (codes[g, 4] + 0.5) / n, steps[0] * gain)
        cells[g] = _cell_of(codes[g, 0], codes[g, 1], sy, sx, shear, x0, y0, cell, columns, rows)


@_kernel
def _symbols(codes, cells, trim, box, steps, feature_steps, families, reals, scalars, angles, table, symbols, spent, around):  # type: ignore[no-untyped-def]
    """Symbols (start, frequency) of a chunk whose rows are sorted by cell; returns how many, or −1 − row of a bad code.

    spent: float64 [n, 4 + F] bits of each Gaussian's position, minor, ratio, rotation, features; flags not included.
    around: float64 [n, 1 + F] mean of the known neighbours' log₂σ₂ and features; NaN where there are none.
    """
    count = len(codes)
    features = len(feature_steps)
    x0, y0, cell, columns, rows = _grid(box, trim, count)
    counts = np.zeros((rows + 2, columns + 4), np.int64)
    last = np.full((rows, columns), -1, np.int64)
    before = np.full(count, -1, np.int64)
    values = np.zeros((count, 1 + features))
    found = np.zeros(NEAR, np.int64)
    odds = _fresh_odds()
    largest = np.int64(scalars[1])
    done, at = 0, 0
    for y in range(rows):
        for x in range(columns):
            context = _context(counts, x, y)
            while done < count:
                c = context + 7 * (counts[y + 2, x + 2] > 0)
                f = _yes(odds, c)
                yes = cells[done] == y * columns + x
                at = _put(symbols, at, 0, f) if yes else _put(symbols, at, f, 65536)
                _learn(odds, c, yes)
                if not yes:
                    break
                first = at
                i, j = codes[done, 0], codes[done, 1]
                minor, ratio, angle = codes[done, 2], codes[done, 3], codes[done, 4]
                near = _neighbours(found, last, before, x, y, columns)
                for f in range(1 + features):
                    around[done, f] = _expected(values, f, found, near, 1.0, 0.0) if near else np.nan
                expected = _expected(values, 0, found, near, reals[0, 0], reals[0, 1])
                curve = table[families[0]]
                start = _minor_cum(minor, largest, expected, reals[0, 2], steps, curve)
                at = _put(symbols, at, start, _minor_cum(minor + 1, largest, expected, reals[0, 2], steps, curve))
                root, l1, l2, s1, s2, gain = _size(minor, 0, steps)
                unit = (steps[2] / root) / (scalars[0] * _exp2(RATIO_FALL * l2))
                top = np.int64(min(np.ceil(TAIL / unit), RATIO_MAX_CODE))
                start = _linear_cum(ratio, 0, top, unit, 0.0, table[3])
                at = _put(symbols, at, start, _linear_cum(ratio + 1, 0, top, unit, 0.0, table[3]))
                if minor < 0 or minor > largest or ratio < 0 or ratio > top:
                    return -1 - done
                root, l1, l2, s1, s2, gain = _size(minor, ratio, steps)
                n = _angle_count(s1, s2, gain, steps)
                if angle < 0 or angle >= n:
                    return -1 - done
                if n > 1:
                    shift = _shift(n)
                    groups = ((n - 1) >> shift) + 1
                    high = angle >> shift
                    start = _angle_cum(high, groups, shift, n, angles)
                    at = _put(symbols, at, start, _angle_cum(high + 1, groups, shift, n, angles))
                    at = _put_low(symbols, at, angle, shift)
                after_angle = at
                sy, sx, shear = _rows(s1, s2, (angle + 0.5) / n, steps[0] * gain)
                top_row = np.int64(np.ceil((y0 + y * cell) / sy))
                height = np.int64(np.ceil((y0 + (y + 1) * cell) / sy)) - top_row
                at = _put_uniform(symbols, at, j - top_row, height)
                move = shear * (j * sy)
                left = np.int64(np.ceil(((x0 + x * cell) + move) / sx))
                width = np.int64(np.ceil(((x0 + (x + 1) * cell) + move) / sx)) - left
                at = _put_uniform(symbols, at, i - left, width)
                after_place = at
                values[done, 0] = l2
                gain = max(_exp2((3.0 * l1 + 4.0 * l2) * -0.125), _GAIN_MIN)
                for f in range(features):
                    pull, mean, spread = reals[1 + f, 0], reals[1 + f, 1], reals[1 + f, 2]
                    expected = _expected(values, 1 + f, found, near, pull, mean)
                    step = feature_steps[f] * gain
                    unit = step / spread
                    low, high = _feature_range(spread, mean, unit)
                    k = codes[done, 5 + f]
                    if k < low or k > high:
                        return -1 - done
                    offset = expected / spread
                    start = _linear_cum(k, low, high, unit, offset, table[families[1 + f]])
                    at = _put(symbols, at, start, _linear_cum(k + 1, low, high, unit, offset, table[families[1 + f]]))
                    values[done, 1 + f] = k * step
                for s in range(first, at):
                    bits = 16.0 - np.log2(symbols[s, 1])
                    if s < first + 2:
                        spent[done, 1 + s - first] += bits
                    elif s < after_angle:
                        spent[done, 3] += bits
                    elif s < after_place:
                        spent[done, 0] += bits
                    else:
                        spent[done, 4 + s - after_place] += bits
                before[done] = last[y, x]
                last[y, x] = done
                counts[y + 2, x + 2] += 1
                done += 1
    return at if done == count else -1 - done


@_kernel
def _pack(symbols, count, words):  # type: ignore[no-untyped-def]
    """rANS from the last symbol to the first; returns the final state and the number of words, last one first."""
    x = np.int64(STATE_LOW)
    n = 0
    for at in range(count - 1, -1, -1):
        f = symbols[at, 1]
        if x >= f << 24:
            words[n] = x & 0xFFFF
            n += 1
            x >>= 16
        x = ((x // f) << 16) + x % f + symbols[at, 0]
    return x, n


# -- chunks


class Encoded(NamedTuple):
    """A chunk: its payload, the order of the rows given, and what they cost.

    bits: float64 [n, 4 + F], in that order: position, minor, ratio, rotation, features. decisions: bits of the cells.
    around: float64 [n, 1 + F], what the known neighbours have: log₂σ₂ and features, NaN where there are none.
    """

    payload: bytes
    order: NDArray[np.intp]
    bits: F64
    around: F64
    decisions: float


def clip_box(box: F64, width: int, height: int) -> F64:
    """The box that a chunk's grid lies in: the index's, no further out than one picture on each side (spec §5.3)."""
    return np.array(
        [
            min(max(box[0], -float(width)), 2.0 * width),
            min(max(box[1], -float(height)), 2.0 * height),
            max(min(box[2], 2.0 * width), -float(width)),
            max(min(box[3], 2.0 * height), -float(height)),
        ]
    )


def encode(codes: Codes, lattice: la.Lattice, box: F64, positions: F64) -> Encoded:
    """A chunk's payload. codes: uint32 [n, 5 + F]. box: as ``clip_box`` gives. positions: the means [n, 2] in pixels.

    Raises UsageError for a code that the models leave no room for, or a mean outside of the box.
    """
    table = np.ascontiguousarray(codes.astype(np.uint32).view(np.int32).astype(np.int64))
    p = parameters(lattice)
    cells = np.empty(len(table), np.int64)
    trim = _choose_trim(box, positions)
    _place(table, trim, box, p.steps, cells)
    if (cells < 0).any():
        raise UsageError(f"a Gaussian at {positions[int((cells < 0).argmax())].tolist()}: outside of its chunk's box")
    order = np.argsort(cells, kind="stable")
    table, cells = table[order], cells[order]
    x0, y0, cell, columns, rows = _grid.py_func(box, trim, len(table))
    most = int(columns * rows) + len(table) * (14 + table.shape[1])
    symbols = np.empty((most, 2), np.int64)
    spent = np.zeros((len(table), table.shape[1] - 1))
    around = np.empty((len(table), table.shape[1] - 4))
    count = _symbols(table, cells, trim, box, *p, symbols, spent, around)
    if count < 0:
        row = -1 - count
        raise UsageError(f"a Gaussian's codes: expected what the lattice's models hold, found {table[row].tolist()}")
    words = np.empty(count + 1, np.uint16)
    state, used = _pack(symbols, count, words)
    payload = trim.astype(np.uint8).tobytes() + int(state).to_bytes(STATE_BYTES, "little")
    total = float((16.0 - np.log2(symbols[:count, 1])).sum())
    return Encoded(payload + words[:used][::-1].astype("<u2").tobytes(), order, spent, around, total - float(spent.sum()))


def _choose_trim(box: F64, positions: F64) -> I64:
    """How much of each side of the box holds no mean, in 256ths, with a margin for lattice points on its edge."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    span = np.maximum(box[2:] - box[:2], 1e-9)
    margin = 2.0**-10
    sides = np.concatenate([(low - margin - box[:2]) / span, (box[2:] - high - margin) / span])
    return np.clip(np.floor(sides * 256.0), 0, 255).astype(np.int64)


def decode(payload: bytes, count: int, lattice: la.Lattice, box: F64) -> Codes:
    """The codes table of a chunk, rows in the order of spec §5.3. Raises InvalidFile E_STREAM."""
    if len(payload) < TRIM_BYTES + STATE_BYTES or (len(payload) - TRIM_BYTES - STATE_BYTES) % 2:
        raise invalid("E_STREAM", "a whole number of words behind 9 bytes", f"{len(payload)} bytes")
    trim = np.frombuffer(payload, np.uint8, TRIM_BYTES).astype(np.int64)
    state = int.from_bytes(payload[TRIM_BYTES : TRIM_BYTES + STATE_BYTES], "little")
    if state < STATE_LOW:
        raise invalid("E_STREAM", f"a state of at least {STATE_LOW}", str(state))
    words = np.frombuffer(payload, "<u2", offset=TRIM_BYTES + STATE_BYTES)
    p = parameters(lattice)
    codes = np.empty((count, 5 + len(p.feature_steps)), np.int32)
    error, final, used = _decode(words, state, trim, box, count, *p, codes)
    if error == 2:
        raise invalid("E_STREAM", "a mean inside of its cell", "one outside")
    if error or used != len(words) or final != STATE_LOW:
        raise invalid("E_STREAM", f"{count} Gaussians in the whole payload", "too few, or something behind them")
    return codes.view(np.uint32)
