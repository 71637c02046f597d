"""Points that no Gaussian reaches (spec §7: no candidate), for the encoder, which leaves none.

Exact: a tile counts as covered only if one Gaussian's d² at its corners is within R² with room for rounding; the points
of all others are tested one by one with the d2 of the spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from igs.decoder.bins import bands, count_tile_rows, fill_segment, next_segment, row_spans, tile_rows
from igs.decoder.candidates import COLUMNS, HIGH, LOW, QDY, VV, P, Q, R, gather
from igs.decoder.constants import SLACK
from igs.decoder.grid import make_grid
from igs.decoder.jit import inline, kernel
from igs.decoder.rule import Rule, Splats
from igs.decoder.simd import bits, load, lowest_bit, minimum, select, splat, splat_int, store, to_floats
from igs.decoder.strips import Axis
from igs.format.threads import default_threads, run

if TYPE_CHECKING:
    from igs.format import Gaussians, Header


@inline
def active_in_row(table, where, kept, left, right, y, rule, active):  # type: ignore[no-untyped-def]
    """Of a tile's candidates those that may reach its row at ``y``: their numbers to ``active``, ascending.

    Also writes Q·dy and v·v of spec §7 for all of them into the table.
    """
    capacity = table.shape[1]
    for k in range(kept, (kept + 15) & ~15):  # padding: d² = inf
        where[0, k] = left - 1
        where[1, k] = y
        table[P, k] = np.float32(3e38)
        table[Q, k] = np.float32(0.0)
        table[R, k] = np.float32(0.0)
    zero = splat(np.float32(0.0))
    for k in range(0, kept, 16):
        dy = to_floats(splat_int(y) - load(where, capacity + k))
        qdy = load(table, Q * capacity + k) * dy
        v = load(table, R * capacity + k) * dy
        vv = v * v
        store(table, QDY * capacity + k, qdy)
        store(table, VV * capacity + k, vv)
        p = load(table, P * capacity + k)
        mx = load(where, k)
        ul = p * to_floats(splat_int(left) - mx) + qdy
        ur = p * to_floats(splat_int(right) - mx) + qdy
        ll = ul * ul
        rr = ur * ur
        low = select((ul <= zero) & (zero <= ur), zero, minimum(ll, rr)) + vv
        store(table, LOW * capacity + k, low)
    bound = splat(rule[0] * SLACK)
    count = 0
    for k in range(0, kept, 16):
        within = bits(load(table, LOW * capacity + k) <= bound)
        while within != 0:
            active[count] = k + lowest_bit(within)
            count += 1
            within &= within - 1
    return count


@kernel
def holes_in_rows(  # type: ignore[no-untyped-def]
    means, factors, row_starts, row_members, xs, ys, tiles_x, tiles_y, lows, highs, numbers, rule, first_row, limit
):
    """The samples of some tile rows without a candidate → int32 [2, m], their numbers in xs and ys.

    Arguments as for ``render_rows``; limit: the most to return.
    """
    reach, origin, per_unit = numbers[0], numbers[1], numbers[2]
    tiles = tiles_x.shape[1]
    found = np.empty((2, 64), np.int32)
    total = 0
    counts = np.empty(tiles, np.int64)
    starts = np.empty(tiles + 1, np.int64)
    place = np.empty(tiles, np.int64)
    entries = np.empty(0, np.int32)
    features = np.empty((0, 0), np.float32)
    local = np.empty(0, np.float32)
    table = np.empty((COLUMNS, 16), np.float32)
    where = np.empty((3, 16), np.int32)
    active = np.empty(16, np.int32)
    tile_x = np.empty(16, np.int32)
    for row in range(tiles_y.shape[1]):
        members = row_members[row_starts[first_row + row] : row_starts[first_row + row + 1]]
        first = np.empty(len(members), np.int32)
        last = np.empty(len(members), np.int32)
        y0, y_count = tiles_y[0, row], tiles_y[1, row]
        top, bottom = ys[y0], ys[y0 + y_count - 1]
        row_spans(
            means, factors, reach, members, float(top), float(bottom), lows, highs, origin, per_unit, first, last,
            counts,
        )  # fmt: skip
        segment = 0
        while segment < tiles:
            end = next_segment(counts, segment, starts)
            if starts[end] > len(entries):
                entries = np.empty(starts[end] + starts[end] // 2, np.int32)
            fill_segment(members, first, last, segment, end, starts, place, entries)
            for tile in range(segment, end):
                x0, x_count = tiles_x[0, tile], tiles_x[1, tile]
                number = starts[tile + 1] - starts[tile]
                if number > table.shape[1]:
                    capacity = (number + number // 2 + 15) & ~15
                    table = np.empty((COLUMNS, capacity), np.float32)
                    where = np.empty((3, capacity), np.int32)
                    active = np.empty(capacity, np.int32)
                for lane in range(16):
                    tile_x[lane] = xs[x0 + min(lane, x_count - 1)]
                kept = gather(
                    means, factors, features, entries, starts[tile], starts[tile + 1], tile_x[0], tile_x[15], top,
                    bottom, rule, 1, True, table, where, local,
                )  # fmt: skip
                covered = False
                for k in range(kept):
                    covered = covered or table[HIGH, k] * SLACK <= rule[0]
                if covered:
                    continue
                x = load(tile_x, 0)
                for y in range(y0, y0 + y_count):
                    count = active_in_row(table, where, kept, tile_x[0], tile_x[15], ys[y], rule, active)
                    nearest = splat(np.float32(np.inf))
                    for k in range(count):
                        i = active[k]
                        u = splat(table[P, i]) * to_floats(x - splat_int(where[0, i])) + splat(table[QDY, i])
                        nearest = minimum(nearest, u * u + splat(table[VV, i]))
                    empty = ~bits(nearest <= splat(rule[0])) & ((1 << x_count) - 1)
                    while empty != 0:
                        if total == limit:
                            return found[:, :total]
                        if total == found.shape[1]:
                            more = np.empty((2, 2 * total), np.int32)
                            more[:, :total] = found
                            found = more
                        found[0, total] = x0 + lowest_bit(empty)
                        found[1, total] = y
                        total += 1
                        empty &= empty - 1
            segment = end
    return found[:, :total]


def holes(
    header: Header, gaussians: Gaussians, subdivision: int = 4, threads: int | None = None, limit: int = 1 << 22
) -> npt.NDArray[np.float64]:
    """Sample points without a candidate on a grid of ``subdivision``² points per pixel, in order of y, then x.

    → float64 [m, 2] x and y in pixels, at most ``limit`` (the first per strip of rows) of them.
    """
    grid = make_grid(0, 0, header.width, header.height, subdivision, header.width, header.height)
    splats, rule = Splats.of(gaussians), Rule.of(header)
    across, down = Axis(grid.xs, grid.columns, 1), Axis(grid.ys, grid.rows, 1)
    counts = count_tile_rows(splats.means, splats.factors, rule.reach, down.lows, down.highs, *down.guess())
    numbers = across.numbers(rule, 1)
    found: dict[int, npt.NDArray[np.int32]] = {}
    step = max(1, (1 << 18) // (16 * len(grid.xs)))  # tile rows per piece of work
    for start, end in bands(counts, 1):
        lists = tile_rows(
            splats.means, splats.factors, rule.reach, down.lows[start:end], down.highs[start:end], *down.guess(start)
        )

        def piece(number: int, start: int = start, end: int = end, lists: tuple = lists) -> None:  # type: ignore[type-arg]
            first = start + number * step
            tiles_y = np.ascontiguousarray(down.tiles[:, first : min(first + step, end)])
            found[first] = holes_in_rows(
                splats.means, splats.factors, *lists, grid.xs, grid.ys, across.tiles, tiles_y, across.lows,
                across.highs, numbers, rule.floats, first - start, limit,
            )  # fmt: skip

        run(-(-(end - start) // step), default_threads() if threads is None else threads, piece)
        if sum(part.shape[1] for part in found.values()) >= limit:
            break
    samples = np.concatenate([found[first] for first in sorted(found)], axis=1)[:, :limit]
    samples = samples[:, np.lexsort(samples)]  # by row, then column
    return (samples.T + 0.5) / subdivision
