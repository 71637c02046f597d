"""The value at a point on the device (spec §7), and picture values from it (§8.3), specialised when compiled.

The upper-case names below are constants of the picture: ``specialize.py`` compiles a copy of these functions for each
set of them. With K and the channels known, the K smallest d² and the sums stay in registers, in loops that the compiler
unrolls. Two passes over a cell's list: the first finds the smallest d² and how many Gaussians are near enough, the last
evaluates d² again, which is cheaper than to remember it, and adds up what counts in order of file-wide index. Only
where more than K are near, one in between keeps the K smallest by a network of minima and maxima, two instructions a
place and no indices. Lists are read through L1: neighbouring threads read the same addresses, which costs what shared
memory would, and scattered points can use the same code.
A list holds where each Gaussian's words begin, so that nothing is multiplied on the way.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, float32

from igs.decoder.constants import NOWHERE
from igs.decoder.cuda.arithmetic import (
    FEATURE_WORD,
    add,
    as_float,
    larger,
    light_of,
    mul,
    power,
    smaller,
    squared_distance,
    weight_of,
    whitened,
)
from igs.decoder.cuda.cells import COLUMNS, FIRST_CELL, LEFT, ROWS, RULE, SHIFT, TOP
from igs.format.fields import MIN_ALPHA

TOP_K = 10  # K; 1 for sum
CHANNELS = 3  # C
FEATURES = 3  # F: C, or C + 2 with slopes
SUM = False  # the sum blend
PLAIN = True  # stored values are picture values
SCALE = 255.0  # of integer outputs

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
_INF = np.float32(np.inf)
_MIN_ALPHA = np.float32(MIN_ALPHA)


def closest(words, entries, start, end, x, y, reach2):
    """(the smallest d2 at a point, how many are within reach2), of entries[start:end]."""
    nearest = _INF
    number = np.int32(0)
    e = start
    while e < end:
        d2 = squared_distance(words, np.uint64(entries[e]), x, y)
        e += np.uint64(1)
        if d2 <= reach2:
            nearest = smaller(nearest, d2)
            number += np.int32(1)
    return nearest, number


def kth(words, entries, start, end, x, y, reach2):
    """(the K-th smallest d2 at a point, how many of the K equal it), of those of entries[start:end] within reach2."""
    slots = cuda.local.array(TOP_K, float32)
    for s in range(TOP_K):
        slots[s] = _INF
    e = start
    while e < end:
        d2 = squared_distance(words, np.uint64(entries[e]), x, y)
        e += np.uint64(1)
        if d2 <= reach2 and d2 < slots[TOP_K - 1]:
            for s in range(TOP_K):
                other = slots[s]
                slots[s] = smaller(d2, other)
                d2 = larger(d2, other)
    last = slots[TOP_K - 1]
    equal = 0
    for s in range(TOP_K):
        if slots[s] == last:
            equal += 1
    return last, equal


def limits(words, entries, start, end, x, y, reach2, relative_reach2):
    """Who counts at a point, of entries[start:end]: → (the smallest d2, the largest that may count, how many may of
    those that equal it)."""
    nearest, number = closest(words, entries, start, end, x, y, reach2)
    limit = smaller(add(nearest, relative_reach2), reach2)
    room = 1 << 30
    if number > TOP_K:
        last, equal = kth(words, entries, start, end, x, y, limit)
        if last <= limit:
            limit = last
            room = equal
    return nearest, limit, room


def add_layer(words, entries, start, end, rules, rule, x, y, value):
    """Add the stored value of one layer at a point, in int32 units, to value [C]."""
    sums = cuda.local.array(CHANNELS, float32)
    for c in range(CHANNELS):
        sums[c] = _ZERO
    total = _ZERO
    tilt = _ZERO
    nearest = _ZERO
    limit = rules[rule, 0]
    room = 1 << 30
    if not SUM:
        nearest, limit, room = limits(words, entries, start, end, x, y, limit, rules[rule, 1])
    e = start
    while e < end:
        at = np.uint64(entries[e])
        e += np.uint64(1)
        u, v = whitened(words, at, x, y)
        d2 = add(mul(u, u), mul(v, v))
        counts = d2 <= limit
        if d2 == limit:
            counts = room > 0
            room -= 1
        if counts:
            weight = weight_of(d2 - nearest)
            total += weight
            for c in range(CHANNELS):
                sums[c] += weight * as_float(words[at + FEATURE_WORD + np.uint64(c)])
            if FEATURES > CHANNELS:
                slopes = at + FEATURE_WORD + np.uint64(CHANNELS)
                tilt += weight * (as_float(words[slopes]) * u + as_float(words[slopes + np.uint64(1)]) * v)
    share = _ONE
    if not SUM:
        share = _ONE / larger(total, _ONE)  # the nearest Gaussian weighs 1
    for c in range(CHANNELS):
        result = sums[c]
        if FEATURES > CHANNELS:
            result += rules[rule, 2 + CHANNELS + c] * tilt
        result *= share
        if SUM or total == _ZERO:
            result += rules[rule, 2 + c]
        value[c] += result


def stored_value(words, entries, cells, layers, rules, first, last, x, y, value):
    """The stored value at a point in int32 units: the sum of layers first … last − 1 → value [C]."""
    for c in range(CHANNELS):
        value[c] = _ZERO
    for layer in range(first, last):
        shift = layers[layer, SHIFT]
        column = min(max((x - layers[layer, LEFT]) >> shift, 0), layers[layer, COLUMNS] - 1)
        row = min(max((y - layers[layer, TOP]) >> shift, 0), layers[layer, ROWS] - 1)
        cell = layers[layer, FIRST_CELL] + row * layers[layer, COLUMNS] + column
        start = np.uint64(cells[cell, 0])
        end = np.uint64(cells[cell, 1])
        if x == NOWHERE:
            end = start
        add_layer(words, entries, start, end, rules, layers[layer, RULE], x, y, value)


def to_picture(rules, rule, value):
    """Picture values from stored ones in place: alpha undone, then gamma, then the curve."""
    if not PLAIN:
        for c in range(CHANNELS):
            alpha = int(rules[rule, 2 + 3 * CHANNELS + c])
            if alpha >= 0:
                if value[alpha] >= _MIN_ALPHA:
                    value[c] /= value[alpha]
                else:
                    value[c] = _ZERO
            gamma = rules[rule, 2 + 2 * CHANNELS + c]
            if gamma != _ONE:
                value[c] = power(larger(value[c], _ZERO), gamma)
            curve = int(rules[rule, 2 + 4 * CHANNELS + c])
            if curve > 0:
                value[c] = light_of(value[c], curve)


def write(value, out, place):
    """value [C] to out[place:], clamped and rounded half up if that is of integers; SCALE 0: as it is."""
    for c in range(CHANNELS):
        if SCALE == 0.0:
            out[place + c] = value[c]
        else:
            clamped = smaller(larger(value[c], _ZERO), _ONE)
            out[place + c] = int(add(mul(clamped, np.float32(SCALE)), _HALF))
