"""Which Gaussians may count in a tile and in its blocks of 4 × 4 points: bounds on d² (spec §7).

They only ever drop Gaussians that cannot count at any of the points: a candidate must be within R² somewhere, not
everywhere more than Q² beyond another one, and not everywhere behind K others. ``blend.py`` then decides per point.
"""

from __future__ import annotations

import numpy as np

from igs.decoder.constants import SLACK
from igs.decoder.jit import inline
from igs.decoder.simd import (
    bits,
    count_bits,
    first_columns,
    first_rows,
    have_bit,
    horizontal_minimum,
    last_columns,
    last_rows,
    load,
    lowest_bit,
    maximum,
    minimum,
    muladd,
    select,
    splat,
    splat_int,
    store,
    to_floats,
)

# Rows of the scratch table of a tile's candidates, float32 unless said otherwise.
P, Q, R, QDY, VV, LOW, HIGH = range(7)
COLUMNS = 7


@inline
def bounds_in(p, q, r, left, right, top, bottom):  # type: ignore[no-untyped-def]
    """(least, most) of d² in a rectangle: of 16 Gaussians, whose means its sides are given from, in pixels."""
    zero = splat(np.float32(0.0))
    pl = p * left
    pr = p * right
    qt = q * top
    qb = q * bottom
    vt = r * top
    vb = r * bottom
    vt = vt * vt
    vb = vb * vb
    lt = pl + qt
    rt = pr + qt
    lb = pl + qb
    rb = pr + qb
    lt2 = lt * lt
    rt2 = rt * rt
    lb2 = lb * lb
    rb2 = rb * rb
    # d² is convex: its maximum is at a corner, its minimum inside (0) or on an edge.
    most = maximum(maximum(lt2, rt2) + vt, maximum(lb2, rb2) + vb)
    on_top = select((lt <= zero) & (zero <= rt), zero, minimum(lt2, rt2)) + vt
    on_bottom = select((lb <= zero) & (zero <= rb), zero, minimum(lb2, rb2)) + vb
    # On a vertical edge the minimum is at dy = -(P·dx)·Q / (Q² + R²).
    turn = q / muladd(q, q, maximum(r * r, splat(np.float32(1e-37))))
    yl = minimum(maximum(zero - pl * turn, top), bottom)
    yr = minimum(maximum(zero - pr * turn, top), bottom)
    ul = pl + q * yl
    ur = pr + q * yr
    vl = r * yl
    vr = r * yr
    on_left = ul * ul + vl * vl
    on_right = ur * ur + vr * vr
    inside = ((left <= zero) & (zero <= right)) & ((top <= zero) & (zero <= bottom))
    least = select(inside, zero, minimum(minimum(on_top, on_bottom), minimum(on_left, on_right)))
    return least, most


@inline
def gather(  # type: ignore[no-untyped-def]
    means, factors, features, entries, start, end, left, right, top, bottom, rule, top_k, is_sum, table, where, local
):
    """Collect the candidates of the rectangle of points left … right × top … bottom (int32 units).

    entries[start:end]: Gaussians that may reach it. table: float32 [COLUMNS, capacity] gets P, Q, R_ and bounds of d²;
    where: int32 [3, capacity] gets Mx, My and the Gaussian; local: float32 [capacity · F] its features. Capacity is a
    multiple of 16 above the number of entries. → how many were kept, in order of index.
    """
    capacity = table.shape[1]
    number = end - start
    for k in range(number):
        i = entries[start + k]
        where[0, k] = means[0, i]
        where[1, k] = means[1, i]
        where[2, k] = i
        table[P, k] = factors[0, i]
        table[Q, k] = factors[1, i]
        table[R, k] = factors[2, i]
    for k in range(number, (number + 15) & ~15):  # padding: never within any bound
        where[0, k] = left
        where[1, k] = top
        table[P, k] = np.float32(0.0)
        table[Q, k] = np.float32(0.0)
        table[R, k] = np.float32(0.0)
    smallest = splat(np.float32(np.inf))
    for k in range(0, number, 16):
        mx = load(where, k)
        my = load(where, capacity + k)
        low, high = bounds_in(
            load(table, P * capacity + k),
            load(table, Q * capacity + k),
            load(table, R * capacity + k),
            to_floats(splat_int(left) - mx),
            to_floats(splat_int(right) - mx),
            to_floats(splat_int(top) - my),
            to_floats(splat_int(bottom) - my),
        )
        store(table, LOW * capacity + k, low)
        store(table, HIGH * capacity + k, high)
        if k + 16 <= number:
            smallest = minimum(smallest, high)
        else:
            for tail in range(k, number):
                smallest = minimum(smallest, splat(table[HIGH, tail]))
    for k in range(number, (number + 15) & ~15):
        table[LOW, k] = np.float32(np.inf)
        table[HIGH, k] = np.float32(np.inf)
    limit = rule[0]
    if not is_sum:
        nearest = horizontal_minimum(smallest)
        limit = min(limit, nearest + rule[1])
        if number > top_k:
            limit = kth_bound(table, number, top_k, nearest, limit)
    kept = keep_within(limit * SLACK, number, table, where)
    columns = features.shape[1]
    for k in range(kept):
        i = where[2, k]
        for c in range(columns):
            local[k * columns + c] = features[i, c]
    return kept


@inline
def keep_within(limit, number, table, where):  # type: ignore[no-untyped-def]
    """Bring those of a tile's candidates whose least d² is within a limit to the front; → how many."""
    capacity = table.shape[1]
    bound = splat(limit)
    kept = 0
    for k in range(0, number, 16):
        within = bits(load(table, LOW * capacity + k) <= bound)
        while within != 0:  # in place: never ahead of what is read
            i = k + lowest_bit(within)
            within &= within - 1
            where[0, kept] = where[0, i]
            where[1, kept] = where[1, i]
            where[2, kept] = where[2, i]
            table[P, kept] = table[P, i]
            table[Q, kept] = table[Q, i]
            table[R, kept] = table[R, i]
            table[HIGH, kept] = table[HIGH, i]
            kept += 1
    return kept


@inline
def bound_blocks(  # type: ignore[no-untyped-def]
    tile_x, tile_y, table, where, kept, rule, top_k, is_sum, products, qdys, vvs, lows, highs, reaches
):
    """What the blocks of 4 × 4 points of a tile share, and which of its candidates may count in which blocks.

    tile_x, tile_y: int32 [16] coordinates. products, qdys, vvs: float32 [capacity · 16] get P·dx, Q·dy and v·v of spec
    §7 per candidate and column or row. lows, highs: float32 [capacity · 16], scratch: bounds of d² per block, the
    blocks in lanes. reaches: int32 [capacity] gets a bit per block, padded to 16.
    """
    x = load(tile_x, 0)
    y = load(tile_y, 0)
    zero = splat(np.float32(0.0))
    smallest = splat(np.float32(np.inf))
    for k in range(kept):
        dy = to_floats(y - splat_int(where[1, k]))
        v = splat(table[R, k]) * dy
        product = splat(table[P, k]) * to_floats(x - splat_int(where[0, k]))
        qdy = splat(table[Q, k]) * dy
        store(products, k * 16, product)
        store(qdys, k * 16, qdy)
        store(vvs, k * 16, v * v)
        left = first_columns(product)
        right = last_columns(product)
        top = first_rows(qdy)
        bottom = last_rows(qdy)
        v_top = first_rows(v)
        v_bottom = last_rows(v)
        u1 = left + top
        u2 = right + top
        u3 = left + bottom
        u4 = right + bottom
        # d² is convex: it is largest at a corner. Smallest |u| and |v| by themselves: P and R_ are positive.
        high = maximum(maximum(u1 * u1, u2 * u2) + v_top * v_top, maximum(u3 * u3, u4 * u4) + v_bottom * v_bottom)
        u = maximum(maximum(minimum(u1, u3), zero - maximum(u2, u4)), zero)
        v = maximum(maximum(v_top, zero - v_bottom), zero)
        store(highs, k * 16, high)
        store(lows, k * 16, u * u + v * v)
        smallest = minimum(smallest, high)
    limit = splat(rule[0])
    if not is_sum:
        limit = minimum(limit, smallest + splat(rule[1]))
        if kept > top_k:
            limit = kth_bounds(highs, kept, splat(np.float32(top_k)), smallest, limit)
    limit = limit * splat(SLACK)
    for k in range(kept):
        reaches[k] = np.int32(bits(load(lows, k * 16) <= limit))
    for k in range(kept, (kept + 15) & ~15):
        reaches[k] = np.int32(0)


@inline
def active_in_block(block, reaches, kept, active):  # type: ignore[no-untyped-def]
    """Those of a tile's candidates that may count in one of its blocks: their numbers to ``active``, ascending."""
    count = 0
    for k in range(0, kept, 16):
        rest = bits(have_bit(load(reaches, k), block))
        while rest != 0:
            active[count] = k + lowest_bit(rest)
            count += 1
            rest &= rest - 1
    return count


@inline
def kth_bounds(highs, number, k, low, high):  # type: ignore[no-untyped-def]
    """Per lane a bound T ≤ high that at least k of ``highs`` [number · 16] stay within; ``high`` if fewer than k do.

    K Gaussians with d² ≤ T at all points leave no place for one with d² > T. ``low``: the smallest of highs.
    """
    one = splat(np.float32(1.0))
    zero = splat(np.float32(0.0))
    count = zero
    for i in range(number):
        count = count + select(load(highs, i * 16) <= high, one, zero)
    enough = k <= count
    step = high - low
    for _ in range(2):  # two rounds of three thresholds leave 1/16 of the interval
        step = step * splat(np.float32(0.25))
        first = low + step
        second = first + step
        third = second + step
        count1 = zero
        count2 = zero
        count3 = zero
        for i in range(number):
            value = load(highs, i * 16)
            count1 = count1 + select(value <= first, one, zero)
            count2 = count2 + select(value <= second, one, zero)
            count3 = count3 + select(value <= third, one, zero)
        low = select(count3 < k, third, select(count2 < k, second, select(count1 < k, first, low)))
    # The interval's upper end; SLACK has room for its rounding.
    return select(enough, low + step, high)


@inline
def kth_bound(table, number, k, low, high):  # type: ignore[no-untyped-def]
    """A bound T ≤ high that at least k upper bounds stay within; ``high`` if fewer than k do.

    K Gaussians with d² ≤ T at all points leave no place for one with d² > T. Reads HIGH, padded to 16 by inf.
    """
    capacity = table.shape[1]
    bound = splat(high)
    count = 0
    for i in range(0, number, 16):
        count += count_bits(bits(load(table, HIGH * capacity + i) <= bound))
    if count < k:
        return high
    step = high - low
    for _ in range(2):  # two rounds of three thresholds leave 1/16 of the interval, without a branch to mispredict
        step = step * np.float32(0.25)
        first = splat(low + step)
        second = splat(low + step * np.float32(2.0))
        third = splat(low + step * np.float32(3.0))
        count1 = 0
        count2 = 0
        count3 = 0
        for i in range(0, number, 16):
            values = load(table, HIGH * capacity + i)
            count1 += count_bits(bits(values <= first))
            count2 += count_bits(bits(values <= second))
            count3 += count_bits(bits(values <= third))
        low = low + step * np.float32(int(count1 < k) + int(count2 < k) + int(count3 < k))
    return low + step  # the interval's upper end, up to rounding, for which SLACK has room
