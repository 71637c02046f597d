"""Kernels that group Gaussians into chunks, against their slow twins, and what the groups are good for."""

from __future__ import annotations

import numpy as np
import pytest
from reference_partition import best_cut_reference, likely_reference, refine_reference

from igs.format import partition_kernels
from igs.format.fields import ENTRY_BYTES
from igs.format.partition import MIN_CHUNK, partition


def boxes_of(n: int, seed: int, spread: float = 3.0) -> np.ndarray:
    """n boxes of a picture of 1 × 1, in part beyond it, in few distinct places: many are equal in one side."""
    rng = np.random.default_rng(seed)
    centre = np.round(rng.uniform(0, 1, (n, 2)), 2)
    size = 0.004 * np.round(np.exp(rng.uniform(0, spread, (n, 2))))
    return np.clip(np.concatenate([centre - size, centre + size], axis=1), 0, 1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n", "least"), [(2, 1), (16, 8), (17, 8), (150, 1), (300, 60)])
def test_the_best_cut_is_the_twins(n, least, seed):
    boxes = boxes_of(n, seed)
    keys = [boxes[:, 0] + boxes[:, 2], boxes[:, 1], boxes[:, 3] - boxes[:, 1]]
    orders = np.argsort(keys, axis=1, kind="stable")
    assert partition_kernels.best_cut(boxes, orders, least) == best_cut_reference(boxes, orders, least)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n", "chunks", "largest"), [(40, 2, 4096), (120, 7, 4096), (120, 7, 20), (90, 30, 8)])
def test_moves_are_the_twins(n, chunks, largest, seed):
    boxes = boxes_of(n, seed)
    low, high = boxes[:, :2].copy(), boxes[:, 2:].copy()
    found = np.random.default_rng(seed).integers(0, chunks, n)
    expected, before = found.copy(), found.copy()
    partition_kernels.refine(low, high, found, chunks, 6, 3, largest)
    refine_reference(low, high, expected, chunks, 6, 3, largest)
    assert (found != before).any()
    assert np.array_equal(found, expected)


def bytes_per_read(boxes: np.ndarray, order: np.ndarray, sizes: list[int], each: float) -> float:
    """Payload and index that a reader of a small region fetches, on the mean."""
    starts = np.cumsum(sizes) - sizes
    low = np.minimum.reduceat(boxes[order, :2], starts)
    high = np.maximum.reduceat(boxes[order, 2:], starts)
    return float((np.array(sizes) * likely_reference(low, high)).sum() * each + ENTRY_BYTES * len(sizes))


def test_chunks_are_worth_their_index():
    boxes = boxes_of(1500, 1)
    order, sizes = partition(boxes, 1, 1, 5.0)
    assert sorted(order.tolist()) == list(range(1500))
    assert min(sizes) >= MIN_CHUNK // 2
    one = bytes_per_read(boxes, np.arange(1500), [1500], 5.0)
    strips = np.argsort(boxes[:, 1], kind="stable")
    in_strips = bytes_per_read(boxes, strips, [50] * 30, 5.0)
    found = bytes_per_read(boxes, order, sizes, 5.0)
    assert found < 0.5 * one
    assert found < 0.7 * in_strips


def test_what_would_take_for_ever_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 900, (3000, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 90, (3000, 2))], axis=1)
    refined = partition(boxes, 1000, 1000, 5.0)
    monkeypatch.setattr("igs.format.partition.REFINE_PAIRS", 0)
    order, sizes = partition(boxes, 1000, 1000, 5.0)
    assert sorted(order.tolist()) == list(range(3000))
    assert sum(sizes) == 3000
    assert not np.array_equal(order, refined[0])
