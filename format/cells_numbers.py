"""Reading one number of the `cells` codec (spec §5.3): by a curve, or an angle. Helpers for Numba kernels."""

from __future__ import annotations

import math

from igs.format.cells_model import GUESS_LOW, GUESS_STEPS, GUESSES, PLACES, below, below_angle
from igs.format.jit import helper, inline
from igs.format.rans import advance, get_bits, low_bits

GUESS_TRIES = 4  # so many steps by a curve's slope, which end sooner but for the odd place; halving always ends


@helper
def _search(slot, k, start, end, low, high, first, second, edges, curve):  # type: ignore[no-untyped-def]
    """What ``get_curved`` looks for, and its range, from a guess and its: by how far off that is, then by halves."""
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
def get_curved(x, words, read, low, high, first, second, edges, curve):  # type: ignore[no-untyped-def]
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
def get_angle(x, words, read, n, angles):  # type: ignore[no-untyped-def]
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
