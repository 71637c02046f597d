"""The lattice quantisers (spec §3.2, §6.4): precision by each Gaussian's own size and shape, in one record.

Sizes come first, then everything else is measured by them: the mean on a lattice in the Gaussian's own whitened
coordinates, the angle in as many steps as its elongation deserves, features in steps that shrink with its area.
Values here are exact binary64; how the codes are stored in a chunk is cells.py's business.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from igs.format.arithmetic import PI, cospi_sinpi, exp2, factor_of, log2
from igs.format.errors import UsageError
from igs.format.quantize import Codes

F64 = NDArray[np.float64]

RATIO_FALL = -0.375  # the power of σ₂ with which the elongation's spread falls, §5.3
ROOT_MIN = 0.5  # √σ₂ of code 0: σ₂ = ¼ pixel
ROOT_MAX = 128.0
RATIO_MAX = 12.0  # octaves between the deviations
LOG_MAX = 15.0  # log2 σ₁
ANGLES_MAX = 2**18
FEATURE_GAIN_MIN = 2.0**-6
ANGLE_BINS = 16
EDGE = 2.0**-8  # pixels that a mean keeps from the edge of the room there is for it
_CODE_MAX = 2**30

FAMILIES = ("logistic", "laplace", "student")


class ValueModel(NamedTuple):
    """How a value's codes are expected to spread: bytes as the file stores them (spec §5.3).

    family: 0 logistic, 1 Laplace, 2 Student's t with 4 degrees of freedom. pull: how far the expected value moves
    from the centre towards the neighbours', in 64ths. centre: in 16ths of the spread. spread: 2^((spread − 192)/16).
    """

    family: int
    pull: int
    centre: int
    spread: int

    @property
    def width(self) -> float:
        """The spread as a number."""
        return spread_value(self.spread)

    @property
    def mean(self) -> float:
        """The centre as a number."""
        return self.centre / 16 * self.width


# For records without Gaussians yet: models that hold anything. Sizes spread less than features do.
BROAD, BROADEST = ValueModel(2, 0, 0, 208), ValueModel(2, 0, 0, 255)


@functools.cache
def spread_value(code: int) -> float:
    """2^((code − 192)/16)."""
    return float(exp2(np.array([(code - 192) / 16]))[0])


@functools.cache
def step_value(code: int) -> float:
    """2^(−code/8)."""
    return float(exp2(np.array([-code / 8]))[0])


def step_code(step: float) -> int:
    """The nearest step code."""
    return int(np.clip(round(-8 * math.log2(step)), 0, 255))


@dataclasses.dataclass(frozen=True)
class Lattice:
    """Steps and models of a file with lattice quantisers, as the bytes that the file stores (spec §3.2).

    position, minor, ratio, rotation, feature: step codes, the step being 2^(−code/8): of the mean in standard
    deviations, of √σ₂, of log₂(σ₁/σ₂)·√σ₂, of the angle in radians of apparent turn, of each feature.
    ycbcr: RGB groups are stored as luma and two chroma differences. angles: 16 weights of 0–15, by angle.
    """

    position: int
    minor: int
    ratio: int
    rotation: int
    feature: tuple[int, ...]
    ycbcr: bool
    minor_model: ValueModel
    ratio_spread: int
    feature_models: tuple[ValueModel, ...]
    angles: tuple[int, ...] = (0,) * ANGLE_BINS

    def to_bytes(self) -> bytes:
        """The parameters of spec §3.2."""
        steps = bytes([self.position, self.minor, self.ratio, self.rotation, *self.feature, int(self.ycbcr)])
        models = b"".join(
            bytes([m.family << 6 | m.pull, m.centre & 255, m.spread]) for m in (self.minor_model, *self.feature_models)
        )
        nibbles = bytes(a | b << 4 for a, b in zip(self.angles[::2], self.angles[1::2], strict=True))
        return steps + models + bytes([self.ratio_spread]) + nibbles

    @staticmethod
    def size(features: int) -> int:
        """Bytes of the parameters."""
        return 4 + features + 1 + 3 * (features + 1) + 1 + ANGLE_BINS // 2

    @staticmethod
    def from_bytes(data: bytes, features: int) -> Lattice:
        """The inverse of ``to_bytes``; ``problems`` tells what is out of range."""
        at = 5 + features
        rows = [data[at + 3 * i : at + 3 * i + 3] for i in range(features + 1)]
        models = [ValueModel(b[0] >> 6, b[0] & 63, b[1] - 256 * (b[1] > 127), b[2]) for b in rows]
        at += 3 * (features + 1)
        angles = tuple(v for b in data[at + 1 : at + 1 + ANGLE_BINS // 2] for v in (b & 15, b >> 4))
        steps = tuple(data[4 : 4 + features])
        ycbcr = bool(data[4 + features])
        return Lattice(
            data[0], data[1], data[2], data[3], steps, ycbcr, models[0], data[at], tuple(models[1:]), angles
        )  # fmt: skip

    def problems(self) -> Iterator[tuple[str, str]]:
        """Pairs (expected, found) for what is out of range."""
        models = (self.minor_model, *self.feature_models)
        bytes_ = (self.position, self.minor, self.ratio, self.rotation, *self.feature, self.ratio_spread)
        for name, values, low, high in (
            ("step and spread codes", (*bytes_, *(m.spread for m in models)), 0, 255),
            ("model families", tuple(m.family for m in models), 0, len(FAMILIES) - 1),
            ("pulls", tuple(m.pull for m in models), 0, 63),
            ("centres", tuple(m.centre for m in models), -128, 127),
            ("weights of angles", self.angles, 0, 15),
        ):
            if min(values, default=low) < low or max(values, default=high) > high:
                yield f"{name} of {low} to {high}", str(values)
        if len(self.angles) != ANGLE_BINS or len(self.feature) != len(self.feature_models):
            found = f"{len(self.angles)} and {len(self.feature)}"
            yield f"{ANGLE_BINS} weights of angles and {len(self.feature_models)} steps of features", found


class Shapes(NamedTuple):
    """What codes of size and angle say: float64 [n] each, pixels and octaves."""

    sigma1: F64
    sigma2: F64
    log1: F64
    log2: F64
    turn: F64
    step: F64  # of the mean, in standard deviations
    gain: F64  # of the features' steps


def angle_count(lattice: Lattice, sigma1: F64, sigma2: F64, gain: F64) -> F64:
    """n, how many angles a Gaussian of this shape can have."""
    steps = (sigma1 / sigma2 - sigma2 / sigma1) * (PI / (step_value(lattice.rotation) * gain))
    return np.clip(np.ceil(steps), 1.0, float(ANGLES_MAX))


def sizes(lattice: Lattice, minor: ArrayLike, ratio: ArrayLike) -> tuple[F64, F64, F64, F64, F64, F64]:
    """(σ₁, σ₂, log₂σ₁, log₂σ₂, gain of geometry, gain of features) of size codes."""
    root = np.minimum(ROOT_MIN + np.asarray(minor, np.float64) * step_value(lattice.minor), ROOT_MAX)
    l2 = 2.0 * log2(root)
    rho = np.minimum(np.asarray(ratio, np.float64) * (step_value(lattice.ratio) / root), RATIO_MAX)
    l1 = np.minimum(l2 + rho, LOG_MAX)
    gain = exp2((l1 + 3.0 * l2) * -0.125)
    feature_gain = np.maximum(exp2((3.0 * l1 + 4.0 * l2) * -0.125), FEATURE_GAIN_MIN)
    return exp2(l1), root * root, l1, l2, gain, feature_gain


def shapes(lattice: Lattice, codes: Codes | F64) -> Shapes:
    """Sizes and angles of a codes table (columns as in spec §5)."""
    sigma1, sigma2, l1, l2, gain, feature_gain = sizes(lattice, codes[:, 2], codes[:, 3])
    turn = (codes[:, 4].astype(np.float64) + 0.5) / angle_count(lattice, sigma1, sigma2, gain)
    return Shapes(sigma1, sigma2, l1, l2, turn, step_value(lattice.position) * gain, feature_gain)


def mean_positions(codes: Codes, step: F64, p: F64, q: F64, r: F64) -> F64:
    """Means [n, 2] in pixels of the lattice codes (columns x, y); p, q, r: the factor in pixels (spec §6.2)."""
    i, j = (codes[:, c].astype(np.int32).astype(np.float64) for c in (0, 1))
    y = j * (step / r)
    x = i * (step / p) - (q / p) * y
    return np.stack([x, y], axis=1)


def feature_values(lattice: Lattice, codes: Codes, gain: F64, rgb: list[int]) -> F64:
    """Features [n, F] of a codes table. rgb: the first channels of the groups to turn back from luma and chroma."""
    steps = np.array([step_value(e) for e in lattice.feature])
    values = codes[:, 5:].astype(np.int32).astype(np.float64) * (steps * gain[:, None])
    return correlate(values, rgb) if lattice.ycbcr else values


def correlate(values: F64, rgb: list[int]) -> F64:
    """RGB in place of luma and chroma (spec §6.4), which start at each channel of ``rgb``."""
    out = values.copy()
    for c in rgb:
        y, cb, cr = values[:, c], values[:, c + 1], values[:, c + 2]
        out[:, c], out[:, c + 1], out[:, c + 2] = y + 1.402 * cr, (y - 0.344136 * cb) - 0.714136 * cr, y + 1.772 * cb
    return out


def decorrelate(features: F64, rgb: list[int]) -> F64:
    """Luma and chroma in place of RGB: what ``correlate`` undoes."""
    out = np.array(features, np.float64)
    for c in rgb:
        r, g, b = features[:, c], features[:, c + 1], features[:, c + 2]
        y = 0.299 * r + 0.587 * g + 0.114 * b
        out[:, c], out[:, c + 1], out[:, c + 2] = y, (b - y) / 1.772, (r - y) / 1.402
    return out


def factor(sigma1: F64, sigma2: F64, turn: F64) -> tuple[F64, F64, F64, F64, F64, F64, F64]:
    """(p, q, r, Σxx, Σxy, Σyy, D) of spec §6.2 without clamps and lowpass, pixels."""
    c, s = cospi_sinpi(turn)
    return factor_of(sigma1 * sigma1, sigma2 * sigma2, c * c, s * s, s * c)


def in_room(i: F64, j: F64, sx: F64, sy: F64, shear: F64, size: tuple[int, int]) -> tuple[F64, F64]:
    """Lattice points (i, j) [n], those outside the room that a chunk's grid has (spec §5.3) moved into it.

    sx, sy: steps of x and y, pixels; shear: q/p. A long Gaussian moves along itself, x + (q/p)·y staying what it is: it
    is the one whose steps are so wide, and it looks the same. Where steps are wider than the room a point may stay out.
    """
    lean, (width, height) = shear * sy, size
    edge = 2 * EDGE  # what rounding to units may take off
    least_x, most_x, least_y, most_y = edge - width, 2 * width - edge, edge - height, 2 * height - edge
    low, high = np.ceil(least_y / sy), np.floor(most_y / sy)
    with np.errstate(divide="ignore", invalid="ignore"):  # without a lean every row will do
        ends = (i * sx - np.array([[least_x], [most_x]])) / lean
    ends = np.where(lean == 0, np.array([[-np.inf], [np.inf]]), np.sort(ends, axis=0))
    first, last = np.maximum(low, np.ceil(ends[0])), np.minimum(high, np.floor(ends[1]))
    first, last = np.where(first <= last, first, low), np.where(first <= last, last, high)
    x = i * sx - lean * j
    out = (x < least_x) | (x > most_x) | (j < low) | (j > high)
    j = np.where(out & (first <= last), np.clip(j, first, last), j)
    low, high = np.ceil((least_x + lean * j) / sx), np.floor((most_x + lean * j) / sx)
    return np.where(out & (low <= high), np.clip(i, low, high), i), j


def encode(
    lattice: Lattice, position: F64, sigma: F64, turn: F64, features: F64, rgb: list[int], size: tuple[int, int]
) -> Codes:  # the nearest codes
    """Numbers → codes table uint32 [n, 5 + F].

    position: [n, 2] pixels. sigma: [n, 2] pixels, in any order; turn: [n] half-turns, the angle of the first one.
    features: [n, F] stored values. size: of the picture, (width, height). Raises UsageError for NaN or infinity.
    """
    for values in (position, sigma, turn, features):
        if not np.isfinite(values).all():
            raise UsageError("values to quantise: expected finite numbers, found NaN or infinity")
    swap = sigma[:, 0] < sigma[:, 1]
    turn = np.where(swap, turn + 0.5, turn)
    major, minor = sigma.max(axis=1), sigma.min(axis=1)
    codes = np.zeros((len(position), 5 + features.shape[1]), np.uint32)
    root = np.clip(np.sqrt(minor), ROOT_MIN, ROOT_MAX)
    codes[:, 2] = np.floor((root - ROOT_MIN) / step_value(lattice.minor) + 0.5)
    root = np.minimum(ROOT_MIN + codes[:, 2] * step_value(lattice.minor), ROOT_MAX)
    rho = np.clip(np.log2(major / (root * root)), 0.0, RATIO_MAX)
    codes[:, 3] = np.floor(rho / (step_value(lattice.ratio) / root) + 0.5)
    sigma1, sigma2, _, _, gain, feature_gain = sizes(lattice, codes[:, 2], codes[:, 3])
    n = angle_count(lattice, sigma1, sigma2, gain)
    codes[:, 4] = np.mod(np.floor((turn - np.floor(turn)) * n), n)
    part = shapes(lattice, codes)
    p, q, r, *_ = factor(part.sigma1, part.sigma2, part.turn)
    sy, sx = part.step / r, part.step / p
    j = np.clip(np.floor(position[:, 1] / sy + 0.5), -_CODE_MAX, _CODE_MAX)
    # By the y that was asked for, not the row's: the nearest point in the Gaussian's own coordinates, not along x.
    i = np.clip(np.floor((position[:, 0] + (q / p) * position[:, 1]) / sx + 0.5), -_CODE_MAX, _CODE_MAX)
    i, j = in_room(i, j, sx, sy, q / p, size)
    codes[:, 0], codes[:, 1] = i.astype(np.int32).view(np.uint32), j.astype(np.int32).view(np.uint32)
    values = decorrelate(features, rgb) if lattice.ycbcr else features
    steps = np.array([step_value(e) for e in lattice.feature])
    k = np.clip(np.floor(values / (steps * feature_gain[:, None]) + 0.5), -_CODE_MAX, _CODE_MAX)
    codes[:, 5:] = k.astype(np.int32).view(np.uint32)
    return codes
