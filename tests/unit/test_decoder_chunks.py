"""Which chunks points need, and that they are read at once; as many channels as there may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import igs
from igs.decoder.points import chunks_needed
from igs.decoder.sample import Cells
from igs.decoder.store import Store
from igs.format import Codec, Group, Header, Primitive, Quantizer, quantize, write

SIDE = 64


def header(channels: int = 3, **fields: Any) -> Header:
    features = channels + 2 * (fields.get("primitive") == Primitive.GRADIENT)
    return Header(
        width=SIDE, height=SIDE, channels=channels, groups=(Group(channels=channels),), background=(0.0,) * channels,
        position=Quantizer.uniform([0, 0], [SIDE, SIDE], 12), scale=Quantizer.uniform([-2, -2], [6, 6], 8),
        rotation=Quantizer.uniform([0], [1], 8), feature=Quantizer.uniform([0] * features, [1] * features, 8), **fields,
    )  # fmt: skip


def codes(of: Header, n: int, scale: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    features = len(of.feature.lo)
    return quantize(
        of, rng.uniform(0, SIDE, (n, 2)), np.full((n, 2), scale), np.zeros((n, 1)), rng.random((n, features))
    )


def test_as_many_channels_as_there_may_be_with_slopes() -> None:
    of = header(64, primitive=Primitive.GRADIENT)
    with igs.open(write(of, [codes(of, 5, 2.0)])) as image:
        assert image.pixel(3, 4).shape == (64,)


def test_the_chunks_at_a_point_are_loaded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    of = header()
    data = write(of, [[row[None] for row in codes(of, 300, 5.0)]], codec=Codec.RAW)  # each reaches half of the picture
    calls: list[int] = []
    load = Store.load
    monkeypatch.setattr(Store, "load", lambda self, chunks: (calls.append(len(chunks)), load(self, chunks))[1])
    with igs.open(data) as image, igs.open(data) as other:
        assert len(other.levels) == 1
        value = image.pixel(30, 30)
        assert len(calls) == 1
        assert 50 < calls[0] <= 300
        before = image.bytes_read
        image.pixel(30, 30)
        assert (len(calls), image.bytes_read) == (1, before)
        np.testing.assert_allclose(value, other.decode(dtype="float32")[30, 30], atol=1e-6)


@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0])
def test_chunks_needed_are_those_with_a_point_in_their_box(spread: float) -> None:
    """Whatever the grid: also of boxes that are open, unknown, beyond it or smaller than a cell."""
    rng = np.random.default_rng(1)
    points = (rng.normal(0.5, spread, (2, 3000)) * SIDE * 2**14).astype(np.int32)
    low = rng.uniform(-3, 4, (2, 400)) * SIDE
    size = rng.choice([0.0, 0.01, 1.0, 30.0, 500.0], (2, 400))
    boxes = np.concatenate([low, low + size])
    boxes[:, :3] = np.nan
    boxes[0, 3:9], boxes[3, 6:12] = -np.inf, np.inf
    cells = Cells(points[0], points[1], SIDE << 14, SIDE << 14, 5000)
    found = chunks_needed(cells.starts, cells.ordered, cells.bounds, cells.grid, boxes)
    x, y = (axis[:, None] / 2**14 for axis in points)
    expected = ((boxes[0] <= x) & (x <= boxes[2]) & (boxes[1] <= y) & (y <= boxes[3])).any(0)
    np.testing.assert_array_equal(found, expected)
    assert 0.02 < expected.mean() < 0.98
