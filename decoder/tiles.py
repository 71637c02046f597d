"""The fast path for regions: stored values on a grid of samples (spec §7, §8), by tiles of up to 16 × 16 samples.

For each tile the candidates are collected once, for each block of 4 × 4 samples (one vector) the few that can count
there; see ``candidates.py`` and ``blend.py``. Square blocks have fewer of them than rows of 16.
With reduction (scale < 1) tiles follow output pixels, so that each mean is summed in an order of its own.
Does not know about files, groups, gamma or integer outputs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from igs.decoder.bins import fill_segment, next_segment, row_spans
from igs.decoder.blend import CROWD, blend, blend_crowd
from igs.decoder.candidates import COLUMNS, R, active_in_block, bound_blocks, gather
from igs.decoder.jit import inline, kernel
from igs.decoder.simd import (
    load,
    load_columns,
    load_rows,
    minimum,
    muladd,
    splat,
    splat_int,
    store,
    store3,
    store_block,
    to_floats,
)

TILE = 16  # samples a side


def tile_axis(samples: int, reduction: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int, int]:
    """How an axis of ``samples`` output samples, ``reduction`` points each, is cut into tiles.

    → first point and number of points per tile, tiles per unit, output samples per unit. A unit is as many whole output
    samples as fit 16 points, or one output sample cut into several tiles.
    """
    if reduction <= TILE:
        per_unit = TILE // reduction
        firsts = np.arange(0, samples, per_unit, dtype=np.int64)
        return firsts * reduction, np.minimum(per_unit, samples - firsts) * reduction, 1, per_unit
    parts = -(-reduction // TILE)
    inner = np.arange(parts, dtype=np.int64) * TILE
    firsts = (np.arange(samples, dtype=np.int64)[:, None] * reduction + inner).ravel()
    return firsts, np.tile(np.minimum(TILE, reduction - inner), samples), parts, 1


@inline
def accumulate(values, start, used, reduction, channels, sums, place):  # type: ignore[no-untyped-def]
    """Add a row of a tile to the float64 sums of its output samples, from element ``place`` on, in order of columns.

    values: float32 [C · 256]; start: the row's first element, of ``used``.
    """
    width = min(reduction, used)
    for first in range(start, start + used, width):
        for c in range(channels):
            total = 0.0
            for i in range(c * 256 + first, c * 256 + first + width):
                total += np.float64(values[i])
            sums[place] += total
            place += 1


@kernel
def render_rows(  # type: ignore[no-untyped-def]
    means,
    factors,
    features,
    row_starts,
    row_members,
    xs,
    ys,
    tiles_x,
    tiles_y,
    lows,
    highs,
    numbers,
    rule,
    first_row,
    out,
):
    """Write the stored values of some tile rows.

    means: int32 [2, n]; factors: float32 [3, n]; features: float32 [n, F]; row_starts, row_members: Gaussians per tile
    row (``tile_rows``); xs, ys: int32 sample coordinates; tiles_x, tiles_y: int64 [2, tiles] first point and number of
    points, tiles_y only of the rows to write; lows, highs: float64 [tiles] of x; numbers: float64 (R⁺, origin, tiles
    per unit, K, sum, reduction, most); rule: float32 R², Q², background, lit; first_row: tile row of row_starts[0];
    out: float32 [output rows, columns, C] of exactly these rows.

    → 0, or, of a tile row whose tiles list more than ``most`` Gaussians, how many: there nothing more is written.
    """
    reach, origin, per_unit = numbers[0], numbers[1], numbers[2]
    top_k, is_sum, reduction = int(numbers[3]), numbers[4] != 0.0, int(numbers[5])
    columns, channels, features_each = out.shape[1], out.shape[2], features.shape[1]
    sloped = features_each > channels
    tiles = tiles_x.shape[1]
    rows = tiles_y.shape[1]
    longest = 0
    for row in range(rows):
        longest = max(longest, row_starts[first_row + row + 1] - row_starts[first_row + row])
    first = np.empty(longest, np.int32)
    last = np.empty(longest, np.int32)
    counts = np.empty(tiles, np.int64)
    starts = np.empty(tiles + 1, np.int64)
    place = np.empty(tiles, np.int64)
    entries = np.empty(0, np.int32)
    table = np.empty((COLUMNS, 16), np.float32)
    block_lows = np.empty(16 * 16, np.float32)
    block_highs = np.empty(16 * 16, np.float32)
    reaches = np.empty(16, np.int32)
    qdys = np.empty(16 * 16, np.float32)
    vvs = np.empty(16 * 16, np.float32)
    where = np.empty((3, 16), np.int32)
    local = np.empty(16 * features_each, np.float32)
    bvs = np.empty(16 * 16, np.float32)  # b·v of spec §7 per candidate and row
    slopes = np.empty(16 * 16, np.float32)
    products = np.empty(16 * 16, np.float32)
    d2s = np.empty(16 * 16, np.float32)
    active = np.empty(16, np.int32)
    ranks = np.empty(32 * 16, np.float32)
    lanes = np.empty(channels * 16, np.float32)
    tile_x = np.empty(16, np.int32)
    tile_y = np.empty(16, np.int32)
    block_x = np.empty(16, np.int32)
    block_y = np.empty(16, np.int32)
    values = np.empty(channels * 256, np.float32)
    sums = np.zeros(out.size if reduction > 1 else 0, np.float64)
    flat = out.reshape(out.size)
    for row in range(rows):
        members = row_members[row_starts[first_row + row] : row_starts[first_row + row + 1]]
        y0, y_count = tiles_y[0, row], tiles_y[1, row]
        top, bottom = ys[y0], ys[y0 + y_count - 1]
        row_spans(
            means,
            factors,
            reach,
            members,
            float(top),
            float(bottom),
            lows,
            highs,
            origin,
            per_unit,
            first,
            last,
            counts,
        )
        if counts.sum() > numbers[6]:
            return counts.sum()
        segment = 0
        while segment < tiles:
            end = next_segment(counts, segment, starts)
            if starts[end] > len(entries):
                entries = np.empty(starts[end] + starts[end] // 2, np.int32)
            fill_segment(members, first, last, segment, end, starts, place, entries)
            for tile in range(segment, end):
                x0, x_count = tiles_x[0, tile], tiles_x[1, tile]
                number = starts[tile + 1] - starts[tile]
                crowded = number > CROWD
                if not crowded and number > table.shape[1]:
                    capacity = (number + number // 2 + 15) & ~15
                    table = np.empty((COLUMNS, capacity), np.float32)
                    block_lows = np.empty(capacity * 16, np.float32)
                    block_highs = np.empty(capacity * 16, np.float32)
                    reaches = np.empty(capacity, np.int32)
                    qdys = np.empty(capacity * 16, np.float32)
                    vvs = np.empty(capacity * 16, np.float32)
                    where = np.empty((3, capacity), np.int32)
                    local = np.empty(capacity * features_each, np.float32)
                    if sloped:
                        bvs = np.empty(capacity * 16, np.float32)
                        slopes = np.empty(capacity * 16, np.float32)
                    products = np.empty(capacity * 16, np.float32)
                    d2s = np.empty(capacity * 16, np.float32)
                    active = np.empty(capacity, np.int32)
                for lane in range(16):
                    tile_x[lane] = xs[x0 + min(lane, x_count - 1)]
                for lane in range(16):
                    tile_y[lane] = ys[y0 + min(lane, y_count - 1)]
                kept = 0
                if not crowded:
                    kept = gather(
                        means, factors, features, entries, starts[tile], starts[tile + 1], tile_x[0], tile_x[15], top,
                        bottom, rule, top_k, is_sum, table, where, local,
                    )  # fmt: skip
                    bound_blocks(
                        tile_x, tile_y, table, where, kept, rule, top_k, is_sum, products, qdys, vvs, block_lows,
                        block_highs, reaches,
                    )  # fmt: skip
                    if sloped:
                        y = load(tile_y, 0)
                        for k in range(kept):
                            v = splat(table[R, k]) * to_floats(y - splat_int(where[1, k]))
                            store(bvs, k * 16, splat(local[k * features_each + channels + 1]) * v)
                for block in range(16):
                    block_row, block_column = block // 4, block % 4
                    if block_row * 4 >= y_count or block_column * 4 >= x_count:
                        continue
                    if crowded:
                        for lane in range(16):
                            block_x[lane] = tile_x[block_column * 4 + lane % 4]
                            block_y[lane] = tile_y[block_row * 4 + lane // 4]
                        blend_crowd(
                            means, factors, features, entries, starts[tile], starts[tile + 1], load(block_x, 0),
                            load(block_y, 0), rule, top_k, is_sum, ranks, lanes,
                        )  # fmt: skip
                    else:
                        count = active_in_block(block, reaches, kept, active)
                        nearest = splat(np.float32(np.inf))
                        for k in range(count):
                            i = active[k] * 16
                            u = load_columns(products, i + block_column * 4) + load_rows(qdys, i + block_row * 4)
                            d2 = u * u + load_rows(vvs, i + block_row * 4)
                            store(d2s, k * 16, d2)
                            nearest = minimum(nearest, d2)
                        if sloped:  # a loop of its own, so that constant colours pay nothing
                            for k in range(count):
                                i = active[k] * 16
                                u = load_columns(products, i + block_column * 4) + load_rows(qdys, i + block_row * 4)
                                a = splat(local[active[k] * features_each + channels])
                                # ``blend.slope``, with b·v at hand
                                store(slopes, k * 16, muladd(a, u, load_rows(bvs, i + block_row * 4)))
                        blend(
                            d2s, slopes, active, count, nearest, local, channels, features_each, rule, top_k, is_sum,
                            ranks, lanes,
                        )  # fmt: skip
                    for c in range(channels):
                        store_block(values, c * 256 + block_row * 64 + block_column * 4, 16, load(lanes, c * 16))
                for y in range(y_count):
                    if reduction > 1:
                        row_out = (y0 + y) // reduction - tiles_y[0, 0] // reduction
                        place_out = (row_out * columns + x0 // reduction) * channels
                        accumulate(values, y * 16, x_count, reduction, channels, sums, place_out)
                    else:
                        place_out = ((y0 + y - tiles_y[0, 0]) * columns + x0) * channels
                        if channels == 3 and x_count == 16:
                            at = y * 16
                            store3(flat, place_out, load(values, at), load(values, at + 256), load(values, at + 512))
                        else:
                            for lane in range(x_count):
                                for c in range(channels):
                                    flat[place_out] = values[c * 256 + y * 16 + lane]
                                    place_out += 1
            segment = end
    if reduction > 1:
        for i in range(out.size):
            flat[i] = sums[i] / (reduction * reduction)
    return 0
