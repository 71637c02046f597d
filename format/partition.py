"""Grouping a level's Gaussians into chunks (spec §4, §5): the writer's free choice, made to keep small reads small.

A tree over the boxes of reach, grown best first as in the surface-area heuristic of ray tracing: a group is cut in two
where that saves the most bytes for a reader of a small region, along its Gaussians' centres, sides or extents, and only
while the saving is more than the index entry that every reader then has to fetch. Far-reaching Gaussians thereby end up
in groups of their own and do not stretch the boxes of local ones. No chunk size has to be chosen.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igs.format.fields import ENTRY_BYTES

F64 = NDArray[np.float64]
Order = NDArray[np.intp]

REGION = 0.01  # side of the region tuned for, as a share of the picture's: between one pixel and 1 % of the area
MIN_CHUNK = 8
MAX_CHUNK = 4096  # a chunk is the least that a reader can fetch and hold
FINE = 16384  # members up to which all keys are tried
SMALL_FILE = 2**16  # bytes up to which the head is kept within SMALL_HEAD of the file
SMALL_HEAD = 0.02
LARGE_HEAD = 0.024
REFINE_ROUNDS = 6  # a seventh moves hardly anything


def max_chunks(num_gaussians: int, bits_per_gaussian: float, head_rest: int) -> int:
    """How many chunks the head's share of the file allows. head_rest: bytes of the head without the index."""
    payload = num_gaussians * bits_per_gaussian / 8
    share = SMALL_HEAD if payload <= SMALL_FILE else LARGE_HEAD
    return max(1, int((share * payload - head_rest) / ((1 - share) * ENTRY_BYTES)))


class _Cut(NamedTuple):
    """The best way to cut a group in two: members in the order of the key, and how many go left."""

    saving: float  # bytes per read
    ranked: Order
    at: int


def partition(
    boxes: F64,
    width: int,
    height: int,
    bytes_per_gaussian: float,
    chunk_size: int | None = None,
    chunk_limit: int | None = None,
) -> tuple[Order, list[int]]:
    """Group Gaussians by their boxes of reach, float64 [n, 4] in pixels. About O(n log² n) time.

    chunk_size: cut until no chunk is larger, and no further; None: until a cut no longer pays or there are chunk_limit.
    Returns the order of the Gaussians and the sizes of the successive chunks; within a chunk the order given is kept.
    """
    size = np.array([width, height], np.float64)
    # Beyond the picture nothing is read, so a box counts as far as it covers the picture.
    clipped = np.clip(boxes / np.tile(size, 2), 0.0, 1.0)
    largest = MAX_CHUNK if chunk_size is None else chunk_size
    groups: dict[int, tuple[int, int]] = {}  # inner node → its two parts
    leaves: dict[int, Order] = {0: np.arange(len(boxes))}
    queue: list[tuple[float, int, _Cut]] = []
    last = 0

    def consider(node: int) -> None:
        members = leaves[node]
        must = len(members) > largest
        if must or (chunk_size is None and len(members) >= 2 * MIN_CHUNK):
            least = MIN_CHUNK
            if chunk_size is not None:  # cuts are due anyway: not into tiny chunks, nor peeling off one by one
                least = max(1, len(members) // (4 if len(members) <= 4 * chunk_size else 32))
            cut = _best_cut(members, clipped, bytes_per_gaussian, least)
            if must or cut.saving > ENTRY_BYTES:
                heapq.heappush(queue, (-np.inf if must else -cut.saving, node, cut))

    consider(0)
    while queue:
        priority, node, cut = heapq.heappop(queue)
        if priority != -np.inf and chunk_limit is not None and len(leaves) >= chunk_limit:
            break
        del leaves[node]
        groups[node] = (last + 1, last + 2)
        for part in (cut.ranked[: cut.at], cut.ranked[cut.at :]):
            last += 1
            leaves[last] = np.sort(part)
            consider(last)

    order, stack = [], [0]
    while stack:  # leaves from left to right: neighbours in the tree are neighbours in the file
        node = stack.pop()
        if node in groups:
            stack += reversed(groups[node])
        else:
            order.append(leaves[node])
    if chunk_size is None and len(order) > 1:
        order = _refine(order, clipped)
    return np.concatenate(order), [len(members) for members in order]


def _refine(chunks: list[Order], boxes: F64) -> list[Order]:
    """Move Gaussians to chunks where they cost a reader less: those that alone hold a side of their chunk's box, and
    those that fit into the smaller box of another chunk. The cuts, which only ever see one group, can't find these.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    members = [list(c) for c in chunks]
    count = np.array([float(len(m)) for m in members])
    lo = np.array([low[m].min(axis=0) for m in members])
    hi = np.array([high[m].max(axis=0) for m in members])
    chance = _chance(lo, hi)
    for _ in range(REFINE_ROUNDS):
        moved = False
        for k in range(len(members)):
            for side in range(4):
                mine = members[k]
                if len(mine) <= MIN_CHUNK:
                    break
                at = int(low[mine, side].argmin()) if side < 2 else int(high[mine, side - 2].argmax())
                who, rest = mine[at], mine[:at] + mine[at + 1 :]
                rest_lo, rest_hi = low[rest].min(axis=0), high[rest].max(axis=0)
                rest_chance = _chance(rest_lo, rest_hi)
                saved = count[k] * chance[k] - (count[k] - 1) * rest_chance
                others = (count > 0) & (count < MAX_CHUNK)
                others[k] = False
                cost = (count + 1) * _chance(np.minimum(lo, low[who]), np.maximum(hi, high[who]))
                np.subtract(cost, count * np.where(others, chance, 0.0), out=cost)
                cost[~others] = np.inf
                to = int(cost.argmin())
                if saved - cost[to] <= 1e-9:
                    continue
                members[k] = rest
                members[to].append(who)
                count[k] -= 1
                count[to] += 1
                lo[k], hi[k], chance[k] = rest_lo, rest_hi, rest_chance
                lo[to], hi[to] = np.minimum(lo[to], low[who]), np.maximum(hi[to], high[who])
                chance[to] = _chance(lo[to], hi[to])
                moved = True
        owner = np.empty(len(boxes), np.intp)
        for k, mine in enumerate(members):
            owner[mine] = k
        better = _smaller_boxes(low, high, lo, hi, chance, owner)
        if not moved and (better == owner).all():
            break
        ranks = np.argsort(better, kind="stable")
        count = np.bincount(better, minlength=len(members)).astype(np.float64)
        members = [list(m) for m in np.split(ranks, np.cumsum(count.astype(np.intp))[:-1])]
        for k, mine in enumerate(members):
            if mine:
                lo[k], hi[k] = low[mine].min(axis=0), high[mine].max(axis=0)
            else:  # nothing fits into it any more
                lo[k], hi[k] = np.inf, np.inf
        chance = np.where(count > 0, _chance(lo, hi), np.inf)
    return [np.sort(np.array(m)) for m in members if m]


def _smaller_boxes(low: F64, high: F64, lo: F64, hi: F64, chance: F64, owner: Order) -> Order:
    """For each Gaussian the chunk with the least likely box that holds it: its own, unless another is better."""
    best = owner.copy()
    block = max(1, 2_000_000 // len(lo))
    for start in range(0, len(low), block):
        part = slice(start, start + block)
        inside = np.ones((len(low[part]), len(lo)), bool)
        for axis in (0, 1):  # a reduction over two elements would take ten times as long
            inside &= low[part, axis, None] >= lo[:, axis]
            inside &= high[part, axis, None] <= hi[:, axis]
        cost = np.where(inside, chance, np.inf)
        to = cost.argmin(axis=1)
        gain = chance[owner[part]] - cost[np.arange(len(to)), to]
        best[part] = np.where(gain > 1e-12, to, owner[part])
    return best


def _best_cut(members: Order, boxes: F64, bytes_per_gaussian: float, least: int) -> _Cut:
    """The cut that saves the most bytes per read among all places along nine keys, three for large groups."""
    n = len(members)
    own = boxes[members]
    low, high = own[:, :2], own[:, 2:]
    center, side = low + high, high - low
    # No tiny slices of large groups: the depth of the tree, and the time, stay bounded.
    least = max(least, n // 32 if n > MAX_CHUNK else 0)
    places = np.arange(least, n - least + 1)
    best: _Cut | None = None
    whole = n * _chance(low.min(axis=0), high.max(axis=0))
    keys = (*center.T, side.max(axis=1))
    if n <= FINE:
        keys += (*side.T, *own.T)
    for key in keys:
        ranks = np.argsort(key, kind="stable")
        lo, hi = low[ranks], high[ranks]
        left = _chance(np.minimum.accumulate(lo), np.maximum.accumulate(hi))
        right = _chance(np.minimum.accumulate(lo[::-1]), np.maximum.accumulate(hi[::-1]))[::-1]
        cost = places * left[places - 1] + (n - places) * right[places % n]
        k = int(cost.argmin())
        saving = bytes_per_gaussian * float(whole - cost[k])
        if best is None or saving > best.saving:
            best = _Cut(saving, members[ranks], int(places[k]))
    assert best is not None
    return best


def _chance(low: F64, high: F64) -> F64:
    """How likely a region of REGION placed at random meets the boxes; low, high: [..., 2] as shares of the picture."""
    span = np.minimum(high, 1.0) - np.maximum(low - REGION, 0.0)
    return np.asarray(np.clip(span / (1.0 - REGION), 0.0, 1.0).prod(axis=-1))
