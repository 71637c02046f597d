"""Vector primitives of the kernels, and that the compiler fused nothing that decides who counts."""

from __future__ import annotations

import numpy as np
import pytest

from igs.decoder.convert import to_unsigned
from igs.decoder.grid import make_grid, output_size
from igs.decoder.jit import kernel
from igs.decoder.simd import exp_half_negative, load, splat_int, store, to_floats
from igs.format.errors import UsageError


@kernel
def _weights(values, out):
    for i in range(0, len(values), 16):
        store(out, i, exp_half_negative(load(values, i)))


@kernel
def _squared(x, means, p, q, y, d2):
    for i in range(0, len(d2), 16):
        dx = to_floats(splat_int(x) - load(means, i))
        u = load(p, i) * dx + load(q, i) * load(y, i)
        store(d2, i, u * u + load(y, i) * load(y, i))


def test_exponential():
    values = np.concatenate([np.linspace(0, 60, 1 << 16), [0.0] * 15 + [3e38], np.linspace(160, 4000, 16)])
    values = values.astype(np.float32)
    out = np.empty_like(values)
    _weights(values, out)
    exact = np.exp(-0.5 * values.astype(np.float64))
    normal = exact > 2.0**-120
    # Measured: 2.6e-7, of which the rounding of the argument is most where it is large.
    error = np.abs(out[normal] / exact[normal] - 1)
    assert error.max() <= 4e-6
    assert error[values[normal] < 18].max() <= 1e-6
    assert (out[values == 0] == 1).all()
    assert (out > 0).all()
    assert out[~normal].max() <= 2.0**-119


def test_no_contraction():
    rng = np.random.default_rng(0)
    n = 1 << 14
    means = rng.integers(-(1 << 30), 1 << 30, n).astype(np.int32)
    p, q = rng.normal(0, 1e-3, (2, n)).astype(np.float32)
    y = rng.normal(0, 1e5, n).astype(np.float32)
    d2 = np.empty(n, np.float32)
    x = np.int32(123456789)
    _squared(x, means, p, q, y, d2)
    dx = (np.int64(x) - means).astype(np.float32)
    u = p * dx + q * y
    expected = u * u + y * y
    assert np.array_equal(d2, expected)
    # The test would notice: fused, some of these differ.
    fused = (p.astype(np.float64) * dx + (q * y).astype(np.float64)).astype(np.float32)
    assert (fused != u).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_round_half_up_and_clip(dtype):
    top = np.iinfo(dtype).max
    values = np.array([-1, -0.0, 0, 0.5 / top, np.nextafter(np.float32(0.5 / top), np.float32(0)), 0.5, 1, 1.5, np.inf])
    values = np.append(values, [-np.inf, np.nan]).astype(np.float32)
    out = np.empty(len(values), dtype)
    to_unsigned(values, out)
    assert out[:3].tolist() == [0, 0, 0]
    assert out[3] == int(np.float32(values[3] * np.float32(top)) + np.float32(0.5))
    assert out[5] == (top + 1) // 2
    assert out[6:].tolist() == [top, top, top, 0, 0]


def test_every_code_comes_back():
    for dtype in (np.uint8, np.uint16):
        codes = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
        out = np.empty_like(codes)
        to_unsigned((codes / np.float64(np.iinfo(dtype).max)).astype(np.float32), out)
        assert np.array_equal(out, codes)


@pytest.mark.parametrize(
    ("length", "scale", "samples"),
    [(100, 1, 100), (100, 0.5, 50), (101, 0.5, 51), (1, 0.1, 1), (10, 0.25, 3), (3, 1.5, 5)],
)
def test_output_size(length, scale, samples):
    assert output_size(length, scale) == samples


def test_grid_in_units():
    grid = make_grid(2, 3, 4, 2, 2.0, 10, 10)
    assert (grid.columns, grid.rows, grid.reduction) == (8, 4, 1)
    assert np.array_equal(grid.xs / 2**14, 2.25 + 0.5 * np.arange(8))
    assert np.array_equal(grid.ys / 2**14, 3.25 + 0.5 * np.arange(4))
    half = make_grid(0, 0, 10, 10, 0.5, 10, 10)
    assert half.reduction == 2
    assert np.array_equal(half.xs / 2**14, 0.5 + np.arange(10))


def test_grid_bounds():
    assert make_grid(0, 0, 1, 1, 2.0**20, 1, 1).columns == 2**20
    with pytest.raises(UsageError, match="scale"):
        make_grid(0, 0, 1, 1, 2.0**21, 1, 1)
    assert make_grid(0, 0, 1, 1, 1 / 1024, 1, 1).reduction == 1024
    with pytest.raises(UsageError, match="scale"):
        make_grid(0, 0, 1, 1, 1 / 1025, 1, 1)
