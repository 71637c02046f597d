"""The arithmetic that decides who counts, on the device: spec §7 in binary32, one rounding per operation.

Plain products and sums may be fused; libdevice's ``…_rn`` functions become ``mul.rn`` and ``add.rn``, which no compiler
may fuse, whatever the options of the kernel that they are inlined into (a user's may say ``fastmath=True``). So d2, and
with it membership and rank, are the CPU's to the bit. The simulator has no libdevice: NumPy's binary32 stands in.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from igs.decoder.constants import NOWHERE, SLACK
from igs.decoder.cuda.device import SIMULATED
from igs.format import transfer as tr
from igs.format.fields import BOUND, UNIT, Transfer

_UNITS, _BOUND = float(UNIT), float(BOUND)
PQ = int(Transfer.PQ)
_LOG_NEPERS = tr.LOG_OCTAVES * math.log(2.0)
_ZERO = np.float32(0.0)
_TINY = np.float32(1e-37)
_HALF_LOG2_E = np.float32(-0.72134752)  # -log2(e) / 2
_SMALLEST_EXPONENT = np.float32(-125.0)  # so that no weight is flushed to zero

if SIMULATED:

    def mul(a, b):
        """a · b, rounded to binary32."""
        return np.float32(a * b)

    def add(a, b):
        """a + b, rounded to binary32."""
        return np.float32(a + b)

    smaller, larger = min, max

    def exp2(a):
        """2^a."""
        return np.float32(np.exp2(a))

    def power(a, b):
        """a^b."""
        return np.float32(np.power(a, b))

    def as_float(bits):
        """The binary32 number of these bits."""
        return np.int32(bits).view(np.float32)

    def load4(words, at):
        """Four successive words; ``at`` is a multiple of 4."""
        return words[at], words[at + np.uint64(1)], words[at + np.uint64(2)], words[at + np.uint64(3)]

else:
    from numba.cuda import libdevice

    from igs.decoder.cuda.load4 import load4

    mul, add = libdevice.fmul_rn, libdevice.fadd_rn
    smaller, larger = libdevice.fminf, libdevice.fmaxf
    exp2 = libdevice.exp2f  # ex2.approx: within 2^-22
    power = libdevice.powf
    as_float = libdevice.int_as_float

# A Gaussian is a row of 32-bit words, see ``arena.words``. Unsigned indices: Numba lets signed ones count from the end.
R_WORD = np.uint64(4)
FEATURE_WORD = np.uint64(5)


@cuda.jit(device=True)
def whitened(words, at, x, y):
    """u and v of spec §7, at a point in int32 units, of the Gaussian whose words begin at ``at`` (uint64)."""
    mx, my, p, q = load4(words, at)
    dx = np.float32(np.int32(x - mx))
    dy = np.float32(np.int32(y - my))
    u = add(mul(as_float(p), dx), mul(as_float(q), dy))
    v = mul(as_float(words[at + R_WORD]), dy)
    return u, v


@cuda.jit(device=True)
def squared_distance(words, at, x, y):
    """d2 of spec §7, to the bit."""
    u, v = whitened(words, at, x, y)
    return add(mul(u, u), mul(v, v))


@cuda.jit(device=True)
def light_of(u, transfer):
    """Linear light of a value before its group's curve (spec §8.3), in binary64 as ``igs.format.transfer`` does."""
    u = np.float64(u)
    if transfer == PQ:
        x = math.pow(min(max(u, 0.0), 1.0), 1.0 / tr.M2)
        return np.float32(tr.PQ_PEAK * math.pow(max(x - tr.C1, 0.0) / (tr.C2 - tr.C3 * x), 1.0 / tr.M1))
    light = np.float32(math.expm1(min(abs(u), tr.LOG_CODE_MAX) * _LOG_NEPERS) * tr.LOG_UNIT)
    return light if u >= 0.0 else -light


@cuda.jit(device=True)
def weight_of(d2):
    """exp(−d2/2), above 0."""
    return exp2(larger(d2 * _HALF_LOG2_E, _SMALLEST_EXPONENT))


@cuda.jit(device=True)
def fix_point(x, y):
    """⌊v·2^14 + 0.5⌋ of spec §7 for both, in binary64; → (int32, int32), NOWHERE if out of range or not finite.

    The product is exact, so that fusing it changes nothing.
    """
    fx = np.float64(x) * _UNITS + 0.5
    fy = np.float64(y) * _UNITS + 0.5
    if fx >= -_BOUND and fx < _BOUND and fy >= -_BOUND and fy < _BOUND:
        return np.int32(math.floor(fx)), np.int32(math.floor(fy))
    return NOWHERE, NOWHERE


@cuda.jit(device=True)
def edge_minimum(p, q, turn, dx, low, high):
    """u of the point with the smallest d² on the vertical edge at dx, from dy = low to high; → (u, dy)."""
    product = mul(p, dx)
    dy = smaller(larger(mul(-product, turn), low), high)
    return add(product, mul(q, dy)), dy


@cuda.jit(device=True)
def may_reach(words, at, left, right, top, bottom, reach2):
    """Whether a Gaussian may have d2 ≤ reach2 at a point of the closed rectangle (int32 units); errs towards yes.

    d² is convex: its minimum is 0 inside, or lies on an edge. The same bounds as ``candidates.gather``. Asked twice, it
    answers the same, though a compiler may make two copies of it: lists are counted first and written then.
    """
    mx, my, p_bits, q_bits = load4(words, at)
    dl = np.float32(np.int32(left - mx))
    dr = np.float32(np.int32(right - mx))
    dt = np.float32(np.int32(top - my))
    db = np.float32(np.int32(bottom - my))
    if dl <= _ZERO and dr >= _ZERO and dt <= _ZERO and db >= _ZERO:
        return True
    p = as_float(p_bits)
    q = as_float(q_bits)
    r = as_float(words[at + R_WORD])
    limit = reach2 * SLACK
    vt = mul(r, dt)
    vb = mul(r, db)
    lt = add(mul(p, dl), mul(q, dt))
    rt = add(mul(p, dr), mul(q, dt))
    lb = add(mul(p, dl), mul(q, db))
    rb = add(mul(p, dr), mul(q, db))
    low_t = mul(vt, vt)
    if not (lt <= _ZERO and rt >= _ZERO):
        low_t = add(low_t, smaller(mul(lt, lt), mul(rt, rt)))
    low_b = mul(vb, vb)
    if not (lb <= _ZERO and rb >= _ZERO):
        low_b = add(low_b, smaller(mul(lb, lb), mul(rb, rb)))
    turn = q / add(mul(q, q), larger(mul(r, r), _TINY))
    ul, yl = edge_minimum(p, q, turn, dl, dt, db)
    ur, yr = edge_minimum(p, q, turn, dr, dt, db)
    vl = mul(r, yl)
    vr = mul(r, yr)
    low_l = add(mul(ul, ul), mul(vl, vl))
    low_r = add(mul(ur, ur), mul(vr, vr))
    return smaller(smaller(low_t, low_b), smaller(low_l, low_r)) <= limit
