"""Functions that are the same to the bit everywhere (spec §6.2, §6.3): the circle, powers of 2, a covariance's factor.

In binary64, with operations that IEEE 754 rounds correctly, in the order that the specification writes. Their twins for
kernels are in cells_model.py.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

PI = float.fromhex("0x1.921FB54442D18p+1")
LN2 = float.fromhex("0x1.62E42FEFA39EFp-1")
TWO_OVER_LN2 = float.fromhex("0x1.71547652B82FEp+1")
SQRT_HALF = float.fromhex("0x1.6A09E667F3BCDp-1")
SIN = [(-1) ** i / math.factorial(2 * i + 1) for i in range(9)]  # of z = a², up to z⁸/17!
COS = [(-1) ** i / math.factorial(2 * i) for i in range(9)]  # up to z⁸/16!
EXP = [1 / math.factorial(i) for i in range(18)]
LOG = [1 / (2 * i + 1) for i in range(11)]


def horner(coefficients: list[float], z: F64) -> F64:
    """c₀ + z·(c₁ + z·(…)), each operation rounded."""
    total = coefficients[-1] * z
    for c in reversed(coefficients[1:-1]):
        total += c
        total *= z
    total += coefficients[0]
    return total


def cospi_sinpi(t: F64) -> tuple[F64, F64]:
    """(cos πt, sin πt) by the polynomials of spec §6.3, exact to the bit everywhere."""
    f = t - np.floor(t)
    k = np.floor(2.0 * f + 0.5)
    a = (f - k / 2.0) * PI
    z = a * a
    s = a * horner(SIN, z)
    c = horner(COS, z)
    cos = np.where(k == 0, c, np.where(k == 1, -s, -c))
    sin = np.where(k == 0, s, np.where(k == 1, c, -s))
    return cos, sin


def exp2(v: F64) -> F64:
    """2^v by the polynomial of spec §6.3."""
    n = np.floor(v)
    a = (v - n) * LN2
    return np.ldexp(horner(EXP, a), n.astype(np.int32))


def log2(v: F64) -> F64:
    """log₂ v, v > 0, by the polynomial of spec §6.3."""
    m, e = np.frexp(v)
    low = m < SQRT_HALF
    m = np.where(low, m * 2.0, m)
    e = np.where(low, e - 1, e)
    s = (m - 1.0) / (m + 1.0)
    return e + (s * TWO_OVER_LN2) * horner(LOG, s * s)


def factor_of(a: F64, b: F64, cc: F64, ss: F64, sc: F64) -> tuple[F64, F64, F64, F64, F64, F64, F64]:
    """(p, q, r, Σxx, Σxy, Σyy, D) from the variances A, B and the angle's squares (spec §6.2)."""
    d = np.sqrt(a) * np.sqrt(b)
    sxx = a * cc + b * ss
    syy = a * ss + b * cc
    sxy = (a - b) * sc
    g = np.sqrt(syy)
    return g / d, -sxy / (d * g), 1.0 / g, sxx, sxy, syy, d
