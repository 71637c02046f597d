"""The value at a point, written to be read: spec §7 in NumPy, every Gaussian tried at every point.

Slow: it exists so that the kernels have something obviously right to agree with. It knows nothing of files, regions,
gamma or alpha: see ``grid.py`` and ``output.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from igs.decoder.rule import Rule

Values = npt.NDArray[np.float64]

_POINTS_AT_ONCE = 4096  # times the Gaussians is the size of the largest temporary array


def whitened(
    means: npt.NDArray[np.int32], factors: npt.NDArray[np.float32], points: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """u and v of spec §7, to the bit.

    means: [n, 2], factors: [n, 3] (P, Q, R_), points: [m, 2] in units of 2^-14 pixel → float32 [m, n], twice.
    """
    delta = points[:, None, :].astype(np.int64) - means[None, :, :].astype(np.int64)  # exact
    dx, dy = delta[..., 0].astype(np.float32), delta[..., 1].astype(np.float32)
    p, q, r = factors[:, 0], factors[:, 1], factors[:, 2]
    return p * dx + q * dy, r * dy


def squared_distances(
    means: npt.NDArray[np.int32], factors: npt.NDArray[np.float32], points: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    """d2 of spec §7, to the bit: arguments and shape as for ``whitened``."""
    u, v = whitened(means, factors, points)
    return u * u + v * v


def counting_reference(d2: npt.NDArray[np.float32], rule: Rule) -> npt.NDArray[np.bool_]:
    """Which Gaussians count: d2 [m, n], columns in order of file-wide index → [m, n]."""
    candidates = d2 <= np.float32(rule.reach2)
    if rule.sum_blend or d2.shape[1] == 0:
        return candidates
    nearest = np.min(np.where(candidates, d2, np.float32(np.inf)), axis=1, keepdims=True)
    remaining = candidates & (d2 <= nearest + np.float32(rule.relative_reach2))
    order = np.argsort(np.where(remaining, d2, np.float32(np.inf)), axis=1, kind="stable")  # ties: lower index first
    counts = np.zeros_like(candidates)
    np.put_along_axis(counts, order[:, : rule.top_k], True, axis=1)
    counts &= remaining
    return counts


def values_reference(
    means: npt.NDArray[np.int32],
    factors: npt.NDArray[np.float32],
    features: npt.NDArray[np.float32],
    points: npt.NDArray[np.int32],
    rule: Rule,
) -> npt.NDArray[np.float64]:
    """The value at each point: features [n, F], points [m, 2] in units of 2^-14 pixel → [m, C], in binary64."""
    channels = len(rule.background)
    colours, slopes = np.split(features.astype(np.float64), [channels], axis=1)
    out = np.tile(rule.background.astype(np.float64), (len(points), 1))
    for start in range(0, len(points), _POINTS_AT_ONCE):
        part = slice(start, start + _POINTS_AT_ONCE)
        u, v = whitened(means, factors, points[part])
        d2 = u * u + v * v
        counts = counting_reference(d2, rule)
        some = counts.any(axis=1)
        d2_exact: npt.NDArray[Any] = np.where(counts, d2, np.inf).astype(np.float64)
        nearest = np.zeros((len(d2), 1)) if rule.sum_blend else np.min(d2_exact, axis=1, keepdims=True, initial=1e4)
        weights: Values = np.exp(-0.5 * (d2_exact - nearest))
        sums: Values = weights @ colours
        if slopes.shape[1]:  # the gradient primitive
            tilt = (weights * (slopes[:, 0] * u.astype(np.float64) + slopes[:, 1] * v)).sum(axis=1)
            sums += rule.lit * tilt[:, None]
        if rule.sum_blend:
            out[part] += sums
        else:
            out[part][some] = sums[some] / weights[some].sum(axis=1, keepdims=True)
    return out
