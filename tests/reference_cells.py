"""Decoders of the coded chunks in plain Python, written from spec §3.2, §5.2, §5.3, §5.4, §6.3 and §6.4 alone.

Slow, and independent of format/cells*.py and format/lattice.py: nothing is imported from them. Python's floats are
binary64 and never fused. A payload that is not a chunk's raises ``Stream``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

ONE = 2**16
OFFSETS = ((-1, 0), (0, -1), (-1, -1), (1, -1), (-2, 0), (0, -2))
OFFSETS += ((-2, -1), (2, -1), (-1, -2), (1, -2), (-2, -2), (2, -2))
PI = float.fromhex("0x1.921FB54442D18p+1")
LN2 = float.fromhex("0x1.62E42FEFA39EFp-1")
LOG2_E = float.fromhex("0x1.71547652B82FEp+0")


class Stream(Exception):
    """E_STREAM."""


# -- §6.3


def _horner(coefficients: Sequence[float], z: float) -> float:
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = c + z * total
    return total


def exp2(v: float) -> float:
    n = math.floor(v)
    return math.ldexp(_horner([1 / math.factorial(i) for i in range(18)], (v - n) * LN2), n)


def log2(v: float) -> float:
    m, e = math.frexp(v)
    if m < float.fromhex("0x1.6A09E667F3BCDp-1"):
        m, e = m * 2, e - 1
    s = (m - 1) / (m + 1)
    return e + (s * float.fromhex("0x1.71547652B82FEp+1")) * _horner([1 / (2 * i + 1) for i in range(11)], s * s)


def cospi_sinpi(t: float) -> tuple[float, float]:
    f = t - math.floor(t)
    k = math.floor(2 * f + 0.5)
    a = (f - k / 2) * PI
    z = a * a
    s = a * _horner([(-1) ** i / math.factorial(2 * i + 1) for i in range(9)], z)
    c = _horner([(-1) ** i / math.factorial(2 * i) for i in range(9)], z)
    return [(c, s), (-s, c), (-c, -s)][k]


# -- §3.2


class Model(NamedTuple):
    family: int
    pull: float
    mean: float
    spread: float


class Record:
    """The lattice record of a file with F features."""

    def __init__(self, data: bytes, features: int) -> None:
        self.P, self.M, self.E, self.A = (exp2(-c / 8) for c in data[:4])
        self.K = [exp2(-c / 8) for c in data[4 : 4 + features]]
        self.ycbcr = data[4 + features]
        at = 5 + features
        self.models = []
        for _ in range(features + 1):
            spread = exp2((data[at + 2] - 192) / 16)
            centre = data[at + 1] - 256 * (data[at + 1] > 127)
            self.models.append(Model(data[at] >> 6, (data[at] & 63) / 64, centre / 16 * spread, spread))
            at += 3
        self.ratio_spread = exp2((data[at] - 192) / 16)
        weights = [1 + (data[at + 1 + i // 2] >> 4 * (i % 2) & 15) for i in range(16)]
        self.W = [2**24 * sum(weights[:i]) // sum(weights) for i in range(17)]


# -- §5.2


class Coder:
    """The symbols of a payload."""

    def __init__(self, data: bytes) -> None:
        if len(data) < 5 or len(data) % 2 == 0:
            raise Stream("length")
        self.x = int.from_bytes(data[:5], "little")
        self.words = [int.from_bytes(data[i : i + 2], "little") for i in range(5, len(data), 2)][::-1]
        if self.x < 2**24:
            raise Stream("state")

    def symbol(self, low: int, high: int, start: Callable[[int], int]) -> int:
        """The number k, low … high, whose range [start(k), start(k + 1)) holds the slot."""
        slot = self.x % ONE
        a, b = low, high + 1  # start(a) ≤ slot < start(b)
        while b - a > 1:
            middle = (a + b) // 2
            a, b = (middle, b) if start(middle) <= slot else (a, middle)
        begin, end = start(a), start(a + 1)
        assert begin <= slot < end
        self.x = (end - begin) * (self.x // ONE) + slot - begin
        if self.x < 2**24:
            if not self.words:
                raise Stream("out of words")
            self.x = self.x * ONE + self.words.pop()
        return a

    def bits(self, b: int) -> int:
        value = 0
        while b:
            c = min(b, 16)
            value = value << c | self.symbol(0, 2**c - 1, lambda u, c=c: u << 16 - c)  # type: ignore[misc]
            b -= c
        return value

    def uniform(self, n: int, start: Callable[[int, int, int], int] | None = None) -> int:
        b = 0
        while (n - 1) >> b >= 1024:
            b += 1
        g = ((n - 1) >> b) + 1
        h = self.symbol(0, g - 1, lambda h: h * ONE // g if start is None else start(h, g, b))
        value = h << b | self.bits(b)
        if value >= n:
            self.refuse("not below n")
        return value

    def refuse(self, reason: str) -> None:
        """What contradicts a MUST: an error, but for who makes such payloads (tests/conformance/chosen.py)."""
        raise Stream(reason)

    def end(self) -> None:
        if self.x != 2**24 or self.words:
            raise Stream("something behind the last Gaussian")


def decision(coder: Coder, context: list[int]) -> bool:
    a, b = context
    s = min(max(a * ONE // b, 64), ONE - 64)
    yes = coder.symbol(0, 1, lambda k: (0, s, ONE)[k]) == 0
    a, b = a + 2 * yes, b + 2
    if b > 1024:
        a, b = a // 2 | 1, b // 2
    context[:] = a, b
    return yes


# -- §5.3, §6.4


def _curve_value(curve: int, z: float) -> float:
    if curve == 0:
        return 1 / (1 + exp2(-z * LOG2_E))
    if curve == 1:
        v = 0.5 * exp2(-abs(z) * LOG2_E)
        return v if z < 0 else 1 - v
    if curve == 2:
        u = 4 + z * z
        return 0.5 + (z * (6 + z * z)) / (2 * (u * math.sqrt(u)))
    v = max(z, 0.0)
    return 1 - exp2(-(v * math.sqrt(v)) * LOG2_E)


TABLES = [[math.floor(_curve_value(c, i / 16 - 12) * 2**24 + 0.5) for i in range(385)] for c in range(4)]
for _table in TABLES:
    _table[0], _table[384] = 0, 2**24
WEIBULL = 3


def curve(table: int, z: float) -> int:
    u = (z + 12) * 16
    if u <= 0:
        return 0
    if u >= 384:
        return 2**24
    i = math.floor(u)
    return TABLES[table][i] + math.floor((u - i) * (TABLES[table][i + 1] - TABLES[table][i]))


def _curved(coder: Coder, low: int, high: int, table: int, edge: Callable[[int], float]) -> int:
    def start(k: int) -> int:
        if k == low:
            return 0
        if k == high + 1:
            return ONE
        return (curve(table, edge(k)) * (ONE - (high - low + 1)) >> 24) + (k - low)

    return coder.symbol(low, high, start)


class Shape(NamedTuple):
    sx: float
    sy: float
    shear: float  # q/p
    phi: float
    angles: int  # n


def _sizes(record: Record, m: int, e: int) -> tuple[float, float, float]:
    """ρ, λ1, λ2."""
    rho = min(0.5 + m * record.M, 128.0)
    lambda2 = 2 * log2(rho)
    return rho, min(lambda2 + min(e * (record.E / rho), 12.0), 15.0), lambda2


def _angles(record: Record, m: int, e: int) -> int:
    rho, lambda1, lambda2 = _sizes(record, m, e)
    s1, s2 = exp2(lambda1), rho * rho
    gamma = exp2((lambda1 + 3 * lambda2) * -0.125)
    return int(min(max(math.ceil((s1 / s2 - s2 / s1) * (PI / (record.A * gamma))), 1), 2**18))


def _shape(record: Record, m: int, e: int, a: int) -> Shape:
    rho, lambda1, lambda2 = _sizes(record, m, e)
    s1, s2 = exp2(lambda1), rho * rho
    step = record.P * exp2((lambda1 + 3 * lambda2) * -0.125)
    n = _angles(record, m, e)
    c, s = cospi_sinpi((a + 0.5) / n)
    A, B = s1 * s1, s2 * s2
    D = math.sqrt(A) * math.sqrt(B)
    sigma_yy, sigma_xy = A * (s * s) + B * (c * c), (A - B) * (s * c)
    g = math.sqrt(sigma_yy)
    p, q, r = g / D, -sigma_xy / (D * g), 1 / g
    phi = max(exp2((3 * lambda1 + 4 * lambda2) * -0.125), 2**-6)
    return Shape(step / p, step / r, q / p, phi, n)


def decode(
    payload: bytes, count: int, record: Record, box: Sequence[float], width: int, height: int
) -> list[list[int]]:
    """Rows i, j, m, e, a, k… of a chunk. box: of its index entry in pixels; may be infinite."""
    if len(payload) < 9:
        raise Stream("length")
    trim, coder = payload[:4], Coder(payload[4:])
    X0, X1 = (min(max(v, -float(width)), 2.0 * width) for v in box[::2])
    Y0, Y1 = (min(max(v, -float(height)), 2.0 * height) for v in box[1::2])
    x0, x1 = X0 + (X1 - X0) * (trim[0] / 256), X1 - (X1 - X0) * (trim[2] / 256)
    y0, y1 = Y0 + (Y1 - Y0) * (trim[1] / 256), Y1 - (Y1 - Y0) * (trim[3] / 256)
    w, h = max(x1 - x0, 0.125), max(y1 - y0, 0.125)
    c = max(math.sqrt((w * h) / (4 * count)), max(w, h) / 1024)
    columns, rows = min(math.ceil(w / c), 1024), min(math.ceil(h / c), 1024)

    odds = [[a, 32] for a in (3, 5, 7, 8, 9, 11, 14, 4, 6, 6, 7, 8, 8, 10)]
    cells: dict[tuple[int, int], list[int]] = {}  # numbers of the Gaussians in a cell
    known: list[list[float]] = []  # λ2 and features of each Gaussian
    codes: list[list[int]] = []
    for y in range(rows):
        for x in range(columns):
            while _another(coder, odds, cells, x, y):
                near = cells.get((x, y), [])[:-3:-1]
                near += [cells[x + i, y + j][-1] for i, j in OFFSETS if (x + i, y + j) in cells]
                row, values = _gaussian(coder, record, [known[i] for i in near[:4]], (x0, y0, c), x, y)
                cells.setdefault((x, y), []).append(len(codes))
                codes.append(row)
                known.append(values)
                if len(codes) == count:
                    coder.end()
                    return codes
    raise Stream("out of cells")


def _another(coder: Coder, odds: list[list[int]], cells: dict[tuple[int, int], list[int]], x: int, y: int) -> bool:
    def number(i: int, j: int) -> int:
        return len(cells.get((x + i, y + j), []))

    full = 2 * (number(-1, 0) + number(0, -1)) + number(-1, -1) + number(1, -1) + number(-2, 0) + number(0, -2)
    return decision(coder, odds[min(full, 6) + (7 if number(0, 0) else 0)])


def _gaussian(
    coder: Coder, record: Record, near: list[list[float]], grid: tuple[float, float, float], x: int, y: int
) -> tuple[list[int], list[float]]:
    def expected(column: int) -> float:
        model = record.models[column]
        if not near:
            return model.mean
        total = 0.0
        for values in near:
            total += values[column]
        return model.mean + model.pull * (total / len(near) - model.mean)

    x0, y0, c = grid
    model, value = record.models[0], expected(0)
    top = exp2(min((model.mean + 12 * model.spread) / 2, 7.0))
    last = min(math.ceil(max(top - 0.5, 0.0) / record.M) + 1, 8191)
    m = _curved(coder, 0, last, model.family, lambda k: (2 * log2(0.5 + (k - 0.5) * record.M) - value) / model.spread)
    rho, _, lambda2 = _sizes(record, m, 0)
    u = (record.E / rho) / (record.ratio_spread * exp2(-0.375 * lambda2))
    e = _curved(coder, 0, min(math.ceil(12 / u), 8191), WEIBULL, lambda k: (k - 0.5) * u)

    n, a = _angles(record, m, e), 0
    if n > 1:

        def start(h: int, g: int, b: int) -> int:
            if h == g:
                return ONE
            v = min(((h << b) / n) * 16, 16.0)
            i = min(math.floor(v), 15)
            part = record.W[i] + math.floor((v - i) * (record.W[i + 1] - record.W[i]))
            return (part * (ONE - g) >> 24) + h

        a = coder.uniform(n, start)
    shape = _shape(record, m, e, a)

    top_row, bottom = (math.ceil((y0 + v * c) / shape.sy) for v in (y, y + 1))
    if bottom <= top_row:
        coder.refuse("no row of the lattice in the cell")
    j = top_row + coder.uniform(bottom - top_row)
    d = shape.shear * (j * shape.sy)
    left, right = (math.ceil(((x0 + v * c) + d) / shape.sx) for v in (x, x + 1))
    if right <= left:
        coder.refuse("no point of the lattice in the cell")
    i = left + coder.uniform(right - left)

    values, ks = [lambda2], []
    for f, K in enumerate(record.K):
        model, value = record.models[1 + f], expected(1 + f)
        step = K * shape.phi
        u = step / model.spread
        middle, reach = math.floor(model.mean / (u * model.spread)), int(min(math.ceil(12 / u), 16384))
        off = value / model.spread
        k = _curved(coder, middle - reach, middle + reach, model.family, lambda k, u=u, off=off: (k - 0.5) * u - off)
        ks.append(k)
        values.append(k * step)
    if max(map(abs, (i, j, *ks))) > 2**30:
        coder.refuse("a code beyond 2^30")
    return [i, j, m, e, a, *ks], values


def dequantize(record: Record, row: Sequence[int], rgb: Sequence[int]) -> tuple[list[int], list[float]]:
    """The mean in units of 2^-14 pixel and the features, before binary32, of a row of codes. rgb: as in §6.4."""
    i, j, m, e, a, *ks = row
    shape = _shape(record, m, e, a)
    y = j * shape.sy
    x = i * shape.sx - shape.shear * y
    values = [k * (K * shape.phi) for k, K in zip(ks, record.K, strict=True)]
    for c in rgb if record.ycbcr else ():
        v, b, r = values[c : c + 3]
        values[c : c + 3] = v + 1.402 * r, (v - 0.344136 * b) - 0.714136 * r, v + 1.772 * b
    return [min(max(math.floor(v * 2**14 + 0.5), -(2**30)), 2**30 - 1) for v in (x, y)], values


# -- §5.4


def decode_columns(payload: bytes, count: int, widths: Sequence[int]) -> list[list[int]]:
    """Rows of the `columns` codec."""
    coder = Coder(payload)
    table = []
    for b in widths:
        contexts: dict[str, list[int]] = {}  # by the bits that are known
        column = []
        for _ in range(count):
            bits = ""
            while len(bits) < min(b, 8):
                bits += "1" if decision(coder, contexts.setdefault(bits, [4, 8])) else "0"
            column.append(int(bits, 2) << b - len(bits) | coder.bits(b - len(bits)))
        table.append(column)
    coder.end()
    return [list(row) for row in zip(*table, strict=True)]
