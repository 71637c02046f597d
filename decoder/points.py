"""Values at scattered points (spec §7): a few directly from the chunks that reach them, many sorted into cells.

Kernels only; which chunks to read, levels and picture values are ``image.py``'s.
"""

from __future__ import annotations

import numpy as np

from igs.decoder.bins import fill_segment, next_segment, row_spans
from igs.decoder.blend import CROWD, blend, blend_crowd, slope, whitened
from igs.decoder.candidates import COLUMNS, P, Q, R, gather
from igs.decoder.constants import NOWHERE
from igs.decoder.jit import allocating, inline, kernel
from igs.decoder.simd import bits, load, lowest_bit, minimum, splat, splat_int, store, to_floats
from igs.format.fields import BOUND, UNIT

_BOUND, UNITS = float(BOUND), float(UNIT)


@kernel
def fix_points(points, xs, ys):  # type: ignore[no-untyped-def]
    """Round points (float64 [m, 2], pixels) to int32 units as spec §7 says; → the first that isn't finite, or -1."""
    for i in range(len(points)):
        x = points[i, 0]
        y = points[i, 1]
        if not (np.isfinite(x) and np.isfinite(y)):
            return i
        x = np.floor(x * UNITS + 0.5)
        y = np.floor(y * UNITS + 0.5)
        if -_BOUND <= x < _BOUND and -_BOUND <= y < _BOUND:
            xs[i] = np.int32(x)
            ys[i] = np.int32(y)
        else:
            xs[i] = NOWHERE
            ys[i] = NOWHERE
    return -1


@inline
def blend_found(  # type: ignore[no-untyped-def]
    x, y, found, count, means, factors, features, channels, rule, top_k, is_sum, active, local, d2s, slopes, ranks,
    lanes,
):  # fmt: skip
    """The values at one point, x and y in all lanes, of the ``count`` Gaussians found there, into lanes [16 · C].

    active: 0, 1, 2 …. local [F · capacity], d2s, slopes [16 · capacity]: overwritten.
    """
    columns = features.shape[1]
    nearest = splat(np.float32(np.inf))
    for k in range(count):
        i = found[k]
        u, v = whitened(means, factors, i, x, y)
        d2 = u * u + v * v
        store(d2s, k * 16, d2)
        nearest = minimum(nearest, d2)
        for c in range(columns):
            local[k * columns + c] = features[i, c]
        if columns > channels:
            store(slopes, k * 16, slope(features[i, channels], features[i, channels + 1], u, v))
    blend(d2s, slopes, active, count, nearest, local, channels, columns, rule, top_k, is_sum, ranks, lanes)


@kernel
def values_at(  # type: ignore[no-untyped-def]
    xs, ys, start, end, chunks, boxes, loaded, starts, ends, means, factors, features, rule, top_k, sum_blend, out
):
    """Values at the points ``start`` to ``end`` − 1, from the chunks whose boxes hold them.

    xs, ys: int32 [m]; chunks: int64, ascending; boxes: float64 [4, the same] x0, y0, x1, y1 in pixels; loaded: uint8,
    and starts, ends: int64, per chunk of the file; means: int32 [2, n], factors: float32 [3, n] (``Store``: 16 more
    elements can be read), features: float32 [n, F]; rule: float32 R², Q², background, lit; out: float32 [m, C].
    → (point to go on with, a chunk that must be loaded before, or -1).
    """
    is_sum = sum_blend != 0
    channels, columns = out.shape[1], features.shape[1]
    stride = means.shape[1]
    capacity = 64
    found = np.empty(capacity, np.int64)
    d2s = np.empty(capacity * 16, np.float32)
    active = np.arange(capacity).astype(np.int32)
    local = np.empty(capacity * columns, np.float32)
    slopes = np.empty(capacity * 16, np.float32)
    ranks = np.empty(32 * 16, np.float32)
    lanes = np.empty(channels * 16, np.float32)
    reach2 = splat(rule[0])
    for point in range(start, end):
        count = 0
        if xs[point] != NOWHERE:
            px = xs[point] / UNITS
            py = ys[point] / UNITS
            x = splat_int(xs[point])
            y = splat_int(ys[point])
            for number in range(len(chunks)):
                if boxes[0, number] > px or boxes[2, number] < px or boxes[1, number] > py or boxes[3, number] < py:
                    continue
                chunk = chunks[number]
                if not loaded[chunk]:
                    return point, chunk
                last = ends[chunk]
                for k in range(starts[chunk], last, 16):
                    dx = to_floats(x - load(means, k))
                    dy = to_floats(y - load(means, stride + k))
                    u = load(factors, k) * dx + load(factors, stride + k) * dy
                    v = load(factors, 2 * stride + k) * dy
                    within = bits(u * u + v * v <= reach2)
                    if last - k < 16:
                        within &= (1 << (last - k)) - 1
                    while within != 0:
                        if count == capacity:
                            capacity *= 2
                            more = np.empty(capacity, np.int64)
                            more[:count] = found
                            found = more
                            if capacity <= CROWD:
                                d2s = np.empty(capacity * 16, np.float32)
                                active = np.arange(capacity).astype(np.int32)
                                local = np.empty(capacity * columns, np.float32)
                                slopes = np.empty(capacity * 16, np.float32)
                        found[count] = k + lowest_bit(within)
                        count += 1
                        within &= within - 1
            if count > CROWD:
                blend_crowd(means, factors, features, found, 0, count, x, y, rule, top_k, is_sum, ranks, lanes)
            else:
                blend_found(
                    x, y, found, count, means, factors, features, channels, rule, top_k, is_sum, active, local, d2s,
                    slopes, ranks, lanes,
                )  # fmt: skip
            for c in range(channels):
                out[point, c] = lanes[c * 16]
        else:
            for c in range(channels):
                out[point, c] = rule[2 + c]
    return end, -1


@kernel
def cell_along(distance, per_unit, cells):  # type: ignore[no-untyped-def]
    """The number along a side of the cell at a distance (units) from the grid's origin: of the first to the last."""
    return int(min(max(distance * per_unit, 0.0), cells - 1.0))


@kernel
def sort_into_cells(xs, ys, cells):  # type: ignore[no-untyped-def]
    """Order points by cell.

    cells: float64 (x origin, y origin, cells per unit, columns, rows); points beyond the grid belong to its border.
    → starts int64 [cells + 1], order int32 [points that are somewhere], sorted int32 [2, the same + 16].
    """
    x0, y0, per_unit = cells[0], cells[1], cells[2]
    columns, rows = int(cells[3]), int(cells[4])
    m = len(xs)
    starts = np.zeros(columns * rows + 1, np.int64)
    cell_of = np.empty(m, np.int32)
    for i in range(m):
        if xs[i] == NOWHERE:
            cell_of[i] = -1
            continue
        cell_of[i] = cell_along(ys[i] - y0, per_unit, rows) * columns + cell_along(xs[i] - x0, per_unit, columns)
        starts[cell_of[i] + 1] += 1
    for cell in range(columns * rows):
        starts[cell + 1] += starts[cell]
    place = starts[:-1].copy()
    order = np.empty(starts[-1], np.int32)
    ordered = np.zeros((2, starts[-1] + 16), np.int32)
    for i in range(m):
        cell = cell_of[i]
        if cell >= 0:
            to = place[cell]
            place[cell] += 1
            order[to] = i
            ordered[0, to] = xs[i]
            ordered[1, to] = ys[i]
    return starts, order, ordered


@kernel
def cell_bounds(starts, ordered):  # type: ignore[no-untyped-def]
    """The bounding box of each cell's points: int32 [cells, 4] left, top, right, bottom; zeros where there are none."""
    cells = len(starts) - 1
    bounds = np.zeros((cells, 4), np.int32)
    for cell in range(cells):
        first = starts[cell]
        if first == starts[cell + 1]:
            continue
        left, top, right, bottom = ordered[0, first], ordered[1, first], ordered[0, first], ordered[1, first]
        for i in range(first + 1, starts[cell + 1]):
            left = min(left, ordered[0, i])
            right = max(right, ordered[0, i])
            top = min(top, ordered[1, i])
            bottom = max(bottom, ordered[1, i])
        bounds[cell, 0] = left
        bounds[cell, 1] = top
        bounds[cell, 2] = right
        bounds[cell, 3] = bottom
    return bounds


@kernel
def chunks_needed(starts, ordered, bounds, grid, boxes):  # type: ignore[no-untyped-def]
    """Which chunks have a point in their closed box: boxes float64 [4, chunks] pixels → bool [chunks].

    grid: as ``sort_into_cells`` takes it.
    """
    needed = np.zeros(boxes.shape[1], np.bool_)
    columns, rows = int(grid[3]), int(grid[4])
    for chunk in range(boxes.shape[1]):
        x0, y0 = boxes[0, chunk] * UNITS, boxes[1, chunk] * UNITS
        x1, y1 = boxes[2, chunk] * UNITS, boxes[3, chunk] * UNITS
        if not (x0 <= x1 and y0 <= y1):  # a box that isn't known
            continue
        left, right = cell_along(x0 - grid[0], grid[2], columns), cell_along(x1 - grid[0], grid[2], columns)
        top, bottom = cell_along(y0 - grid[1], grid[2], rows), cell_along(y1 - grid[1], grid[2], rows)
        for number in range((bottom - top + 1) * (right - left + 1)):
            row, column = divmod(number, right - left + 1)
            cell = (top + row) * columns + left + column
            if starts[cell] == starts[cell + 1]:
                continue
            if bounds[cell, 0] > x1 or bounds[cell, 2] < x0 or bounds[cell, 1] > y1 or bounds[cell, 3] < y0:
                continue
            for i in range(starts[cell], starts[cell + 1]):
                x = ordered[0, i]
                y = ordered[1, i]
                if x0 <= x and x <= x1 and y0 <= y and y <= y1:
                    needed[chunk] = True
                    break
            if needed[chunk]:
                break
    return needed


@allocating
def room(capacity, features):  # type: ignore[no-untyped-def]
    """What is kept of so many candidates of a cell: table, where, local, slopes, d2s, active (``candidates.py``)."""
    return (
        np.empty((COLUMNS, capacity), np.float32),
        np.empty((3, capacity), np.int32),
        np.empty(capacity * features, np.float32),
        np.empty(capacity * 16, np.float32),
        np.empty(capacity * 16, np.float32),
        np.arange(capacity).astype(np.int32),
    )


@inline
def blend_points(  # type: ignore[no-untyped-def]
    x, y, kept, table, where, local, channels, features, rule, top_k, is_sum, active, d2s, slopes, ranks, lanes
):
    """The values at 16 points of a cell, of its ``kept`` candidates, into lanes [16 · C]. d2s, slopes: overwritten."""
    nearest = splat(np.float32(np.inf))
    for k in range(kept):
        dx = to_floats(x - splat_int(where[0, k]))
        dy = to_floats(y - splat_int(where[1, k]))
        u = splat(table[P, k]) * dx + splat(table[Q, k]) * dy
        v = splat(table[R, k]) * dy
        d2 = u * u + v * v
        store(d2s, k * 16, d2)
        nearest = minimum(nearest, d2)
        if features > channels:
            at = k * features + channels
            store(slopes, k * 16, slope(local[at], local[at + 1], u, v))
    blend(d2s, slopes, active, kept, nearest, local, channels, features, rule, top_k, is_sum, ranks, lanes)


@kernel
def sample_row(  # type: ignore[no-untyped-def]
    means, factors, features, row_starts, row_members, starts, order, ordered, bounds, lows, highs, numbers, rule, row,
    out,
):  # fmt: skip
    """Values at the points of one row of cells.

    starts: int64 [columns + 1]; order, ordered: as ``sort_into_cells`` gives; bounds: int32 [columns, 4];
    lows, highs: float64 [columns] of x; numbers: float64 (R⁺, origin, cells per unit, K, sum, top, bottom, most), the
    last but one and two the row's band of y; out: float32 [m, C], written at ``order``. The rest as in
    ``tiles.render_rows``.

    → 0, or, where the cells list more than ``most`` Gaussians for all points together, how many: nothing is written.
    """
    reach, origin, per_unit = numbers[0], numbers[1], numbers[2]
    top_k, is_sum = int(numbers[3]), numbers[4] != 0.0
    channels, features_each, columns = out.shape[1], features.shape[1], len(lows)
    members = row_members[row_starts[row] : row_starts[row + 1]]
    first, last = np.empty(len(members), np.int32), np.empty(len(members), np.int32)
    counts, place = np.empty(columns, np.int64), np.empty(columns, np.int64)
    entry_starts, entries = np.empty(columns + 1, np.int64), np.empty(0, np.int32)
    table, where, local, slopes, d2s, active = room(16, features_each)
    ranks, lanes = np.empty(32 * 16, np.float32), np.empty(channels * 16, np.float32)
    row_spans(
        means, factors, reach, members, numbers[5], numbers[6], lows, highs, origin, per_unit, first, last, counts
    )
    tries = 0
    for cell in range(columns):
        tries += counts[cell] * (starts[cell + 1] - starts[cell])
    if tries > numbers[7]:
        return tries
    segment = 0
    while segment < columns:
        end = next_segment(counts, segment, entry_starts)
        if entry_starts[end] > len(entries):
            entries = np.empty(entry_starts[end] + entry_starts[end] // 2, np.int32)
        fill_segment(members, first, last, segment, end, entry_starts, place, entries)
        for cell in range(segment, end):
            if starts[cell] == starts[cell + 1]:
                continue
            number = entry_starts[cell + 1] - entry_starts[cell]
            crowded = number > CROWD
            if not crowded and number > len(active):
                capacity = (number + number // 2 + 15) & ~15
                table, where, local, slopes, d2s, active = room(capacity, features_each)
            kept = 0
            if not crowded:
                kept = gather(
                    means, factors, features, entries, entry_starts[cell], entry_starts[cell + 1], bounds[cell, 0],
                    bounds[cell, 2], bounds[cell, 1], bounds[cell, 3], rule, top_k, is_sum, table, where, local,
                )  # fmt: skip
            for group in range(starts[cell], starts[cell + 1], 16):
                x = load(ordered, group)
                y = load(ordered, ordered.shape[1] + group)
                if crowded:
                    blend_crowd(
                        means, factors, features, entries, entry_starts[cell], entry_starts[cell + 1], x, y, rule,
                        top_k, is_sum, ranks, lanes,
                    )  # fmt: skip
                else:
                    blend_points(
                        x, y, kept, table, where, local, channels, features_each, rule, top_k, is_sum, active, d2s,
                        slopes, ranks, lanes,
                    )  # fmt: skip
                for lane in range(min(16, starts[cell + 1] - group)):
                    i = order[group + lane]
                    for c in range(channels):
                        out[i, c] = lanes[c * 16 + lane]
        segment = end
    return 0
