"""Which Gaussians can reach which tiles: lists per row of tiles, then per tile of a row.

A tile is a rectangle of sample points, given by the smallest and largest coordinate on each axis. The ellipse d² ≤ R⁺²
is cut by the tile row's band of y and its exact extent in x gives the tiles: O(tile rows) per Gaussian, also for long
thin ones. Conservative by R⁺ = R·(1 + 2^-9), the bound that spec §4 proves for binary32 d2, and by a unit for rounding.
Lists are in order of index: ties between equal d2 depend on it.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from igs.decoder.jit import inline, kernel

# Entries of tile lists held at once in one thread, 4 bytes each; a row with more is cut into runs of tiles.
SEGMENT_ENTRIES = 1 << 18
# Entries of the lists per tile row held at once, 4 bytes each.
BAND_ENTRIES = 1 << 22


@inline
def first_at_or_after(value, highs, origin, per_unit):  # type: ignore[no-untyped-def]
    """The first tile whose high end is ≥ value; len(highs) if none. ``origin`` and ``per_unit`` give a first guess."""
    last = len(highs) - 1
    tile = int(min(max((value - origin) * per_unit, 0.0), float(last)))
    while tile > 0 and highs[tile - 1] >= value:
        tile -= 1
    while tile <= last and highs[tile] < value:
        tile += 1
    return tile


@inline
def last_at_or_before(value, lows, origin, per_unit):  # type: ignore[no-untyped-def]
    """The last tile whose low end is ≤ value; -1 if none."""
    last = len(lows) - 1
    tile = int(min(max((value - origin) * per_unit, 0.0), float(last)))
    while tile < last and lows[tile + 1] <= value:
        tile += 1
    while tile >= 0 and lows[tile] > value:
        tile -= 1
    return tile


@kernel
def count_tile_rows(means, factors, reach, lows, highs, origin, per_unit):  # type: ignore[no-untyped-def]
    """How many Gaussians can reach each tile row: int64 [rows]. Arguments as for ``tile_rows``."""
    changes = np.zeros(len(lows) + 1, np.int64)
    for i in range(factors.shape[1]):
        extent = reach / np.float64(factors[2, i]) + 1.0
        first = first_at_or_after(means[1, i] - extent, highs, origin, per_unit)
        last = last_at_or_before(means[1, i] + extent, lows, origin, per_unit)
        if first <= last:
            changes[first] += 1
            changes[last + 1] -= 1
    return np.cumsum(changes)[:-1]


@kernel
def tile_rows(means, factors, reach, lows, highs, origin, per_unit):  # type: ignore[no-untyped-def]
    """Lists of Gaussians per tile row.

    means: int32 [2, ≥ n]; factors: float32 [3, n]; reach: R⁺; lows, highs: float64 [rows], units, ascending.
    → starts int64 [rows + 1], members int32 [starts[-1]].
    """
    n = factors.shape[1]
    rows = len(lows)
    starts = np.zeros(rows + 1, np.int64)
    first = np.empty(n, np.int32)
    last = np.empty(n, np.int32)
    for i in range(n):
        extent = reach / np.float64(factors[2, i]) + 1.0
        first[i] = first_at_or_after(means[1, i] - extent, highs, origin, per_unit)
        last[i] = last_at_or_before(means[1, i] + extent, lows, origin, per_unit)
        for row in range(first[i], last[i] + 1):
            starts[row + 1] += 1
    for row in range(rows):
        starts[row + 1] += starts[row]
    members = np.empty(starts[rows], np.int32)
    place = starts[:rows].copy()
    for i in range(n):
        for row in range(first[i], last[i] + 1):
            members[place[row]] = i
            place[row] += 1
    return starts, members


@inline
def row_spans(  # type: ignore[no-untyped-def]
    means, factors, reach, members, top, bottom, lows, highs, origin, per_unit, first, last, counts
):
    """For one tile row, y from ``top`` to ``bottom``: the tiles first[k] … last[k] that members[k] can reach.

    ``counts`` [tiles] gets the number of members per tile.
    """
    counts[:] = 0
    for k in range(len(members)):
        i = members[k]
        p = np.float64(factors[0, i])
        q = np.float64(factors[1, i])
        r = np.float64(factors[2, i])
        extent = reach / r
        low = max(top - 1.0 - means[1, i], -extent)
        high = min(bottom + 1.0 - means[1, i], extent)
        first[k] = 0
        last[k] = -1
        if low > high:
            continue
        # The ellipse's rightmost point is at `turn`, its leftmost at -turn; on either side its edge is monotone.
        turn = -extent * q / np.sqrt(r * r + q * q)
        right = min(max(turn, low), high)
        left = min(max(-turn, low), high)
        reach2 = reach * reach
        x_right = (np.sqrt(max(reach2 - r * right * (r * right), 0.0)) - q * right) / p + means[0, i] + 1.0
        x_left = (-np.sqrt(max(reach2 - r * left * (r * left), 0.0)) - q * left) / p + means[0, i] - 1.0
        first[k] = first_at_or_after(x_left, highs, origin, per_unit)
        last[k] = last_at_or_before(x_right, lows, origin, per_unit)
        for tile in range(first[k], last[k] + 1):
            counts[tile] += 1


@inline
def next_segment(counts, start, starts):  # type: ignore[no-untyped-def]
    """Tiles from ``start`` up to the returned end have at most SEGMENT_ENTRIES entries, or are a single tile.

    ``starts`` [tiles + 1] gets their first entries.
    """
    end = start
    total = 0
    while end < len(counts) and (end == start or total + counts[end] <= SEGMENT_ENTRIES):
        starts[end] = total
        total += counts[end]
        end += 1
    starts[end] = total
    return end


@inline
def fill_segment(members, first, last, start, end, starts, place, entries):  # type: ignore[no-untyped-def]
    """Write the lists of tiles start … end − 1 into ``entries``, in order of index."""
    for tile in range(start, end):
        place[tile] = starts[tile]
    for k in range(len(members)):
        for tile in range(max(first[k], start), min(last[k], end - 1) + 1):
            entries[place[tile]] = members[k]
            place[tile] += 1


def tile_bounds(coordinates: Any, firsts: Any, counts: Any) -> tuple[Any, Any, float]:
    """(lows, highs, tiles per unit) of tiles that take ``counts`` coordinates from ``firsts`` on (ascending)."""
    lows = coordinates[firsts].astype(np.float64)
    highs = coordinates[firsts + counts - 1].astype(np.float64)
    return lows, highs, len(lows) / float(highs[-1] - lows[0] + 1.0)


def bands(counts: Any, unit: int) -> list[tuple[int, int]]:
    """Runs of tile rows whose lists together stay within BAND_ENTRIES, or single units of ``unit`` rows."""
    edges = [0]
    total = 0
    for row, count in enumerate(np.add.reduceat(counts, np.arange(0, len(counts), unit)).tolist()):
        if row * unit > edges[-1] and total + count > BAND_ENTRIES:
            edges.append(row * unit)
            total = 0
        total += count
    edges.append(len(counts))
    return list(itertools.pairwise(edges))
