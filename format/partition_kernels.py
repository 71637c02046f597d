"""The loops of ``partition.py`` over Gaussians and chunks. Importing this loads Numba."""

from __future__ import annotations

import numpy as np

from igs.format.jit import OPTIONS, inline, kernels

REGION = 0.01  # side of the region tuned for, as a share of the picture's: between one pixel and 1 % of the area

kernel = kernels(__file__, flags=OPTIONS)


@inline
def likely(x0, y0, x1, y1):  # type: ignore[no-untyped-def]
    """How likely a region of REGION placed at random meets a box; shares of the picture."""
    across = (min(x1, 1.0) - max(x0 - REGION, 0.0)) / (1.0 - REGION)
    down = (min(y1, 1.0) - max(y0 - REGION, 0.0)) / (1.0 - REGION)
    return min(max(across, 0.0), 1.0) * min(max(down, 0.0), 1.0)


@kernel
def best_cut(boxes, orders, least):  # type: ignore[no-untyped-def]
    """The cheapest cut of a group in two: → (number of members times likelihood saved, which order, how many go left).

    boxes: float64 [n, 4]; orders: int64 [keys, n], members by rising key; least: of members on either side.
    """
    keys, n = orders.shape
    left = np.empty(n, np.float64)
    least_cost, key, at = np.inf, 0, least
    whole = 0.0
    for k in range(keys):
        x0, y0, x1, y1 = np.inf, np.inf, -np.inf, -np.inf
        for i in range(n):
            m = orders[k, i]
            x0, y0 = min(x0, boxes[m, 0]), min(y0, boxes[m, 1])
            x1, y1 = max(x1, boxes[m, 2]), max(y1, boxes[m, 3])
            left[i] = likely(x0, y0, x1, y1)
        whole = n * left[n - 1]
        x0, y0, x1, y1 = np.inf, np.inf, -np.inf, -np.inf
        found, place = np.inf, least
        for i in range(n - 1, least - 1, -1):  # of equal ones the first place counts: it comes last
            m = orders[k, i]
            x0, y0 = min(x0, boxes[m, 0]), min(y0, boxes[m, 1])
            x1, y1 = max(x1, boxes[m, 2]), max(y1, boxes[m, 3])
            if i <= n - least:
                cost = i * left[i - 1] + (n - i) * likely(x0, y0, x1, y1)
                if cost <= found:
                    found, place = cost, i
        if found < least_cost:
            least_cost, key, at = found, k, place
    return whole - least_cost, key, at


@kernel
def refine(low, high, owner, chunks, rounds, smallest, largest):  # type: ignore[no-untyped-def]
    """Move Gaussians among chunks, ``owner`` (int64 [n], changed), for so many rounds or until none moves.

    First those that alone hold a side of their chunk's box go where they cost less, then all into the least likely box
    that holds them. low, high: float64 [n, 2]. smallest, largest: members that a chunk keeps, and may have.
    """
    n = len(owner)
    # A chunk's members are a list in rising order; −1 stands at its ends.
    before, after = np.empty(n, np.int64), np.empty(n, np.int64)
    first, last = np.empty(chunks, np.int64), np.empty(chunks, np.int64)
    count, chance = np.empty(chunks, np.int64), np.empty(chunks, np.float64)
    lo, hi = np.empty((chunks, 2), np.float64), np.empty((chunks, 2), np.float64)
    for _ in range(rounds):
        first[:], last[:], count[:] = -1, -1, 0
        lo[:], hi[:] = np.inf, -np.inf
        for m in range(n):
            k = owner[m]
            before[m], after[m] = last[k], -1
            if last[k] >= 0:
                after[last[k]] = m
            else:
                first[k] = m
            last[k] = m
            count[k] += 1
            _widen(lo, hi, k, low, high, m)
        for k in range(chunks):
            # Nothing fits into a box that is empty.
            chance[k] = likely(lo[k, 0], lo[k, 1], hi[k, 0], hi[k, 1]) if count[k] else np.inf
        changed = False
        for k in range(chunks):
            for side in range(4):
                if count[k] <= smallest:
                    break
                who, m = first[k], after[first[k]]
                while m >= 0:
                    if (low[m, side] < low[who, side]) if side < 2 else (high[m, side - 2] > high[who, side - 2]):
                        who = m
                    m = after[m]
                x0, y0, x1, y1 = np.inf, np.inf, -np.inf, -np.inf
                m = first[k]
                while m >= 0:
                    if m != who:
                        x0, y0 = min(x0, low[m, 0]), min(y0, low[m, 1])
                        x1, y1 = max(x1, high[m, 0]), max(y1, high[m, 1])
                    m = after[m]
                rest = likely(x0, y0, x1, y1)
                saved = count[k] * chance[k] - (count[k] - 1) * rest
                to, cost = _cheapest(low[who], high[who], k, count, lo, hi, chance, largest)
                if saved - cost <= 1e-9:
                    continue
                if before[who] >= 0:
                    after[before[who]] = after[who]
                else:
                    first[k] = after[who]
                if after[who] >= 0:
                    before[after[who]] = before[who]
                else:
                    last[k] = before[who]
                before[who], after[who] = last[to], -1
                after[last[to]] = who
                last[to], owner[who] = who, to
                count[k] -= 1
                count[to] += 1
                lo[k, 0], lo[k, 1], hi[k, 0], hi[k, 1], chance[k] = x0, y0, x1, y1, rest
                _widen(lo, hi, to, low, high, who)
                chance[to] = likely(lo[to, 0], lo[to, 1], hi[to, 0], hi[to, 1])
                changed = True
        for m in range(n):
            best, least = owner[m], np.inf
            for k in range(chunks):
                if chance[k] < least and (
                    low[m, 0] >= lo[k, 0]
                    and low[m, 1] >= lo[k, 1]
                    and high[m, 0] <= hi[k, 0]
                    and high[m, 1] <= hi[k, 1]
                ):
                    best, least = k, chance[k]
            if chance[owner[m]] - least > 1e-12:
                owner[m] = best
                changed = True
        if not changed:
            break


@inline
def _widen(lo, hi, k, low, high, m):  # type: ignore[no-untyped-def]
    """Let a chunk's box hold a member."""
    lo[k, 0], lo[k, 1] = min(lo[k, 0], low[m, 0]), min(lo[k, 1], low[m, 1])
    hi[k, 0], hi[k, 1] = max(hi[k, 0], high[m, 0]), max(hi[k, 1], high[m, 1])


@inline
def _cheapest(own_low, own_high, k, count, lo, hi, chance, largest):  # type: ignore[no-untyped-def]
    """The other chunk to which a member adds the least, and how much; −1 and infinity where there is none."""
    to, cost = -1, np.inf
    for other in range(len(count)):
        if other != k and 0 < count[other] < largest:
            x0, y0 = min(lo[other, 0], own_low[0]), min(lo[other, 1], own_low[1])
            x1, y1 = max(hi[other, 0], own_high[0]), max(hi[other, 1], own_high[1])
            more = (count[other] + 1) * likely(x0, y0, x1, y1) - count[other] * chance[other]
            if more < cost:
                to, cost = other, more
    return to, cost
