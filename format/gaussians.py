"""Codes → Gaussians (spec §6), their boxes of reach (§4), and numbers → codes for a writer.

Everything here is binary64 NumPy, one rounding per operation in the order that the specification writes, so that every
machine gets the same bits. What a point's value is (§7) is the decoder's business.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from igs.format import lattice as la
from igs.format.arithmetic import cospi_sinpi, exp2, factor_of
from igs.format.error_codes import invalid
from igs.format.errors import UsageError
from igs.format.fields import (
    BOUND,
    FEATURE_MAX,
    MEAN_UNIT,
    REACH_MARGIN,
    SIGMA_MAX,
    SIGMA_MIN,
    SIGMA_RATIO,
    UNIT,
    ScaleMap,
    Shape,
)
from igs.format.header import Header
from igs.format.quantize import Codes, split_columns

F64 = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Gaussians:
    """Dequantised Gaussians, in file order. Lengths are pixels unless said otherwise.

    means: int32 [n, 2], units of 2^-14 pixel. factors: float32 [n, 3], P, Q, R_ of spec §6.2. features: float32 [n, F].
    covariances: float64 [n, 3], Σxx, Σxy, Σyy. scales: float64 [n, 2], √A, √B: σ after clamps and lowpass.
    first_index: the file-wide index of the first one.
    """

    means: NDArray[np.int32]
    factors: NDArray[np.float32]
    features: NDArray[np.float32]
    covariances: F64
    scales: F64
    first_index: int = 0

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, part: slice) -> Gaussians:
        """A run of successive Gaussians, as views."""
        start, stop, step = part.indices(len(self))
        if step != 1:
            raise UsageError("Gaussians can be sliced into successive runs only")
        return self.run(start, stop, self.first_index + start)

    def run(self, start: int, stop: int, first_index: int) -> Gaussians:
        """Rows start … stop − 1 as views, the first one's file-wide index being ``first_index``."""
        part = slice(start, stop)
        return Gaussians(
            self.means[part],
            self.factors[part],
            self.features[part],
            self.covariances[part],
            self.scales[part],
            first_index,
        )

    @staticmethod
    def concatenate(parts: Sequence[Gaussians]) -> Gaussians:
        """All Gaussians of ``parts`` in order; first_index is that of the first part."""
        if not parts:
            raise UsageError("Gaussians.concatenate: expected one part or more, found none")
        return Gaussians(
            np.concatenate([p.means for p in parts]),
            np.concatenate([p.factors for p in parts]),
            np.concatenate([p.features for p in parts]),
            np.concatenate([p.covariances for p in parts]),
            np.concatenate([p.scales for p in parts]),
            parts[0].first_index,
        )


def _scale_rotation(header: Header, scale: F64, t: F64) -> tuple[F64, F64, F64, F64, F64]:
    if header.scale_map == ScaleMap.LOG2:
        scale = exp2(np.clip(scale, -6.0, 15.0))
    elif header.scale_map == ScaleMap.INVERSE:
        tiny = scale <= 2.0**-15
        scale = np.where(tiny, 2.0**15, 1.0 / np.where(tiny, 1.0, scale))
    c, s = cospi_sinpi(t)
    return scale[:, 0], scale[:, 1], c * c, s * s, s * c


def _covariance(sxx: F64, syy: F64, sxy: F64) -> tuple[F64, F64, F64, F64, F64]:
    m = (sxx + syy) / 2.0
    d = (sxx - syy) / 2.0
    h = np.sqrt(d * d + sxy * sxy)
    sigma1 = np.sqrt(np.maximum(m + h, 0.0))
    sigma2 = np.sqrt(np.maximum(m - h, 0.0))
    round_ = h == 0
    safe = np.where(round_, 1.0, h)
    cc = np.where(round_, 1.0, (1.0 + d / safe) / 2.0)
    ss = np.where(round_, 0.0, (1.0 - d / safe) / 2.0)
    sc = np.where(round_, 0.0, (sxy / safe) / 2.0)
    return sigma1, sigma2, cc, ss, sc


def dequantize(header: Header, codes: Codes, first_index: int = 0) -> Gaussians:
    """The Gaussians of a codes table uint32 [n, header.code_columns] (spec §6), exact to the bit.

    Raises InvalidFile E_VALUE if a float code is NaN or infinite.
    """
    if header.lattice is not None:
        return _of_lattice(header, header.lattice, codes, first_index)
    columns = split_columns([q.code_columns for q in header.quantizers])
    values = [q.decode(codes[:, part]) for q, part in zip(header.quantizers, columns, strict=True)]
    for name, value in zip(("position", "scale", "rotation", "feature"), values, strict=True):
        if not np.isfinite(value).all():
            raise invalid("E_VALUE", f"finite {name}s", "NaN or infinity")
    position, scale, rotation, feature = values

    t = rotation[:, 0]
    if header.shape == Shape.SCALE_ROTATION:
        sigma1, sigma2, cc, ss, sc = _scale_rotation(header, scale, t)
    elif header.shape == Shape.CHOLESKY:
        l11, l22 = scale[:, 0], scale[:, 1]
        sigma1, sigma2, cc, ss, sc = _covariance(l11 * l11, t * t + l22 * l22, l11 * t)
    else:
        sigma1, sigma2, cc, ss, sc = _covariance(scale[:, 0], scale[:, 1], t)

    sigma = np.clip(np.stack([sigma1, sigma2], axis=1), SIGMA_MIN, SIGMA_MAX)
    sigma = np.maximum(sigma, sigma.max(axis=1, keepdims=True) * SIGMA_RATIO)
    variance = sigma * sigma
    if header.lowpass:
        variance = variance + header.lowpass
    parts = factor_of(variance[:, 0], variance[:, 1], cc, ss, sc)
    return _gaussians(position, parts, np.sqrt(variance), feature, first_index)


def _of_lattice(header: Header, lattice: la.Lattice, codes: Codes, first_index: int) -> Gaussians:
    part = la.shapes(lattice, codes)
    parts = la.factor(part.sigma1, part.sigma2, part.turn)
    position = la.mean_positions(codes, part.step, *parts[:3])
    feature = la.feature_values(lattice, codes, part.gain, header.rgb_groups)
    return _gaussians(position, parts, np.stack([part.sigma1, part.sigma2], axis=1), feature, first_index)


def _gaussians(position: F64, parts: tuple[F64, ...], scales: F64, feature: F64, first_index: int) -> Gaussians:
    p, q, r, sxx, sxy, syy, _ = parts
    means = np.clip(np.floor(position * UNIT + 0.5), -BOUND, BOUND - 1).astype(np.int32)
    return Gaussians(
        means=means,
        factors=(np.stack([p, q, r], axis=1) * MEAN_UNIT).astype(np.float32),
        features=np.clip(feature, -FEATURE_MAX, FEATURE_MAX).astype(np.float32),
        covariances=np.stack([sxx, sxy, syy], axis=1),
        scales=scales,
        first_index=first_index,
    )


def quantize(header: Header, position: ArrayLike, scale: ArrayLike, rotation: ArrayLike, feature: ArrayLike) -> Codes:
    """Numbers → codes table uint32 [n, header.code_columns], each to its nearest code.

    position: [n, 2] pixels. scale, rotation: [n, 2], [n, 1], what the header's ``shape`` and ``scale_map`` call for
    (log2 σ, half-turns, …); angles wrap. feature: [n, F]. Raises UsageError for NaN, infinity or wrong shapes.
    """
    if header.lattice is not None:
        sigma = np.exp2(np.asarray(scale, np.float64))
        turn = np.asarray(rotation, np.float64)[:, 0]
        features = np.asarray(feature, np.float64)
        position, size = np.asarray(position, np.float64), (header.width, header.height)
        return la.encode(header.lattice, position, sigma, turn, features, header.rgb_groups, size)
    angle = header.shape == Shape.SCALE_ROTATION
    parts = [
        header.position.encode(position),
        header.scale.encode(scale),
        header.rotation.encode_angle(rotation) if angle else header.rotation.encode(rotation),
        header.feature.encode(feature),
    ]
    if len({len(p) for p in parts}) != 1:
        raise UsageError(f"quantize: expected one row per Gaussian everywhere, found {[len(p) for p in parts]}")
    return np.concatenate(parts, axis=1)


def reach_boxes(header: Header, gaussians: Gaussians) -> F64:
    """Boxes of reach (spec §4): float64 [n, 4], x0, y0, x1, y1 in pixels, with the margin R⁺ = R·(1 + 2^-9)."""
    reach = math.sqrt(header.reach2) * REACH_MARGIN
    mean = gaussians.means * MEAN_UNIT
    half = reach * np.sqrt(gaussians.covariances[:, ::2])
    return np.concatenate([mean - half, mean + half], axis=1)


def reach_areas(header: Header, gaussians: Gaussians) -> F64:
    """Areas of the ellipses of reach: float64 [n], π·R²·√A·√B, pixels²."""
    return math.pi * header.reach2 * (gaussians.scales[:, 0] * gaussians.scales[:, 1])
