"""The inner loop: who counts at each of 16 points, and the weighted sum (spec §7).

Decided per point from d2 in binary32, so that no result depends on how points were grouped. The weighted sum runs in
order of index with the same instructions on every path: equal points have equal values to the bit.
"""

from __future__ import annotations

import numpy as np

from igs.decoder.jit import inline
from igs.decoder.simd import (
    bits,
    exp_half_negative,
    horizontal_maximum,
    load,
    maximum,
    minimum,
    muladd,
    select,
    splat,
    splat_int,
    store,
    to_floats,
)

# Lists longer than this are gone through several times instead of being kept in scratch memory, of which a thread needs
# about 0.5 KB per entry: files of a few hundred KB can put millions of Gaussians into one tile.
CROWD = 1 << 13


@inline
def kth_of_largest(d2s, count, threshold, within, top_k, slots):  # type: ignore[no-untyped-def]
    """Per lane the K-th smallest of the ``within`` d2 that are ≤ threshold, by sorting the ``slots`` (3 or 5) largest.

    → (it, or the threshold where no more than K are within; whether it is sure that K are no larger than it). Not sure
    where the next larger d2 is equal. K + slots − 1 or fewer must be within.
    """
    none = splat(np.float32(-1.0))
    first = none
    second = none
    third = none
    fourth = none
    fifth = none
    for k in range(count):
        d2 = load(d2s, k * 16)
        d2 = select(d2 <= threshold, d2, none)
        rest = minimum(first, d2)
        first = maximum(first, d2)
        d2 = minimum(second, rest)
        second = maximum(second, rest)
        if slots == 3:
            third = maximum(third, d2)
        else:
            rest = minimum(third, d2)
            third = maximum(third, d2)
            d2 = minimum(fourth, rest)
            fourth = maximum(fourth, rest)
            fifth = maximum(fifth, d2)
    excess = within - splat(np.float32(top_k))
    kth = threshold
    larger = none
    one = excess == splat(np.float32(1.0))
    two = excess == splat(np.float32(2.0))
    kth = select(one, second, kth)
    larger = select(one, first, larger)
    kth = select(two, third, kth)
    larger = select(two, second, larger)
    if slots == 5:
        three = excess == splat(np.float32(3.0))
        four = excess == splat(np.float32(4.0))
        kth = select(three, fourth, kth)
        larger = select(three, third, larger)
        kth = select(four, fifth, kth)
        larger = select(four, fourth, larger)
    return kth, bits(larger == kth) == 0


@inline
def keep_k(d2s, count, threshold, top_k, ranks):  # type: ignore[no-untyped-def]
    """A threshold that exactly the K smallest d2 of each lane are within (ties: lower index).

    d2s: float32 [count · 16]; those beyond the K are set to inf where a threshold alone can't tell them apart. ranks:
    scratch, float32 [32 · 16].
    """
    zero = splat(np.float32(0.0))
    one = splat(np.float32(1.0))
    inf = splat(np.float32(np.inf))
    within = zero
    for k in range(count):
        within = within + select(load(d2s, k * 16) <= threshold, one, zero)
    excess = int(horizontal_maximum(within)) - top_k
    if excess <= 0:
        return threshold
    if excess <= 2:
        kth, sure = kth_of_largest(d2s, count, threshold, within, top_k, 3)
        if sure:
            return kth
    elif excess <= 4:
        kth, sure = kth_of_largest(d2s, count, threshold, within, top_k, 5)
        if sure:
            return kth
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
    return threshold


@inline
def blend(  # type: ignore[no-untyped-def]
    d2s, slopes, active, count, nearest, features, channels, columns, rule, top_k, is_sum, ranks, out
):
    """The values at 16 points → out, float32 [C · 16].

    d2s: float32 [count · 16], overwritten; slopes: the same of a·u + b·v (``slope``), read if there are more feature
    columns than channels; active: their places in ``features`` (float32 [places · columns]); nearest: the smallest d2
    per lane; rule: float32 R², Q², background, lit.
    """
    zero = splat(np.float32(0.0))
    threshold = splat(rule[0])
    base = zero
    if not is_sum:
        base = nearest
        threshold = minimum(nearest + splat(rule[1]), threshold)
        if count > top_k:
            threshold = keep_k(d2s, count, threshold, top_k, ranks)
    total = zero
    tilt = zero
    one = splat(np.float32(1.0))
    sloped = columns > channels
    if channels == 3:
        first = zero
        second = zero
        third = zero
        for k in range(count):
            d2 = load(d2s, k * 16)
            weight = select(d2 <= threshold, exp_half_negative(d2 - base), zero)
            total = total + weight
            if sloped:
                tilt = muladd(weight, load(slopes, k * 16), tilt)
            i = active[k] * columns
            first = muladd(weight, splat(features[i]), first)
            second = muladd(weight, splat(features[i + 1]), second)
            third = muladd(weight, splat(features[i + 2]), third)
        if sloped:
            first = muladd(splat(rule[5]), tilt, first)
            second = muladd(splat(rule[6]), tilt, second)
            third = muladd(splat(rule[7]), tilt, third)
        share = one / total
        reached = zero < total
        store(out, 0, finish(first, share, reached, rule[2], is_sum))
        store(out, 16, finish(second, share, reached, rule[3], is_sum))
        store(out, 32, finish(third, share, reached, rule[4], is_sum))
        return
    for k in range(count):
        d2 = load(d2s, k * 16)
        weight = select(d2 <= threshold, exp_half_negative(d2 - base), zero)
        total = total + weight
        if sloped:
            tilt = muladd(weight, load(slopes, k * 16), tilt)
        store(d2s, k * 16, weight)
    share = one / total
    reached = zero < total
    for c in range(channels):
        value = zero
        for k in range(count):
            value = muladd(load(d2s, k * 16), splat(features[active[k] * columns + c]), value)
        if sloped:
            value = muladd(splat(rule[2 + channels + c]), tilt, value)
        store(out, c * 16, finish(value, share, reached, rule[2 + c], is_sum))


@inline
def finish(value, share, reached, background, is_sum):  # type: ignore[no-untyped-def]
    """From the weighted sum to the value of a channel; share: 1 / Σ w, at most 1 (the nearest Gaussian weighs 1)."""
    if is_sum:
        return value + splat(background)
    return select(reached, value * share, splat(background))


@inline
def whitened(means, factors, i, x, y):  # type: ignore[no-untyped-def]
    """u and v of spec §7 of Gaussian i at 16 points, int32 units."""
    dx = to_floats(x - splat_int(means[0, i]))
    dy = to_floats(y - splat_int(means[1, i]))
    u = splat(factors[0, i]) * dx + splat(factors[1, i]) * dy
    v = splat(factors[2, i]) * dy
    return u, v


@inline
def squared_distance(means, factors, i, x, y):  # type: ignore[no-untyped-def]
    """d2 of spec §7 of Gaussian i at 16 points, int32 units."""
    u, v = whitened(means, factors, i, x, y)
    return u * u + v * v


@inline
def slope(a, b, u, v):  # type: ignore[no-untyped-def]
    """a·u + b·v, what the gradient primitive adds to a colour (spec §7): the same operations on every path."""
    return muladd(splat(a), u, splat(b) * v)


@inline
def blend_crowd(  # type: ignore[no-untyped-def]
    means, factors, features, members, start, end, x, y, rule, top_k, is_sum, ranks, out
):
    """What ``blend`` does, to the bit, for any number of candidates members[start:end] in memory that does not grow.

    means: int32 [2, n]; factors: float32 [3, n]; features: float32 [n, F]; x, y: 16 points.
    """
    zero = splat(np.float32(0.0))
    one = splat(np.float32(1.0))
    inf = splat(np.float32(np.inf))
    channels = out.size // 16
    sloped = features.shape[1] > channels
    base = zero
    threshold = splat(rule[0])
    kth = inf
    room = zero
    if not is_sum:
        base = inf
        for k in range(start, end):
            base = minimum(base, squared_distance(means, factors, members[k], x, y))
        threshold = minimum(base + splat(rule[1]), threshold)
        for s in range(top_k):
            store(ranks, s * 16, inf)
        for k in range(start, end):
            d2 = squared_distance(means, factors, members[k], x, y)
            d2 = select(d2 <= threshold, d2, inf)
            if bits(d2 < load(ranks, (top_k - 1) * 16)) != 0:
                for s in range(top_k):
                    other = load(ranks, s * 16)
                    store(ranks, s * 16, minimum(d2, other))
                    d2 = maximum(d2, other)
        kth = load(ranks, (top_k - 1) * 16)
        for s in range(top_k):
            room = room + select(load(ranks, s * 16) < kth, zero, one)
    for c in range(channels):
        store(out, c * 16, zero)
    total = zero
    tilt = zero
    for k in range(start, end):
        u, v = whitened(means, factors, members[k], x, y)
        d2 = u * u + v * v
        tie = (d2 == kth) & (zero < room)
        room = room - select(tie, one, zero)
        counts = (d2 <= threshold) & ((d2 < kth) | tie)
        if bits(counts) != 0:
            weight = select(counts, exp_half_negative(d2 - base), zero)
            total = total + weight
            if sloped:
                a, b = features[members[k], channels], features[members[k], channels + 1]
                tilt = muladd(weight, slope(a, b, u, v), tilt)
            for c in range(channels):
                store(out, c * 16, muladd(weight, splat(features[members[k], c]), load(out, c * 16)))
    share = one / total
    reached = zero < total
    for c in range(channels):
        value = load(out, c * 16)
        if sloped:
            value = muladd(splat(rule[2 + channels + c]), tilt, value)
        store(out, c * 16, finish(value, share, reached, rule[2 + c], is_sum))
