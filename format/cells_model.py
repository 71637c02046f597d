"""What reader and writer of the `cells` codec share (spec §5.3): curves, numbers of a lattice record, grid, contexts.

Helpers for Numba kernels. Where the specification has a formula of a code alone, its values stand in tables that are
made once per lattice record; everything else is computed as the specification writes it.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igs.format import arithmetic as ar
from igs.format import lattice as la
from igs.format.jit import OPTIONS, helper, inline, kernels
from igs.format.rans import contexts

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

TAIL = 12.0  # the curves' tables end at so many spreads
KNOTS = 16  # table entries per spread
SIZE = int(2 * TAIL * KNOTS) + 1
WEIBULL = 3  # the curve of the elongation
PER_GAUSSIAN = 4  # cells
SIDE_CELLS = 1024
NEAR = 4  # known Gaussians that a prediction is the mean of
MINOR_MAX = RATIO_MAX = 8191
FEATURE_SPAN = 16384
CODE_MAX = 2**30

# How often a cell has another Gaussian: of 32, by what its neighbours hold, for the first one and for later ones.
ODDS = (3, 5, 7, 8, 9, 11, 14, 4, 6, 6, 7, 8, 8, 10)
# Cells whose latest Gaussian is a neighbour, nearest first.
DX = np.array([-1, 0, -1, 1, -2, 0, -2, 2, -1, 1, -2, 2], np.int64)
DY = np.array([0, -1, -1, -1, 0, -2, -1, -1, -2, -2, -2, -2], np.int64)
MARGIN = 2  # cells beside the grid that are always empty, so that no neighbour has to be tested for being inside

GUESS_LOW, GUESS_STEPS = -2.0, 16  # log2 of the least size, entries per octave
GUESSES = 17 * GUESS_STEPS

kernel = kernels(__file__, "lattice.py", "arithmetic.py", flags=OPTIONS)


# -- tables


@functools.cache
def tables() -> I64:
    """Cumulative distributions, int64 [4, SIZE], of 2^24, at −12 … 12 spreads.

    Rows: logistic, Laplace, Student's t with 4 degrees of freedom, and the one-sided Weibull with exponent 3/2.
    """
    z = np.arange(SIZE) / KNOTS - TAIL
    e = float.fromhex("0x1.71547652B82FEp+0")
    logistic = 1.0 / (1.0 + ar.exp2(-z * e))
    tail = 0.5 * ar.exp2(-np.abs(z) * e)
    laplace = np.where(z < 0, tail, 1.0 - tail)
    w = 4.0 + z * z
    student = 0.5 + (z * (6.0 + z * z)) / (2.0 * (w * np.sqrt(w)))
    positive = np.maximum(z, 0.0)
    weibull = 1.0 - ar.exp2(-(positive * np.sqrt(positive)) * e)
    rows = np.floor(np.stack([logistic, laplace, student, weibull]) * 2.0**24 + 0.5).astype(np.int64)
    rows[:, 0], rows[:, -1] = 0, 2**24
    rows.flags.writeable = False
    return rows


CURVES = np.stack([tables(), np.diff(tables(), axis=1, append=2**24)], axis=2).astype(np.float64)  # and what follows


def _places() -> F64:
    """About where a curve has a slot of 2^16, float64 [4, 1024, 2]: at the first of each run of 64, and how much it is
    further for each slot more."""
    slots = (np.arange(1025) << 14).astype(np.float64)
    z = np.arange(SIZE) / KNOTS - TAIL
    at = np.stack([np.interp(slots, row, z) for row in tables()])
    return np.stack([at[:, :-1], np.diff(at, axis=1) / 64.0], axis=2)


PLACES = _places()


@helper
def grid(box, trim, count):  # type: ignore[no-untyped-def]
    """Origin and side of a cell in pixels, and how many columns and rows. box: float64 [4]. trim: uint8 [4 or more]."""
    left, top, right, bottom = box[0], box[1], box[2], box[3]
    w, h = right - left, bottom - top
    x0, y0 = left + w * (trim[0] / 256), top + h * (trim[1] / 256)
    w, h = max((right - w * (trim[2] / 256)) - x0, 0.125), max((bottom - h * (trim[3] / 256)) - y0, 0.125)
    cell = max(math.sqrt((w * h) / (PER_GAUSSIAN * count)), max(w, h) / SIDE_CELLS)
    return x0, y0, cell, min(math.ceil(w / cell), SIDE_CELLS), min(math.ceil(h / cell), SIDE_CELLS)


@inline
def number_of(x, y, columns):  # type: ignore[no-untyped-def]
    """Of cell (x, y) in arrays of a grid's cells. There are MARGIN rows above it, MARGIN columns beside; the right
    margin of a row is the left one of the next. Cell (0, rows) would be the first behind the array."""
    return (y + MARGIN) * (columns + MARGIN) + MARGIN + x


FRESH = contexts([(a, 32) for a in ODDS])  # decisions before the first of a chunk, int64 [14, 3] (rans.py)


# -- spec §6.3, §6.4: these return what arithmetic.py and lattice.py do, bit for bit

_PI, _LN2, _RATIO_OCTAVES, _LOG_MAX = ar.PI, ar.LN2, la.RATIO_MAX, la.LOG_MAX
_ANGLES_MAX, _GAIN_MIN = la.ANGLES_MAX, la.FEATURE_GAIN_MIN
_POWERS = np.ldexp(1.0, np.arange(-32, 32))  # far more than sizes and gains need: they are all from 2^-13 to 2^15
_S0, _S1, _S2, _S3, _S4, _S5, _S6, _S7, _S8 = ar.SIN
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8 = ar.COS
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12, _E13, _E14, _E15, _E16, _E17 = ar.EXP
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8, _L9, _L10 = ar.LOG
_SQRT_HALF, _TWO_OVER_LN2 = ar.SQRT_HALF, ar.TWO_OVER_LN2
_ROOT_MIN, _ROOT_MAX, _RATIO_FALL = la.ROOT_MIN, la.ROOT_MAX, la.RATIO_FALL


@inline
def exp2(v):  # type: ignore[no-untyped-def]
    """2^v for |v| < 32."""
    n = math.floor(v)
    a = (v - n) * _LN2
    t = ((((((((_E17 * a + _E16) * a + _E15) * a + _E14) * a + _E13) * a + _E12) * a + _E11) * a + _E10) * a + _E9) * a
    t = (((((((t + _E8) * a + _E7) * a + _E6) * a + _E5) * a + _E4) * a + _E3) * a + _E2) * a + _E1
    return (t * a + _E0) * _POWERS[n + 32]


@inline
def log2(v):  # type: ignore[no-untyped-def]
    """log₂ v, v > 0."""
    m, e = math.frexp(v)
    if m < _SQRT_HALF:
        m, e = m * 2.0, e - 1
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    t = ((((((_L10 * z + _L9) * z + _L8) * z + _L7) * z + _L6) * z + _L5) * z + _L4) * z
    t = (((t + _L3) * z + _L2) * z + _L1) * z + _L0
    return e + (s * _TWO_OVER_LN2) * t


@inline
def shape(minor, ratio, minors, steps):  # type: ignore[no-untyped-def]
    """(λ2, σ1, σ2, step of the mean P·γ, φ, n) of the codes of size, which the tables hold."""
    l2, s2 = minors[minor, 0], minors[minor, 1]
    l1 = min(l2 + min(ratio * minors[minor, 2], _RATIO_OCTAVES), _LOG_MAX)
    s1 = exp2(l1)
    gain = exp2((l1 + 3.0 * l2) * -0.125)
    feature_gain = max(exp2((3.0 * l1 + 4.0 * l2) * -0.125), _GAIN_MIN)
    n = min(max(math.ceil((s1 / s2 - s2 / s1) * (_PI / (steps[1] * gain))), 1), _ANGLES_MAX)
    return l2, s1, s2, steps[0] * gain, feature_gain, n


@inline
def factor(s1, s2, turn):  # type: ignore[no-untyped-def]
    """(p, q, r, Σxx, Σxy, Σyy) of a turn in [0, 1), pixels."""
    k = math.floor(2.0 * turn + 0.5)
    v = (turn - k / 2.0) * _PI
    z = v * v
    s = (((((((_S8 * z + _S7) * z + _S6) * z + _S5) * z + _S4) * z + _S3) * z + _S2) * z + _S1) * z + _S0
    c = (((((((_C8 * z + _C7) * z + _C6) * z + _C5) * z + _C4) * z + _C3) * z + _C2) * z + _C1) * z + _C0
    s = v * s
    if k == 1:  # k = 2 turns the signs of both, which cancel in the products
        c, s = -s, c
    a, b = s1 * s1, s2 * s2
    cc, ss, sc = c * c, s * s, s * c
    d = math.sqrt(a) * math.sqrt(b)
    sxx, syy, sxy = a * cc + b * ss, a * ss + b * cc, (a - b) * sc
    g = math.sqrt(syy)
    return g / d, -sxy / (d * g), 1.0 / g, sxx, sxy, syy


@inline
def rows_of(p, q, r, step):  # type: ignore[no-untyped-def]
    """The mean's lattice: distance of rows, distance of points in a row, shift of a row per pixel down."""
    return step / r, step / p, q / p


# -- cumulative frequencies, of 2^16


@inline
def below(k, low, high, first, second, edges, curve):  # type: ignore[no-untyped-def]
    """Below the curved number k. edges: in units of ``second``; if empty, (k − ½)·second. first: moves them."""
    z = (edges[k] - first) / second if len(edges) else (k - 0.5) * second - first
    at = min(max((z + TAIL) * KNOTS, 0.0), SIZE - 1.0)
    i = int(at)
    share = CURVES[curve, i, 0] + np.floor((at - i) * CURVES[curve, i, 1])  # integers of at most 40 bits: exact
    cut = int(share * ((65535 - high + low) * 2.0**-24)) + (k - low)
    return 0 if k <= low else 65536 if k > high else cut


@inline
def below_angle(h, groups, bits, n, angles):  # type: ignore[no-untyped-def]
    """Below group h of ``groups`` groups of 2^bits angles out of n: piecewise linear in the angle over 16 bins."""
    if h >= groups:
        return 65536
    at = min(((h << bits) / n) * 16.0, 16.0)
    i = min(int(at), 15)
    return (((angles[i] + int((at - i) * (angles[i + 1] - angles[i]))) * (65536 - groups)) >> 24) + h


@inline
def feature_range(mean, spread, unit):  # type: ignore[no-untyped-def]
    """The least and the largest code of a feature."""
    centre, reach = math.floor(mean / (unit * spread)), min(math.ceil(TAIL / unit), FEATURE_SPAN)
    return centre - reach, centre + reach


# -- contexts


@inline
def context_of(counts, at, pitch):  # type: ignore[no-untyped-def]
    """0–6: how full the known neighbours are. at: number of a cell; pitch: from one row to the next."""
    near = counts[at - 1] + counts[at - pitch]
    far = counts[at - pitch - 1] + counts[at - pitch + 1] + counts[at - 2] + counts[at - 2 * pitch]
    return min(2 * near + far, 6)


@inline
def neighbours(found, row, last, before, at, pitch):  # type: ignore[no-untyped-def]
    """Up to NEAR known Gaussians, nearest first, into found[row], int32 [≥ 14]; returns how many."""
    n = 0
    i = last[at]
    if i >= 0:
        found[row, 0], found[row, 1] = i, before[i]
        n = 1 + (before[i] >= 0)
    for k in range(12):
        found[row, n] = last[at + DY[k] * pitch + DX[k]]
        n += found[row, n] >= 0
    return min(n, NEAR)


@inline
def expected_value(values, column, found, row, n, pull, mean):  # type: ignore[no-untyped-def]
    """mean, moved towards the neighbours'."""
    if n == 0:
        return mean
    total = values[found[row, 0], column]
    for i in range(1, n):
        total += values[found[row, i], column]
    return mean + pull * (total / n - mean)


# -- numbers of a lattice record


class Parameters(NamedTuple):
    """A lattice record as the kernels take it. The tables by code of minor hold what §5.3 and §6.4 make of one."""

    steps: F64  # position, rotation
    feature_steps: F64  # [F]
    families: I64  # [1 + F]: minor, features
    reals: F64  # [1 + F, 3]: pull, mean, spread
    angles: I64  # [17] cumulative, of 2^24
    minors: F64  # [largest + 1, 5]: λ2, σ2, E/ρ, unit of the elongation, its largest code
    edges: (
        F64  # [largest + 2 + GUESSES] of minor; then, for each 1/16 octave from −2, about where among the codes it is
    )


_GUESS_ROOTS = np.exp2((GUESS_LOW + np.arange(GUESSES) / GUESS_STEPS) / 2) - la.ROOT_MIN


@kernel
def by_minor(minor, ratio, spread, farthest):  # type: ignore[no-untyped-def]
    """(minors, edges) of ``Parameters``.

    minor, ratio: steps. spread: of the elongation. farthest: the largest λ2 that has a code.
    """
    top = exp2(min(farthest / 2, 7.0))
    largest = min(math.ceil(max(top - _ROOT_MIN, 0.0) / minor) + 1, MINOR_MAX)
    minors, edges = np.empty((largest + 1, 5)), np.empty(largest + 2 + GUESSES)
    for k in range(largest + 1):
        root = min(_ROOT_MIN + k * minor, _ROOT_MAX)
        l2 = 2.0 * log2(root)
        unit = (ratio / root) / (spread * exp2(_RATIO_FALL * l2))
        minors[k, 0], minors[k, 1], minors[k, 2], minors[k, 3] = l2, root * root, ratio / root, unit
        minors[k, 4] = min(math.ceil(TAIL / unit), RATIO_MAX)
    edges[0] = -np.inf
    for k in range(1, largest + 2):
        edges[k] = 2.0 * log2(_ROOT_MIN + (k - 0.5) * minor)
    for k in range(GUESSES):
        edges[largest + 2 + k] = _GUESS_ROOTS[k] / minor + 0.5
    return minors, edges


@functools.lru_cache(maxsize=64)
def parameters(lattice: la.Lattice) -> Parameters:
    """Numbers of a lattice record."""
    models = (lattice.minor_model, *lattice.feature_models)
    position, minor, ratio, rotation = (
        la.step_value(c) for c in (lattice.position, lattice.minor, lattice.ratio, lattice.rotation)
    )
    farthest = models[0].mean + TAIL * models[0].width
    sums = list(itertools.accumulate((a + 1 for a in lattice.angles), initial=0))
    return Parameters(
        np.array([position, rotation]),
        np.array([la.step_value(c) for c in lattice.feature]),
        np.array([m.family for m in models], np.int64),
        np.array([[m.pull / 64, m.mean, m.width] for m in models]),
        np.array([(s << 24) // sums[-1] for s in sums], np.int64),
        *by_minor(minor, ratio, la.spread_value(lattice.ratio_spread), farthest),
    )
