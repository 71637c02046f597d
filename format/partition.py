"""Grouping a level's Gaussians into chunks (spec §4, §5): the writer's free choice, made to keep regions cheap to read.

A greedy tree over the boxes of reach: each node's Gaussians are split in two, either halved by mean along x or y, or the
far-reaching few taken apart from the local ones, whichever leaves the least to read for a small region. Long Gaussians
thereby end up together, and do not stretch the boxes of the short ones. Leaves in order of the tree, so that neighbours
in the file are neighbours in the picture.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Order = NDArray[np.intp]

MIN_CHUNK, MAX_CHUNK = 64, 1024
REGION = 0.1  # side of the region that the split is tuned for, as a share of the picture's: 1 % of its area
APART = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)  # shares of the farthest-reaching that may be taken apart


def automatic_chunk_size(num_gaussians: int, bits_per_gaussian: int, head_rest: int) -> int:
    """Gaussians per chunk: about the square root of their number, within a head of 2 % of a small file.

    The index costs 24·N/size bytes for every reader, the chunks at a point cost a few times ``size``: the sum is least
    where size grows as √N. head_rest: bytes of the head without the index.
    """
    size = min(max(round(0.75 * math.sqrt(num_gaussians)), MIN_CHUNK), MAX_CHUNK)
    payload = num_gaussians * bits_per_gaussian / 8
    entries = max(1.0, (0.02 * (payload + head_rest) - head_rest) / 24)
    if payload < 2**15:
        size = max(size, math.ceil(num_gaussians / entries))
    return size


def partition(boxes: F64, chunk_size: int, width: int, height: int) -> tuple[Order, list[int]]:
    """Group Gaussians by their boxes of reach [n, 4] (pixels) into chunks of at most ``chunk_size``, nearly equal ones.

    Returns the order of the Gaussians and the sizes of the successive chunks. O(n log² n) time.
    """
    num_chunks = -(-len(boxes) // chunk_size)
    # Beyond the picture nothing is read, so boxes count only as far as they cover it.
    low, high = np.zeros(4), np.array([width, height, width, height], np.float64)
    clipped = np.clip(boxes, low, high)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    extent = ((boxes[:, 2:] - boxes[:, :2]) / np.array([width, height])).max(axis=1)
    keys = np.stack([center[:, 0], center[:, 1], extent], axis=1)
    region = np.array([width, height]) * REGION

    order: list[Order] = []
    sizes: list[int] = []
    stack: list[tuple[Order, int]] = [(np.arange(len(boxes)), num_chunks)]
    while stack:
        members, chunks = stack.pop()
        if chunks == 1:
            order.append(np.sort(members))
            sizes.append(len(members))
            continue
        left, right, left_chunks = _split(members, chunks, clipped, keys, region)
        stack.append((right, chunks - left_chunks))
        stack.append((left, left_chunks))
    return np.concatenate(order), sizes


def _split(members: Order, chunks: int, boxes: F64, keys: F64, region: F64) -> tuple[Order, Order, int]:
    """The best of the possible splits: members of both sides, and how many chunks the first becomes."""
    best: tuple[float, Order, int, int] | None = None
    n = len(members)
    for axis in range(3):
        ranked = members[np.argsort(keys[members, axis], kind="stable")]
        counts = {chunks // 2} if axis < 2 else {chunks - max(1, round(chunks * share)) for share in APART}
        ranked_boxes = boxes[ranked]
        for left_chunks in sorted(counts):
            if not 1 <= left_chunks < chunks:
                continue
            at = n * left_chunks // chunks
            cost = 0.0
            for part, k in ((ranked_boxes[:at], left_chunks), (ranked_boxes[at:], chunks - left_chunks)):
                cost += len(part) * _cost(part, k, region)
            if best is None or cost < best[0]:
                best = (cost, ranked, at, left_chunks)
    assert best is not None
    _, ranked, at, left_chunks = best
    return ranked[:at], ranked[at:], left_chunks


def _cost(boxes: F64, chunks: int, region: F64) -> float:
    """Expected share read of a part that will be split into ``chunks``: its area per chunk, grown by reach and region."""
    span = boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)
    side = (boxes[:, 2:] - boxes[:, :2]).max(axis=0)
    inner = np.maximum(span - side, 0) / math.sqrt(chunks)
    return float(np.prod(inner + side + region))
