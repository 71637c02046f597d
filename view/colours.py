"""Colours that mean something: amounts by a perceptually uniform map, numbers by colours that are easy to tell apart.

Both are made in OKLab (Björn Ottosson, 2020), where equal distances look about equal: the map for amounts has lightness
proportional to the amount, so that it is as readable in grey.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

PAPER = (250, 249, 246)
INK = (38, 38, 42)
FAINT = (128, 127, 124)
MARK = (255, 64, 92)  # what is pointed at

# OKLab to the cube roots of cone responses, and these to linear sRGB.
_TO_CONES = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)
_TO_LINEAR = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_GOLDEN = 0.6180339887498949


def _linear(lightness: F64, chroma: F64, hue: F64) -> F64:
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    linear: F64 = (lab @ _TO_CONES.T) ** 3 @ _TO_LINEAR.T
    return linear


def oklch(lightness: npt.ArrayLike, chroma: npt.ArrayLike, hue: npt.ArrayLike) -> U8:
    """sRGB uint8 [..., 3]. lightness in [0, 1], hue in turns; chroma falls to what sRGB can show."""
    light, most, turn = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (lightness, chroma, hue)))
    low, high = np.zeros(light.shape), most.astype(np.float64)
    for _ in range(12):  # bisection to a thousandth of the chroma
        middle = (low + high) / 2
        linear = _linear(light, middle, 2 * np.pi * turn)
        inside = ((linear > -1e-4) & (linear < 1 + 1e-4)).all(axis=-1)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    linear = np.clip(_linear(light, low, 2 * np.pi * turn), 0.0, 1.0)
    value = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.floor(value * 255 + 0.5).astype(np.uint8)


@functools.cache
def sequential() -> U8:
    """The map for amounts, uint8 [256, 3]: from near black through violet and orange to pale yellow."""
    t = np.linspace(0.0, 1.0, 256)
    table = oklch(0.17 + 0.80 * t, 0.05 + 0.15 * np.sin(np.pi * t) ** 0.8, (0.77 + 0.52 * t) % 1.0)
    table.flags.writeable = False
    return table


def amounts(values: npt.ArrayLike, low: float, high: float) -> U8:
    """Values [...] as colours uint8 [..., 3]: ``low`` and below darkest, ``high`` and above lightest, NaN grey."""
    v = np.asarray(values, np.float64)
    share = np.clip((v - low) / (high - low if high > low else 1.0), 0.0, 1.0)
    nan = np.isnan(share)
    found: U8 = sequential()[np.floor(np.where(nan, 0.0, share) * 255 + 0.5).astype(np.intp)]
    if nan.any():
        found = found.copy()
        found[nan] = FAINT
    return found


def numbers(indices: npt.ArrayLike) -> U8:
    """A colour uint8 [..., 3] for each number: successive ones differ in hue, lightness varies; below 0 paper."""
    i = np.asarray(indices, np.int64)
    unique, inverse = np.unique(i, return_inverse=True)
    table = oklch(0.62 + 0.24 * ((unique * _GOLDEN**2 * 3) % 1.0), 0.10, (unique * _GOLDEN) % 1.0)
    table[unique < 0] = PAPER
    found: U8 = table[inverse.reshape(i.shape)]
    return found
