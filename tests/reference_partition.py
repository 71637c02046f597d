"""Slow twins of the kernels in format/partition_kernels.py, on NumPy and lists."""

from __future__ import annotations

import numpy as np

from igs.format.partition_kernels import REGION

F64 = np.ndarray
Ints = np.ndarray


def likely_reference(low: F64, high: F64) -> F64:
    """How likely a region of REGION placed at random meets the boxes; low, high: [..., 2] as shares of the picture."""
    span = np.minimum(high, 1.0) - np.maximum(low - REGION, 0.0)
    return np.clip(span / (1.0 - REGION), 0.0, 1.0).prod(axis=-1)


def best_cut_reference(boxes: F64, orders: Ints, least: int) -> tuple[float, int, int]:
    """See ``best_cut``."""
    n = len(boxes)
    best = (-np.inf, 0, least)
    places = np.arange(least, n - least + 1)
    whole = n * likely_reference(boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0))
    for key, order in enumerate(orders):
        lo, hi = boxes[order, :2], boxes[order, 2:]
        left = likely_reference(np.minimum.accumulate(lo), np.maximum.accumulate(hi))
        right = likely_reference(np.minimum.accumulate(lo[::-1]), np.maximum.accumulate(hi[::-1]))[::-1]
        cost = places * left[places - 1] + (n - places) * right[places % n]
        k = int(cost.argmin())
        if whole - cost[k] > best[0]:
            best = (whole - cost[k], key, int(places[k]))
    return best


def refine_reference(low: F64, high: F64, owner: Ints, chunks: int, rounds: int, smallest: int, largest: int) -> None:
    """See ``refine``."""
    for _ in range(rounds):
        members = [np.flatnonzero(owner == k).tolist() for k in range(chunks)]
        moved = False

        def box(mine: list[int]) -> tuple[F64, F64]:
            return low[mine].min(axis=0), high[mine].max(axis=0)

        for k in range(chunks):
            for side in range(4):
                mine = members[k]
                if len(mine) <= smallest:
                    break
                at = int(low[mine, side].argmin()) if side < 2 else int(high[mine, side - 2].argmax())
                who, rest = mine[at], mine[:at] + mine[at + 1 :]
                saved = len(mine) * likely_reference(*box(mine)) - len(rest) * likely_reference(*box(rest))
                costs = np.full(chunks, np.inf)
                for other in range(chunks):
                    count = len(members[other])
                    if other != k and 0 < count < largest:
                        enlarged = likely_reference(*box([*members[other], who]))
                        costs[other] = (count + 1) * enlarged - count * likely_reference(*box(members[other]))
                to = int(costs.argmin())
                if saved - costs[to] <= 1e-9:
                    continue
                members[k], members[to] = rest, [*members[to], who]
                moved = True
        for k, mine in enumerate(members):
            owner[mine] = k
        chance = np.array([likely_reference(*box(mine)) if mine else np.inf for mine in members])
        better = owner.copy()
        for i in range(len(owner)):
            fits = [
                bool(mine) and bool((low[i] >= box(mine)[0]).all() and (high[i] <= box(mine)[1]).all())
                for mine in members
            ]
            cost = np.where(fits, chance, np.inf)
            if chance[owner[i]] - cost.min() > 1e-12:
                better[i] = cost.argmin()
        if not moved and (better == owner).all():
            return
        owner[:] = better
