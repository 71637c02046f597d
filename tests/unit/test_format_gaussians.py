"""Dequantisation (spec §6) against plain Python floats, boxes of reach against binary32 distances, quantisers."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest

from igs.format import (
    Blend,
    Gaussians,
    Group,
    Header,
    InvalidFile,
    Quantizer,
    QuantizerKind,
    ScaleMap,
    Shape,
    UsageError,
    dequantize,
    quantize,
    reach_areas,
    reach_boxes,
)
from igs.format.arithmetic import cospi_sinpi, exp2

COS_ERROR, EXP_ERROR = 8e-16, 5e-16


def header(**changes: Any) -> Header:
    fields: dict[str, Any] = {
        "width": 64,
        "height": 48,
        "channels": 1,
        "groups": (Group(channels=1),),
        "background": (0.0,),
        "position": Quantizer.float32(2),
        "scale": Quantizer.float32(2),
        "rotation": Quantizer.float32(1),
        "feature": Quantizer.float32(1),
    }
    return Header(**(fields | changes))


# -- spec §6 once more, one Gaussian at a time in Python floats, which are binary64 without contraction


def f32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def polynomial(a: float, z: float, first: int, last: int, sign: int) -> float:
    """a·(1 + z·(sign·1/(first)! + …)) by Horner's rule from 1/last!."""
    terms = range(first, last + 1, 2)
    total = 0.0
    for i, n in reversed(list(enumerate(terms, 1))):
        term = (sign**i) / math.factorial(n)
        total = term + z * total if n != last else term
    return a * (1.0 + z * total)


def slow_cospi_sinpi(t: float) -> tuple[float, float]:
    f = t - math.floor(t)
    k = math.floor(2 * f + 0.5)
    a = (f - k / 2) * math.pi
    z = a * a
    s, c = polynomial(a, z, 3, 17, -1), polynomial(1.0, z, 2, 16, -1)
    return [(c, s), (-s, c), (-c, -s)][k]


def slow_exp2(v: float) -> float:
    n = math.floor(v)
    a = (v - n) * float.fromhex("0x1.62E42FEFA39EFp-1")
    total = 1 / math.factorial(17)
    for i in range(16, 0, -1):
        total = 1 / math.factorial(i) + a * total
    return (1.0 + a * total) * 2.0**n


def slow(h: Header, row: list[list[float]]) -> dict[str, list[float]]:
    (px, py), (a, b), (t,), features = row
    means = [min(max(math.floor(v * 2.0**14 + 0.5), -(2**30)), 2**30 - 1) for v in (px, py)]
    if h.shape == Shape.SCALE_ROTATION:
        maps = {
            ScaleMap.RAW: lambda v: v,
            ScaleMap.INVERSE: lambda v: 2.0**15 if v <= 2.0**-15 else 1 / v,
            ScaleMap.LOG2: lambda v: slow_exp2(min(max(v, -6.0), 15.0)),
        }
        s1, s2 = maps[h.scale_map](a), maps[h.scale_map](b)
        c, s = slow_cospi_sinpi(t)
        cc, ss, sc = c * c, s * s, s * c
    else:
        xx, xy, yy = (a * a, a * t, t * t + b * b) if h.shape == Shape.CHOLESKY else (a, t, b)
        m, d = (xx + yy) / 2, (xx - yy) / 2
        hh = math.sqrt(d * d + xy * xy)
        s1, s2 = math.sqrt(max(m + hh, 0)), math.sqrt(max(m - hh, 0))
        cc, ss, sc = (1.0, 0.0, 0.0) if hh == 0 else ((1 + d / hh) / 2, (1 - d / hh) / 2, (xy / hh) / 2)
    s1, s2 = (min(max(v, 2.0**-6), 2.0**15) for v in (s1, s2))
    top = max(s1, s2)
    s1, s2 = max(s1, top * 2.0**-12), max(s2, top * 2.0**-12)
    va, vb = (s1 * s1, s2 * s2) if h.lowpass == 0 else (s1 * s1 + h.lowpass, s2 * s2 + h.lowpass)
    d = math.sqrt(va) * math.sqrt(vb)
    xx, yy, xy = va * cc + vb * ss, va * ss + vb * cc, (va - vb) * sc
    g = math.sqrt(yy)
    return {
        "means": means,
        "factors": [f32(g / d * 2.0**-14), f32(-xy / (d * g) * 2.0**-14), f32(1 / g * 2.0**-14)],
        "covariances": [xx, xy, yy],
        "scales": [math.sqrt(va), math.sqrt(vb)],
        "features": [f32(min(max(v, -(2.0**32)), 2.0**32)) for v in features],
    }


CASES = [
    {"scale_map": ScaleMap.RAW},
    {"scale_map": ScaleMap.INVERSE},
    {"scale_map": ScaleMap.LOG2},
    {"scale_map": ScaleMap.LOG2, "lowpass": 0.3},
    {"shape": Shape.CHOLESKY, "scale_map": ScaleMap.RAW},
    {"shape": Shape.COVARIANCE, "scale_map": ScaleMap.RAW},
    {"shape": Shape.COVARIANCE, "scale_map": ScaleMap.RAW, "lowpass": 17.0},
]


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_dequantize_is_the_specification_to_the_bit(changes: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    h = header(**changes)
    n = 400
    scale = np.concatenate([rng.uniform(-20, 20, (n // 2, 2)), np.exp(rng.normal(0, 4, (n // 2, 2)))])
    rotation = np.concatenate([rng.uniform(-3, 3, (n - 40, 1)), rng.integers(-8, 8, (40, 1)) / 4])
    scale[5], rotation[5] = (0, 0), 0  # h = 0
    scale[6], rotation[6] = (4, 4), 0
    scale[7], rotation[7] = (3e38, 3e38), 3e38
    position = np.concatenate([rng.uniform(-100, 100, (n - 2, 2)), [[1e30, -1e30], [65535.999, -65536]]])
    feature = np.concatenate([rng.normal(0, 1, (n - 2, 1)), [[1e30], [-1e30]]])
    codes = quantize(h, position, scale, rotation, feature)
    got = dequantize(h, codes)
    values = [np.asarray(v, np.float32).astype(float).tolist() for v in (position, scale, rotation, feature)]
    for i, row in enumerate(zip(*values, strict=True)):
        for name, expected in slow(h, list(row)).items():
            assert getattr(got, name)[i].tolist() == expected, (i, name)


def test_quantisers_decode_as_specified() -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 2**11, (50, 2)).astype(np.uint32)
    uniform = Quantizer.uniform([-1.1, 0.2], [1.7, 9.9], 11)
    affine = Quantizer.affine([-1.1, 0.2], [0.01, -0.3], 11)
    for row, u, a in zip(codes.tolist(), uniform.decode(codes), affine.decode(codes), strict=True):
        for c, k in enumerate(row):
            lo, hi = uniform.lo[c], uniform.hi[c]
            assert u[c] == lo + k * ((hi - lo) / (2**11 - 1))
            assert a[c] == affine.offset[c] + k * affine.step[c]
    tables = rng.normal(0, 1, (3, 4, 2)).astype(np.float32)
    book = Quantizer.codebook(tables)
    stages = rng.integers(0, 4, (20, 3)).astype(np.uint32)
    for row, value in zip(stages.tolist(), book.decode(stages), strict=True):
        parts = [tables[s, k].astype(float) for s, k in enumerate(row)]
        assert value.tolist() == [(parts[0][c] + parts[1][c]) + parts[2][c] for c in range(2)]


def test_encode_finds_the_nearest_code() -> None:
    values = np.random.default_rng(3).uniform(-2, 12, (500, 2))
    for q in (Quantizer.uniform([-1, 0], [1, 10], 7), Quantizer.affine([5, 0], [-0.1, 0.07], 7)):
        codes = q.encode(values)
        grid = q.decode(np.stack([np.arange(128)] * 2, axis=1).astype(np.uint32))  # [128, 2]
        best = np.abs(values[:, None] - grid[None]).min(axis=1)
        assert np.allclose(np.abs(q.decode(codes) - values), best, rtol=0, atol=1e-12)


def test_encode_of_exact_values_is_exact() -> None:
    """What a quantiser can represent comes back: codes → values → the same codes."""
    rng = np.random.default_rng(4)
    rows = rng.normal(0, 5, (1, 64, 3)).astype(np.float32)
    for q in (
        Quantizer.uniform(-3, 7, 9, shared=True, columns=3),
        Quantizer.uniform(-3, 7, 31, shared=True, columns=3),
        Quantizer.affine([0, 1, 2], [0.5, -0.25, 3], 16),
        Quantizer.codebook(rows),
    ):
        codes = rng.integers(0, 2**q.bits, (200, q.code_columns)).astype(np.uint32)
        assert np.array_equal(q.encode(q.decode(codes)), codes)
    floats = rng.normal(0, 100, (50, 2)).astype(np.float16).astype(np.float64)
    for q in (Quantizer.float16(2), Quantizer.float32(2)):
        assert np.array_equal(q.decode(q.encode(floats)), floats)


def test_angles_wrap_to_the_nearest_code() -> None:
    q = Quantizer.affine(0, 1 / 16, 4)
    assert q.encode_angle([[0.0], [1.0], [-1 / 16], [0.98], [0.96], [7.5]])[:, 0].tolist() == [0, 0, 15, 0, 15, 8]
    codes = quantize(header(rotation=q), [[1, 1]], [[0, 0]], [[-0.25]], [[0]])
    assert codes[0, 4] == 12


def test_elementary_functions_are_right() -> None:
    """The polynomials are as good as the library's functions (both bounds: twice what was measured)."""
    t = np.linspace(-2.5, 2.5, 100_001)
    cos, sin = cospi_sinpi(t)
    within = np.pi * (t - np.floor(t))  # angles are those of an axis: whole half-turns are dropped
    assert np.abs(cos - np.cos(within)).max() < COS_ERROR
    assert np.abs(sin - np.sin(within)).max() < COS_ERROR
    v = np.linspace(-6, 15, 50_001)
    assert np.abs(exp2(v) / np.exp2(v) - 1).max() < EXP_ERROR
    cos, sin = cospi_sinpi(np.array([0.0, 0.5, 1.0, 1.5, -0.5, -1e-30]))
    assert cos.tolist() == [1, 0, 1, 0, 0, -1]  # half-turns: t and t + 1 are the same axis
    assert sin.tolist() == [0, 1, 0, 1, 1, 0]


def test_boxes_hold_every_point_that_binary32_lets_in() -> None:
    """Points on the ellipse's edge, d² evaluated as in spec §7: none within R² lies outside the box, up to the greatest
    elongation of 4096."""
    rng = np.random.default_rng(5)
    n = 3000
    elongation = 2.0 ** rng.uniform(0, 12.5, n)
    elongation[: n // 3] = 4096
    minor = 2.0 ** rng.uniform(-6, 3, n)
    sigma = np.stack([np.log2(minor * elongation), np.log2(minor)], axis=1)
    turns = np.where(rng.uniform(size=n) < 0.5, rng.uniform(0, 1, n), 0.25 + rng.normal(0, 1e-4, n))
    for reach2 in (0.0625, 9.0, 25.0, 1024.0):
        h = header(reach2=reach2, blend=Blend.TOPK)
        g = dequantize(h, quantize(h, rng.uniform(0, 64, (n, 2)), sigma, turns[:, None], np.zeros((n, 1))))
        box = reach_boxes(h, g)
        xx, xy, yy = g.covariances.T
        # The outermost points of the ellipse d² = (R·f)²: μ ± R·f·(Σxx, Σxy)/√Σxx, and likewise in y.
        for f in (0.999, 1.0, 1.001, 1.0015, 1.00196):
            for sign in (-1, 1):
                for direction, root in (((xx, xy), np.sqrt(xx)), ((xy, yy), np.sqrt(yy))):
                    offset = np.stack(direction, axis=1) * (sign * f * math.sqrt(reach2) / root)[:, None]
                    point = np.floor((g.means * 2.0**-14 + offset) * 2.0**14 + 0.5)
                    delta = (point - g.means).astype(np.float32)
                    p, q, r = g.factors.T
                    u = p * delta[:, 0] + q * delta[:, 1]
                    v = r * delta[:, 1]
                    inside = u * u + v * v <= np.float32(reach2)
                    at = point * 2.0**-14
                    out = (at < box[:, :2]).any(axis=1) | (at > box[:, 2:]).any(axis=1)
                    assert not (inside & out).any(), (reach2, f)
        area = reach_areas(h, g)
        clamped = np.exp2(np.clip(sigma, -6, 15))
        clamped[:, 1] = np.maximum(clamped[:, 1], clamped[:, 0] / 4096)
        assert np.allclose(area, math.pi * reach2 * clamped.prod(axis=1), rtol=1e-6)  # codes here are binary32


def test_gaussians_slice_and_concatenate() -> None:
    h = header()
    g = dequantize(h, quantize(h, np.ones((5, 2)), np.ones((5, 2)), np.ones((5, 1)), np.arange(5.0)[:, None]), 7)
    parts = [g[:2], g[2:]]
    assert parts[1].first_index == 9
    whole = Gaussians.concatenate(parts)
    assert whole.first_index == 7
    assert np.array_equal(whole.features, g.features)
    assert len(whole) == 5
    with pytest.raises(UsageError):
        g[::2]
    with pytest.raises(UsageError):
        Gaussians.concatenate([])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quantizer.uniform(0, 1, 0), "bits"),
        (lambda: Quantizer.uniform(0, 1, 33), "bits"),
        (lambda: Quantizer.uniform(1, 0, 8), "hi of at least"),
        (lambda: Quantizer.uniform(0, float("nan"), 8), "finite"),
        (lambda: Quantizer.uniform(0, 1e39, 8), "finite"),
        (lambda: Quantizer.uniform([0, 1], [1, 2], 8, shared=True), "several"),
        (lambda: Quantizer.uniform([0, 1], [1, 2, 3], 8), "parameters"),
        (lambda: Quantizer.float32(67), "columns"),
        (lambda: Quantizer.codebook(np.zeros((1, 3, 2))), "2\\^bits"),
        (lambda: Quantizer.codebook(np.zeros((9, 2, 2))), "stages"),
        (lambda: Quantizer.float32(2).encode([[math.nan, 0]]), "finite"),
        (lambda: Quantizer.float32(2).encode([[1, 2, 3]]), "shape"),
    ],
)
def test_what_a_quantiser_refuses(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_quantisers_compare_and_hash() -> None:
    a, b = Quantizer.uniform(0, 1, 8), Quantizer.uniform(0, 1, 8)
    assert a == b
    assert hash(a) == hash(b)
    assert a != Quantizer.uniform(0, 1, 9)
    assert a != 1
    assert Quantizer.uniform([0, 0], [1, 1], 32).kind == QuantizerKind.FLOAT32


def test_float_codes_must_be_finite() -> None:
    codes = np.array([[0, 0, 0, 0, 0, 0x7F800000]], np.uint32)
    with pytest.raises(InvalidFile, match="E_VALUE"):
        dequantize(header(), codes)
