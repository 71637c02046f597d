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

MIN_CHUNK = 8
MAX_CHUNK = 4096  # a chunk is the least that a reader can fetch and hold
FINE = 16384  # members up to which all keys are tried
SMALL_FILE = 2**16  # bytes up to which the head is kept within SMALL_HEAD of the file
SMALL_HEAD = 0.02
LARGE_HEAD = 0.024
REFINE_ROUNDS = 6  # a seventh moves hardly anything
REFINE_PAIRS = 2**32  # of Gaussians and chunks: most of a minute at some 10 ns each


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
    """Group Gaussians by their boxes of reach, float64 [n, 4] in pixels.

    About O(n log² n) time, and O(n · chunks) for a last improvement where that is affordable.

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
    if chunk_size is None and 1 < len(order) <= REFINE_PAIRS // len(boxes):
        order = _refine(order, clipped)
    return np.concatenate(order), [len(members) for members in order]


def _refine(chunks: list[Order], boxes: F64) -> list[Order]:
    """Move Gaussians to chunks where they cost a reader less: those that alone hold a side of their chunk's box, and
    those that fit into the smaller box of another chunk. The cuts, which only ever see one group, can't find these.
    """
    from igs.format import partition_kernels  # Numba loads with it

    owner = np.empty(len(boxes), np.int64)
    for k, members in enumerate(chunks):
        owner[members] = k
    low, high = boxes[:, :2].copy(), boxes[:, 2:].copy()
    partition_kernels.refine(low, high, owner, len(chunks), REFINE_ROUNDS, MIN_CHUNK, MAX_CHUNK)
    ends = np.cumsum(np.bincount(owner, minlength=len(chunks)))
    return [members for members in np.split(np.argsort(owner, kind="stable"), ends[:-1]) if len(members)]


def _best_cut(members: Order, boxes: F64, bytes_per_gaussian: float, least: int) -> _Cut:
    """The cut that saves the most bytes per read among all places along nine keys, three for large groups."""
    from igs.format import partition_kernels  # Numba loads with it

    n = len(members)
    own = boxes[members]
    low, high = own[:, :2], own[:, 2:]
    center, side = low + high, high - low
    # No tiny slices of large groups: the depth of the tree, and the time, stay bounded.
    least = max(least, n // 32 if n > MAX_CHUNK else 0)
    keys = [*center.T, side.max(axis=1)]
    if n <= FINE:
        keys += [*side.T, *own.T]
    orders = np.argsort(keys, axis=1, kind="stable")
    saved, key, at = partition_kernels.best_cut(own, orders, least)
    return _Cut(bytes_per_gaussian * saved, members[orders[key]], at)
