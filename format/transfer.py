"""The curves between what a group stores and linear light (spec §8.3): PQ and log, for high dynamic range.

sRGB and linear, the other values of the field, say what picture values mean and change none.
Source of PQ: SMPTE ST 2084; of the level of white: ITU-R BT.2408 (203 cd/m²).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from igs.format.fields import Transfer

F64 = NDArray[np.float64]

M1, M2 = 1305 / 8192, 2523 / 32
C1, C2, C3 = 107 / 128, 2413 / 128, 2392 / 128
PQ_PEAK = 10000 / 203  # picture value of code 1, where picture value 1 is diffuse white
LOG_OCTAVES, LOG_UNIT = 24.0, 2.0**-8  # code 1 stands for 2^16, and below 1/256 the curve is about linear
_OCTAVES = LOG_OCTAVES * float(np.log(2.0))
LOG_CODE_MAX = 5.0  # beyond it binary32 would overflow
LOG_PEAK = (2.0 ** (LOG_OCTAVES * LOG_CODE_MAX) - 1) * LOG_UNIT

CURVED = (Transfer.PQ, Transfer.LOG)


def to_linear(values: ArrayLike, transfer: Transfer) -> F64:
    """Picture values of values before the curve, any shape; computed in binary64. Other transfers change nothing."""
    u = np.asarray(values, np.float64)
    if transfer == Transfer.PQ:
        x = np.clip(u, 0, 1) ** (1 / M2)
        return np.asarray(PQ_PEAK * (np.maximum(x - C1, 0) / (C2 - C3 * x)) ** (1 / M1))
    if transfer == Transfer.LOG:
        return np.asarray(np.sign(u) * np.expm1(np.minimum(np.abs(u), LOG_CODE_MAX) * _OCTAVES) * LOG_UNIT)
    return u


def from_linear(values: ArrayLike, transfer: Transfer) -> F64:
    """The inverse of ``to_linear``, clipped to what it can give: 0 … PQ_PEAK, and ±LOG_PEAK."""
    v = np.asarray(values, np.float64)
    if transfer == Transfer.PQ:
        y = (np.clip(v, 0, PQ_PEAK) / PQ_PEAK) ** M1
        return np.asarray(((C1 + C2 * y) / (1 + C3 * y)) ** M2)
    if transfer == Transfer.LOG:
        return np.asarray(np.sign(v) * np.log1p(np.minimum(np.abs(v), LOG_PEAK) / LOG_UNIT) / _OCTAVES)
    return v


def linear_range(transfer: Transfer) -> tuple[float, float]:
    """The least and the largest picture value that a curve can hold."""
    return {Transfer.PQ: (0.0, PQ_PEAK), Transfer.LOG: (-LOG_PEAK, LOG_PEAK)}.get(transfer, (-np.inf, np.inf))


def srgb_from_linear(values: ArrayLike) -> F64:
    """Linear light as sRGB code values (IEC 61966-2-1), odd about 0."""
    v = np.asarray(values, np.float64)
    a = np.abs(v)
    return np.asarray(np.sign(v) * np.where(a <= 0.0031308, 12.92 * a, 1.055 * a ** (1 / 2.4) - 0.055))


def linear_from_srgb(values: ArrayLike) -> F64:
    """sRGB code values as linear light, odd about 0."""
    v = np.asarray(values, np.float64)
    a = np.abs(v)
    return np.asarray(np.sign(v) * np.where(a <= 0.04045, a / 12.92, ((a + 0.055) / 1.055) ** 2.4))
