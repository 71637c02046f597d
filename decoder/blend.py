"""The inner loops: which of a tile's candidates can count, and the blend at 16 sample points at once (spec §7).

Bounds on d² over a tile, a row or a group of points only ever drop Gaussians that cannot count there; who counts is
then decided per point from d2 in binary32, so that no result depends on how points were grouped. The weighted sum runs
in order of index with the same instructions on every path: equal points have equal values to the bit.
"""

from __future__ import annotations

import numpy as np
from igs.decoder.jit import inline
from igs.decoder.simd import (
    bits,
    count_bits,
    exp_half_negative,
    horizontal_maximum,
    horizontal_minimum,
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
    without,
)

# Bounds are evaluated in binary32 like d2 itself, each within 1.5e-3 of the exact value (elongation 4096, spec §6.2:
# the two terms of u are up to 2049 times d and each is rounded 3 times). A bound compares two d2 and two such bounds.
SLACK = np.float32(1.0 + 2.0**-6)

# Rows of the scratch table of a tile's candidates, float32 unless said otherwise.
P, Q, R, PL, PR, QDY, VV, LOW, HIGH = range(9)
COLUMNS = 9


@inline
def gather(  # type: ignore[no-untyped-def]
    means, factors, features, entries, start, end, left, right, top, bottom, rule, top_k, is_sum, table, where, local
):
    """Collect the candidates of the rectangle of points left … right × top … bottom (int32 units).

    entries[start:end]: Gaussians that may reach it. table: float32 [COLUMNS, capacity] gets P, Q, R_ and P·dx at both
    ends; where: int32 [3, capacity] gets Mx, My and the Gaussian; local: float32 [capacity · C] its features.
    Capacity is a multiple of 16 above the number of entries. → how many were kept, in order of index.
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
    zero = splat(np.float32(0.0))
    smallest = splat(np.float32(np.inf))
    for k in range(0, number, 16):
        mx = load(where, k)
        my = load(where, capacity + k)
        p = load(table, P * capacity + k)
        q = load(table, Q * capacity + k)
        r = load(table, R * capacity + k)
        dl = to_floats(splat_int(left) - mx)
        dr = to_floats(splat_int(right) - mx)
        dt = to_floats(splat_int(top) - my)
        db = to_floats(splat_int(bottom) - my)
        pl = p * dl
        pr = p * dr
        store(table, PL * capacity + k, pl)
        store(table, PR * capacity + k, pr)
        qt = q * dt
        qb = q * db
        vt = r * dt
        vb = r * db
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
        high = maximum(maximum(lt2, rt2) + vt, maximum(lb2, rb2) + vb)
        low_t = select((lt <= zero) & (zero <= rt), zero, minimum(lt2, rt2)) + vt
        low_b = select((lb <= zero) & (zero <= rb), zero, minimum(lb2, rb2)) + vb
        # On a vertical edge the minimum is at dy = -(P·dx)·Q / (Q² + R²).
        turn = q / muladd(q, q, maximum(r * r, splat(np.float32(1e-37))))
        yl = minimum(maximum(zero - pl * turn, dt), db)
        yr = minimum(maximum(zero - pr * turn, dt), db)
        ul = pl + q * yl
        ur = pr + q * yr
        vl = r * yl
        vr = r * yr
        low_l = ul * ul + vl * vl
        low_r = ur * ur + vr * vr
        low = minimum(minimum(low_t, low_b), minimum(low_l, low_r))
        inside = ((dl <= zero) & (zero <= dr)) & ((dt <= zero) & (zero <= db))
        store(table, LOW * capacity + k, select(inside, zero, low))
        store(table, HIGH * capacity + k, high)
        if k + 16 <= number:
            smallest = minimum(smallest, high)
        else:
            for tail in range(k, number):
                smallest = minimum(smallest, splat(table[HIGH, tail]))
    limit = rule[0]
    if not is_sum:
        limit = min(limit, horizontal_minimum(smallest) + rule[1])
    kept = compact(table, where, number, limit * SLACK)
    if not is_sum and kept > top_k:
        for k in range(kept, (kept + 15) & ~15):
            table[HIGH, k] = np.float32(np.inf)
        closer = kth_bound(table, kept, top_k, np.float32(0.0), limit)
        if closer < limit:
            kept = compact(table, where, kept, closer * SLACK)
    channels = features.shape[1]
    for k in range(kept):
        i = where[2, k]
        for c in range(channels):
            local[k * channels + c] = features[i, c]
    return kept


@inline
def compact(table, where, number, limit):  # type: ignore[no-untyped-def]
    """Keep the candidates whose lower bound is within the limit, in place and in order."""
    kept = 0
    for k in range(number):
        if table[LOW, k] <= limit:
            if kept != k:
                where[0, kept] = where[0, k]
                where[1, kept] = where[1, k]
                where[2, kept] = where[2, k]
                table[P, kept] = table[P, k]
                table[Q, kept] = table[Q, k]
                table[R, kept] = table[R, k]
                table[PL, kept] = table[PL, k]
                table[PR, kept] = table[PR, k]
                table[LOW, kept] = table[LOW, k]
                table[HIGH, kept] = table[HIGH, k]
            kept += 1
    return kept


@inline
def tile_tables(tile_x, tile_y, table, where, kept, edges, products, qdys, vvs):  # type: ignore[no-untyped-def]
    """What the blocks of a tile share: the parts of d2 that depend on x or on y alone.

    tile_x, tile_y: int32 [16] coordinates. products, qdys, vvs: float32 [capacity · 16] get P·dx, Q·dy and v·v of spec §7
    per candidate and column or row. edges: float32 [24, capacity] gets P·dx, Q·dy and v at the first and last column or
    row of each block of 4, per candidate in lanes; 16 at a time, the rest is padded so that its d² is inf.
    """
    capacity = table.shape[1]
    x = load(tile_x, 0)
    y = load(tile_y, 0)
    for k in range(kept):
        dy = to_floats(y - splat_int(where[1, k]))
        v = splat(table[R, k]) * dy
        store(products, k * 16, splat(table[P, k]) * to_floats(x - splat_int(where[0, k])))
        store(qdys, k * 16, splat(table[Q, k]) * dy)
        store(vvs, k * 16, v * v)
    for k in range(kept, (kept + 15) & ~15):
        where[0, k] = 0
        where[1, k] = tile_y[0]
        table[P, k] = np.float32(np.inf)
        table[Q, k] = np.float32(0.0)
        table[R, k] = np.float32(0.0)
    for k in range(0, kept, 16):
        mx = load(where, k)
        my = load(where, capacity + k)
        p = load(table, P * capacity + k)
        q = load(table, Q * capacity + k)
        r = load(table, R * capacity + k)
        for edge in range(8):
            at = (edge // 2) * 4 + (edge % 2) * 3
            dy = to_floats(splat_int(tile_y[at]) - my)
            store(edges, edge * capacity + k, p * to_floats(splat_int(tile_x[at]) - mx))
            store(edges, (8 + edge) * capacity + k, q * dy)
            store(edges, (16 + edge) * capacity + k, r * dy)


@inline
def active_in_block(column, row, table, edges, kept, rule, top_k, is_sum, active):  # type: ignore[no-untyped-def]
    """Of a tile's candidates those that may count in a block of 4 × 4 points: their numbers to ``active``, ascending."""
    capacity = table.shape[1]
    zero = splat(np.float32(0.0))
    smallest = splat(np.float32(np.inf))
    for k in range(0, kept, 16):
        left = load(edges, 2 * column * capacity + k)
        right = load(edges, (2 * column + 1) * capacity + k)
        top = load(edges, (8 + 2 * row) * capacity + k)
        bottom = load(edges, (9 + 2 * row) * capacity + k)
        v_top = load(edges, (16 + 2 * row) * capacity + k)
        v_bottom = load(edges, (17 + 2 * row) * capacity + k)
        u1 = left + top
        u2 = right + top
        u3 = left + bottom
        u4 = right + bottom
        high = maximum(maximum(u1 * u1, u2 * u2) + v_top * v_top, maximum(u3 * u3, u4 * u4) + v_bottom * v_bottom)
        # The smallest |u| and |v| over the block, each by itself: P and R_ are positive.
        u = maximum(maximum(minimum(u1, u3), zero - maximum(u2, u4)), zero)
        v = maximum(maximum(v_top, zero - v_bottom), zero)
        store(table, HIGH * capacity + k, high)
        store(table, LOW * capacity + k, u * u + v * v)
        smallest = minimum(smallest, high)
    limit = rule[0]
    if not is_sum:
        nearest = horizontal_minimum(smallest)
        limit = min(limit, nearest + rule[1])
        if kept > top_k:
            limit = kth_bound(table, kept, top_k, nearest, limit)
    bound = splat(limit * SLACK)
    count = 0
    for k in range(0, kept, 16):
        left_over = bits(load(table, LOW * capacity + k) <= bound)
        while left_over != 0:
            active[count] = k + lowest_bit(left_over)
            count += 1
            left_over &= left_over - 1
    return count


@inline
def kth_bound(table, number, k, low, high):  # type: ignore[no-untyped-def]
    """A bound T ≤ high that at least k upper bounds stay within, by bisection; ``high`` if fewer than k do.

    K Gaussians with d² ≤ T at all points leave no place for one with d² > T. Reads HIGH, padded to 16 by inf.
    """
    capacity = table.shape[1]
    for step in range(7):  # the first compares with ``high`` itself; six halvings leave 1/64 of the interval
        middle = high if step == 0 else np.float32(0.5) * (low + high)
        bound = splat(middle)
        count = 0
        for i in range(0, number, 16):
            count += count_bits(bits(load(table, HIGH * capacity + i) <= bound))
        if count >= k:
            high = middle
        elif step == 0:
            return high
        else:
            low = middle
    return high


@inline
def keep_k(d2s, count, threshold, top_k, ranks):  # type: ignore[no-untyped-def]
    """Where more than K of the d2 are within the threshold, set all but the K smallest to inf (ties: lower index).

    d2s: float32 [count · 16]; ranks: scratch, float32 [32 · 16].
    """
    zero = splat(np.float32(0.0))
    one = splat(np.float32(1.0))
    inf = splat(np.float32(np.inf))
    within = zero
    for k in range(count):
        within = within + select(load(d2s, k * 16) <= threshold, one, zero)
    most = horizontal_maximum(within)
    if most <= top_k:
        return
    if 2 * (most - top_k) <= top_k:  # few too many: take the largest away, one per lane and round
        limit = splat(np.float32(top_k))
        for _ in range(int(most) - top_k):
            largest = splat(np.float32(-1.0))
            for k in range(count):
                d2 = load(d2s, k * 16)
                largest = select(d2 <= threshold, maximum(d2, largest), largest)
            left = limit < within
            within = within - select(left, one, zero)
            for k in range(count - 1, -1, -1):  # of equal ones the highest index goes
                d2 = load(d2s, k * 16)
                hit = (d2 == largest) & left
                left = without(left, hit)
                store(d2s, k * 16, select(hit, inf, d2))
        return
    for s in range(top_k):
        store(ranks, s * 16, inf)
    for k in range(count):  # insertion into a sorted list per lane
        d2 = load(d2s, k * 16)
        d2 = select(d2 <= threshold, d2, inf)
        for s in range(top_k):
            other = load(ranks, s * 16)
            store(ranks, s * 16, minimum(d2, other))
            d2 = maximum(d2, other)
    kth = load(ranks, (top_k - 1) * 16)
    room = splat(np.float32(top_k))
    for k in range(count):
        room = room - select(load(d2s, k * 16) < kth, one, zero)
    for k in range(count):
        d2 = load(d2s, k * 16)
        tie = (d2 == kth) & (zero < room)
        room = room - select(tie, one, zero)
        store(d2s, k * 16, select((d2 < kth) | tie, d2, inf))


@inline
def blend(d2s, active, count, nearest, features, channels, rule, top_k, is_sum, ranks, out):  # type: ignore[no-untyped-def]
    """The values at 16 points → out, float32 [C · 16].

    d2s: float32 [count · 16], overwritten; active: their places in ``features`` (float32 [places · C]); nearest: the
    smallest d2 per lane; rule: float32 R², Q², background.
    """
    zero = splat(np.float32(0.0))
    threshold = splat(rule[0])
    base = zero
    if not is_sum:
        base = nearest
        threshold = minimum(nearest + splat(rule[1]), threshold)
        if count > top_k:
            keep_k(d2s, count, threshold, top_k, ranks)
    total = zero
    if channels == 3:
        first = zero
        second = zero
        third = zero
        for k in range(count):
            d2 = load(d2s, k * 16)
            weight = select(d2 <= threshold, exp_half_negative(d2 - base), zero)
            total = total + weight
            i = active[k] * 3
            first = muladd(weight, splat(features[i]), first)
            second = muladd(weight, splat(features[i + 1]), second)
            third = muladd(weight, splat(features[i + 2]), third)
        store(out, 0, finish(first, total, rule[2], is_sum))
        store(out, 16, finish(second, total, rule[3], is_sum))
        store(out, 32, finish(third, total, rule[4], is_sum))
        return
    for k in range(count):
        d2 = load(d2s, k * 16)
        weight = select(d2 <= threshold, exp_half_negative(d2 - base), zero)
        total = total + weight
        store(d2s, k * 16, weight)
    for c in range(channels):
        value = zero
        for k in range(count):
            value = muladd(load(d2s, k * 16), splat(features[active[k] * channels + c]), value)
        store(out, c * 16, finish(value, total, rule[2 + c], is_sum))


@inline
def finish(value, total, background, is_sum):  # type: ignore[no-untyped-def]
    """From the weighted sum to the value of a channel; the nearest Gaussian weighs 1, so that no total is small."""
    if is_sum:
        return value + splat(background)
    return select(splat(np.float32(0.0)) < total, value / total, splat(background))
