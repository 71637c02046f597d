"""Writing the `cells` codec (spec §5.3): cells of Gaussians, their symbols, and what each of them costs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igs.format import cells_model as m
from igs.format import rans
from igs.format.cells_model import (
    F64,
    I64,
    MARGIN,
    WEIBULL,
    below,
    below_angle,
    context_of,
    expected_value,
    factor,
    feature_range,
    neighbours,
    rows_of,
    shape,
)
from igs.format.errors import UsageError
from igs.format.jit import helper, kernels
from igs.format.lattice import Lattice
from igs.format.quantize import Codes
from igs.format.rans import low_bits, put, put_bits, put_uniform, put_yes

kernel = kernels(__file__, "rans.py", "cells_model.py", "lattice.py", "arithmetic.py")


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


@helper
def _first(origin, cell, number, shift, pitch):  # type: ignore[no-untyped-def]
    """The first lattice point of a cell, by row or in a row."""
    return math.ceil(((origin + number * cell) + shift) / pitch)


@helper
def _number(point, origin, cell, cells, shift, pitch):  # type: ignore[no-untyped-def]
    """Which of so many cells holds a lattice point, by row or in a row; −1: none."""
    at = min(max(math.floor((point * pitch - shift - origin) / cell), 0), cells - 1)
    while at > 0 and point < _first(origin, cell, at, shift, pitch):
        at -= 1
    while at < cells - 1 and point >= _first(origin, cell, at + 1, shift, pitch):
        at += 1
    inside = _first(origin, cell, at, shift, pitch) <= point < _first(origin, cell, at + 1, shift, pitch)
    return at if inside else -1


@kernel
def _place(codes, x0, y0, cell, columns, rows, steps, minors, cells):  # type: ignore[no-untyped-def]
    """The cell of each Gaussian into cells int64 [n]; −1: outside of the grid, −2: an angle that it can't have."""
    for g in range(len(codes)):
        _, s1, s2, step, _, n = shape(codes[g, 2], codes[g, 3], minors, steps)
        p, q, r, _, _, _ = factor(s1, s2, (codes[g, 4] + 0.5) / n)
        sy, sx, shear = rows_of(p, q, r, step)
        y = _number(codes[g, 1], y0, cell, rows, 0.0, sy)
        x = _number(codes[g, 0], x0, cell, columns, shear * (codes[g, 1] * sy), sx)
        cells[g] = -2 if not 0 <= codes[g, 4] < n else -1 if x < 0 or y < 0 else y * columns + x


@helper
def _put_curved(symbols, at, k, low, high, first, second, edges, curve):  # type: ignore[no-untyped-def]
    start = below(k, low, high, first, second, edges, curve)
    return put(symbols, at, start, below(k + 1, low, high, first, second, edges, curve))


@kernel
def _symbols(codes, cells, x0, y0, cell, columns, rows, odds, known, near, p, symbols, spent, around):  # type: ignore[no-untyped-def]
    """Symbols (start, length) of a chunk whose rows are sorted by cell; returns how many, or −1 − row of a bad code.

    spent: float64 [n, 4 + F] and around: float64 [n, 1 + F], to be filled as ``Encoded`` has them.
    """
    steps, feature_steps, families, reals, angles, minors, edges = p
    count, features, zero, none = len(codes), len(feature_steps), np.int64(0), edges[:0]
    counts, last, before, values = known
    pitch = columns + MARGIN
    done = at = zero
    for row in range(rows):
        for column in range(columns):
            here = (row + MARGIN) * pitch + column + MARGIN
            context = context_of(counts, here, pitch)
            while done < count:
                c = context + 7 * (counts[here] > 0)
                yes = cells[done] == row * columns + column
                at = put_yes(symbols, at, odds, c, yes)
                if not yes:
                    break
                first = at
                n = neighbours(near, zero, last, before, here, pitch)
                for v in range(1 + features):
                    around[done, v] = expected_value(values, v, near, zero, n, 1.0, 0.0) if n else np.nan

                minor, ratio, angle = codes[done, 2], codes[done, 3], codes[done, 4]
                expected, spread = expected_value(values, zero, near, zero, n, reals[0, 0], reals[0, 1]), reals[0, 2]
                at = _put_curved(symbols, at, minor, zero, len(minors) - 1, expected, spread, edges, families[0])
                unit, top = minors[minor, 3], int(minors[minor, 4])
                if ratio > top:
                    return -1 - done
                at = _put_curved(symbols, at, ratio, zero, top, 0.0, unit, none, np.int64(WEIBULL))

                l2, s1, s2, step, gain, turns = shape(minor, ratio, minors, steps)
                if turns > 1:
                    bits = low_bits(turns)
                    groups = ((turns - 1) >> bits) + 1
                    high = angle >> bits
                    start = below_angle(high, groups, bits, turns, angles)
                    at = put(symbols, at, start, below_angle(high + 1, groups, bits, turns, angles))
                    at = put_bits(symbols, at, angle, bits)
                after_angle = at
                i, j = codes[done, 0], codes[done, 1]
                u0, u1, u2, _, _, _ = factor(s1, s2, (angle + 0.5) / turns)
                sy, sx, shear = rows_of(u0, u1, u2, step)
                start = _first(y0, cell, row, 0.0, sy)
                at = put_uniform(symbols, at, j - start, _first(y0, cell, row + 1, 0.0, sy) - start)
                shift = shear * (j * sy)
                start = _first(x0, cell, column, shift, sx)
                at = put_uniform(symbols, at, i - start, _first(x0, cell, column + 1, shift, sx) - start)
                after_place = at

                values[done, 0] = l2
                for f in range(features):
                    mean, spread = reals[1 + f, 1], reals[1 + f, 2]
                    step = feature_steps[f] * gain
                    unit = step / spread
                    offset = expected_value(values, 1 + f, near, zero, n, reals[1 + f, 0], mean) / spread
                    low, high = feature_range(mean, spread, unit)
                    k = codes[done, 5 + f]
                    if not low <= k <= high:
                        return -1 - done
                    at = _put_curved(symbols, at, k, low, high, offset, unit, none, families[1 + f])
                    values[done, 1 + f] = k * step
                for s in range(first, at):
                    cost = 16.0 - np.log2(symbols[s, 1])
                    if s < first + 2:
                        spent[done, 1 + s - first] += cost
                    elif s < after_angle:
                        spent[done, 3] += cost
                    elif s < after_place:
                        spent[done, 0] += cost
                    else:
                        spent[done, 4 + s - after_place] += cost
                before[done], last[here] = last[here], done
                counts[here] += 1
                done += 1
    return at if done == count else -1 - done


def encode(codes: Codes, lattice: Lattice, box: F64, positions: F64) -> Encoded:
    """A chunk's payload. codes: uint32 [n, 5 + F]. box: as ``clip_box`` gives. positions: the means [n, 2] in pixels.

    Raises UsageError for a code that the models leave no room for, or a mean outside of the box.
    """
    trim = _choose_trim(box, positions)
    symbols, order, spent, around = _model(codes, lattice, box, trim)
    payload = trim.astype(np.uint8).tobytes() + rans.close_payload(symbols, len(symbols))
    total = float((16.0 - np.log2(symbols[:, 1])).sum())
    return Encoded(payload, order, spent, around, total - float(spent.sum()))


def cost(codes: Codes, lattice: Lattice, box: F64, payload: bytes) -> tuple[F64, float]:
    """What a decoded chunk's symbols took: bits [4 + F] as ``Encoded.bits`` sums up to, and of the cells' decisions.

    codes: as decoded from ``payload``, whose grid is used.
    """
    symbols, _, spent, _ = _model(codes, lattice, box, np.frombuffer(payload, np.uint8, 4))
    each = spent.sum(axis=0)
    return each, float((16.0 - np.log2(symbols[:, 1])).sum() - each.sum())


def _model(codes: Codes, lattice: Lattice, box: F64, trim: NDArray[np.uint8]) -> tuple[I64, NDArray[np.intp], F64, F64]:
    """Symbols [m, 2] (start, length) of a chunk on the grid of a trim; the order of its rows; bits and neighbours."""
    table = np.ascontiguousarray(codes.astype(np.uint32).view(np.int32).astype(np.int64))
    p = m.parameters(lattice)
    far = (np.abs(table) > m.CODE_MAX).any(axis=1)
    far |= (table[:, 2:5] < 0).any(axis=1) | (table[:, 2] >= len(p.minors)) | (table[:, 3] > m.RATIO_MAX)
    _refuse(far, table)
    cells = np.empty(len(table), np.int64)
    x0, y0, cell, columns, rows = m.grid(box, trim, len(table))
    _place(table, x0, y0, cell, columns, rows, p.steps, p.minors, cells)
    _refuse(cells == -2, table)
    if (cells < 0).any():
        row = int((cells < 0).argmax())
        raise UsageError(f"a Gaussian's codes {table[row].tolist()}: its mean is outside of its chunk's box")
    order = np.argsort(cells, kind="stable")
    table, cells = table[order], cells[order]
    # A Gaussian has a decision and at most 2, 2, 2·5 and F symbols for size, angle, place, features; a cell one more.
    room = columns * rows + len(table) * (14 + table.shape[1])
    symbols = np.empty((room, 2), np.int64)
    spent = np.zeros((len(table), table.shape[1] - 1))
    around = np.empty((len(table), table.shape[1] - 4))
    counts = np.zeros(m.number_of(0, rows, columns), np.int32)
    known = counts, counts - 1, np.empty(len(table), np.int32), np.empty_like(around)
    near = np.empty((1, 16), np.int32)
    odds, models = m.FRESH.copy(), tuple(p)
    count = _symbols(table, cells, x0, y0, cell, columns, rows, odds, known, near, models, symbols, spent, around)
    if count < 0:
        _refuse(np.arange(len(table)) == -1 - count, table)
    return symbols[:count], order, spent, around


def _refuse(bad: NDArray[np.bool_], table: I64) -> None:
    if bad.any():
        row = table[int(bad.argmax())].tolist()
        raise UsageError(f"a Gaussian's codes: expected what the lattice's models hold, found {row}")


def _choose_trim(box: F64, positions: F64) -> NDArray[np.uint8]:
    """How much of each side of the box holds no mean, in 256ths, with a margin for lattice points on its edge."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    span = np.maximum(box[2:] - box[:2], 1e-9)
    margin = 2.0**-10
    sides = np.concatenate([(low - margin - box[:2]) / span, (box[2:] - high - margin) / span])
    return np.clip(np.floor(sides * 256.0), 0, 255).astype(np.uint8)
