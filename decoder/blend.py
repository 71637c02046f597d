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
        # K Gaussians with d² ≤ T over the whole rectangle leave no place for one with d² > T.
        kth = kth_smallest(table[HIGH], kept, top_k, table[VV])
        if kth * SLACK < limit:
            kept = compact(table, where, kept, kth * SLACK)
    channels = features.shape[1]
    for k in range(kept):
        i = where[2, k]
        for c in range(channels):
            local[k * channels + c] = features[i, c]
    for k in range(kept, (kept + 15) & ~15):  # padding for the row test: d² = inf
        where[1, k] = top
        table[PL, k] = np.float32(3e38)
        table[PR, k] = np.float32(3e38)
        table[Q, k] = np.float32(0.0)
        table[R, k] = np.float32(0.0)
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
def kth_smallest(values, number, k, sorted_values):  # type: ignore[no-untyped-def]
    """The k-th smallest (k ≥ 1) of values[:number], number ≥ k; ``sorted_values`` is scratch of k entries or more."""
    filled = 0
    for i in range(number):
        value = values[i]
        if filled < k:
            place = filled
            filled += 1
        elif value < sorted_values[k - 1]:
            place = k - 1
        else:
            continue
        while place > 0 and sorted_values[place - 1] > value:
            sorted_values[place] = sorted_values[place - 1]
            place -= 1
        sorted_values[place] = value
    return sorted_values[k - 1]


@inline
def active_in_row(table, where, kept, y, rule, is_sum, active):  # type: ignore[no-untyped-def]
    """Of a tile's candidates those that may count in its row at ``y``: their numbers to ``active``, ascending.

    Also writes Q·dy and v·v of spec §7 for all of them into the table.
    """
    capacity = table.shape[1]
    zero = splat(np.float32(0.0))
    smallest = splat(np.float32(np.inf))
    for k in range(0, kept, 16):
        dy = to_floats(splat_int(y) - load(where, capacity + k))
        qdy = load(table, Q * capacity + k) * dy
        v = load(table, R * capacity + k) * dy
        vv = v * v
        store(table, QDY * capacity + k, qdy)
        store(table, VV * capacity + k, vv)
        ul = load(table, PL * capacity + k) + qdy
        ur = load(table, PR * capacity + k) + qdy
        ll = ul * ul
        rr = ur * ur
        smallest = minimum(smallest, maximum(ll, rr) + vv)
        low = select((ul <= zero) & (zero <= ur), zero, minimum(ll, rr)) + vv
        store(table, LOW * capacity + k, low)
    limit = rule[0]
    if not is_sum:
        limit = min(limit, horizontal_minimum(smallest) + rule[1])
    bound = splat(limit * SLACK)
    count = 0
    for k in range(0, kept, 16):
        left = bits(load(table, LOW * capacity + k) <= bound)
        while left != 0:
            active[count] = k + lowest_bit(left)
            count += 1
            left &= left - 1
    return count


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
    if horizontal_maximum(within) <= top_k:
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
