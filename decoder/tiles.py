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
from igs.decoder.jit import allocating, inline, kernel
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


@allocating
def room(capacity, features, sloped):  # type: ignore[no-untyped-def]
    """What is kept of so many candidates of a tile: table, where, local, products, qdys, vvs, block_lows, block_highs,
    reaches, bvs, slopes, d2s, active; see ``candidates.py`` and ``blend_block``."""
    lanes = capacity * 16
    return (
        np.empty((COLUMNS, capacity), np.float32),
        np.empty((3, capacity), np.int32),
        np.empty(capacity * features, np.float32),
        np.empty(lanes, np.float32),
        np.empty(lanes, np.float32),
        np.empty(lanes, np.float32),
        np.empty(lanes, np.float32),
        np.empty(lanes, np.float32),
        np.empty(capacity, np.int32),
        np.empty(lanes if sloped else 16, np.float32),
        np.empty(lanes if sloped else 16, np.float32),
        np.empty(lanes, np.float32),
        np.empty(capacity, np.int32),
    )


@inline
def offsets_down(table, where, local, kept, tile_y, channels, features, bvs):  # type: ignore[no-untyped-def]
    """b·v of spec §7 of each candidate and row of the tile, where Gaussians carry a slope: into bvs [16 · capacity]."""
    y = load(tile_y, 0)
    for k in range(kept):
        v = splat(table[R, k]) * to_floats(y - splat_int(where[1, k]))
        store(bvs, k * 16, splat(local[k * features + channels + 1]) * v)


@inline
def blend_block(  # type: ignore[no-untyped-def]
    block, kept, reaches, products, qdys, vvs, local, bvs, channels, features, rule, top_k, is_sum, active, d2s, slopes,
    ranks, lanes,
):  # fmt: skip
    """The stored values of a block of a tile, into lanes [16 · C]. d2s, slopes: of its candidates, left behind."""
    across, down = block % 4 * 4, block // 4 * 4
    count = active_in_block(block, reaches, kept, active)
    nearest = splat(np.float32(np.inf))
    for k in range(count):
        i = active[k] * 16
        u = load_columns(products, i + across) + load_rows(qdys, i + down)
        d2 = u * u + load_rows(vvs, i + down)
        store(d2s, k * 16, d2)
        nearest = minimum(nearest, d2)
    if features > channels:  # a loop of its own, so that constant colours pay nothing
        for k in range(count):
            i = active[k] * 16
            u = load_columns(products, i + across) + load_rows(qdys, i + down)
            a = splat(local[active[k] * features + channels])
            store(slopes, k * 16, muladd(a, u, load_rows(bvs, i + down)))  # ``blend.slope``, with b·v at hand
    blend(d2s, slopes, active, count, nearest, local, channels, features, rule, top_k, is_sum, ranks, lanes)


@inline
def put_row(values, start, used, channels, flat, place):  # type: ignore[no-untyped-def]
    """A row of a tile, of which ``used`` samples are wanted, into the output from element ``place`` on."""
    if channels == 3 and used == 16:
        store3(flat, place, load(values, start), load(values, start + 256), load(values, start + 512))
    else:
        for lane in range(start, start + used):
            for c in range(channels):
                flat[place] = values[c * 256 + lane]
                place += 1


@kernel
def render_rows(  # type: ignore[no-untyped-def]
    means, factors, features, row_starts, row_members, xs, ys, tiles_x, tiles_y, lows, highs, numbers, rule, first_row,
    out,
):  # fmt: skip
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
    tiles, rows = tiles_x.shape[1], tiles_y.shape[1]
    longest = 0
    for row in range(rows):
        longest = max(longest, row_starts[first_row + row + 1] - row_starts[first_row + row])
    first, last = np.empty(longest, np.int32), np.empty(longest, np.int32)
    counts, starts, place = np.empty(tiles, np.int64), np.empty(tiles + 1, np.int64), np.empty(tiles, np.int64)
    entries = np.empty(0, np.int32)
    table, where, local, products, qdys, vvs, block_lows, block_highs, reaches, bvs, slopes, d2s, active = room(
        16, features_each, sloped
    )
    ranks, lanes = np.empty(32 * 16, np.float32), np.empty(channels * 16, np.float32)
    tile_x, tile_y = np.empty(16, np.int32), np.empty(16, np.int32)
    block_x, block_y = np.empty(16, np.int32), np.empty(16, np.int32)
    values = np.empty(channels * 256, np.float32)
    sums = np.zeros(out.size if reduction > 1 else 0, np.float64)
    flat = out.reshape(out.size)
    for row in range(rows):
        members = row_members[row_starts[first_row + row] : row_starts[first_row + row + 1]]
        y0, y_count = tiles_y[0, row], tiles_y[1, row]
        top, bottom = ys[y0], ys[y0 + y_count - 1]
        row_spans(
            means, factors, reach, members, float(top), float(bottom), lows, highs, origin, per_unit, first, last,
            counts,
        )  # fmt: skip
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
                    (
                        table, where, local, products, qdys, vvs, block_lows, block_highs, reaches, bvs, slopes, d2s,
                        active,
                    ) = room(capacity, features_each, sloped)  # fmt: skip
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
                        offsets_down(table, where, local, kept, tile_y, channels, features_each, bvs)
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
                        blend_block(
                            block, kept, reaches, products, qdys, vvs, local, bvs, channels, features_each, rule, top_k,
                            is_sum, active, d2s, slopes, ranks, lanes,
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
                        put_row(values, y * 16, x_count, channels, flat, place_out)
            segment = end
    if reduction > 1:
        for i in range(out.size):
            flat[i] = sums[i] / (reduction * reduction)
    return 0
