"""Where the samples of a region lie (spec §8.1, §8.2), in the fixed-point units of spec §7.

Checks the region. Knows nothing of Gaussians.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from igs.format.errors import UsageError
from igs.format.fields import BOUND, UNIT

MAX_SIDE = 1 << 20  # of a decoded region, in samples: keeps sizes far inside 64-bit arithmetic


@dataclasses.dataclass(frozen=True)
class Grid:
    """The sample points of a region: one row of x and one column of y, as int32 units.

    An output column has ``reduction`` successive entries of ``xs``, each row as many of ``ys``; it holds their mean.
    """

    columns: int
    rows: int
    reduction: int
    xs: npt.NDArray[np.int32]  # [columns · reduction]
    ys: npt.NDArray[np.int32]  # [rows · reduction]


def output_size(length: float, scale: float) -> int:
    """Samples along a side of ``length`` pixels."""
    return max(1, math.floor(length * scale + 0.5))


def to_units(coordinates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """⌊v·2^14 + 0.5⌋ as float64 (may lie outside the representable range)."""
    return np.floor(coordinates * UNIT + 0.5)


def _axis(start: float, samples: int, reduction: int, scale: float) -> npt.NDArray[np.int32]:
    at = np.arange(samples, dtype=np.float64)
    if reduction == 1:
        at += 0.5
    else:
        at = (at[:, None] + (np.arange(reduction, dtype=np.float64) + 0.5) / reduction).ravel()
    at /= scale
    at += start
    return np.minimum(to_units(at), BOUND - 1).astype(np.int32)


def check_finite(**numbers: float) -> None:
    """UsageError naming the first argument that is not a finite real number."""
    for name, value in numbers.items():
        try:
            finite = math.isfinite(value)
        except (TypeError, ValueError, OverflowError):
            finite = False
        if not finite:
            raise UsageError(f"{name}: expected a finite number, found {value!r}")


def make_grid(x: float, y: float, w: float, h: float, scale: float, width: int, height: int) -> Grid:
    """The grid of ``region(x, y, w, h, scale)`` in a picture of ``width`` × ``height`` pixels.

    Raises UsageError for a region that is empty or leaves the picture, a scale that isn't above 0, and a result of more
    than 2^20 samples a side.
    """
    check_finite(x=x, y=y, w=w, h=h, scale=scale)
    x, y, w, h, scale = (float(number) for number in (x, y, w, h, scale))  # small types of NumPy's would overflow
    if not scale > 0:
        raise UsageError(f"scale: expected above 0, found {scale}")
    for name, start, length, whole in (("x", x, w, width), ("y", y, h, height)):
        side = "w" if name == "x" else "h"
        if not (length > 0 and start >= 0 and start + length <= whole):
            raise UsageError(
                f"region: expected 0 ≤ {name}, {side} > 0 and {name} + {side} ≤ {whole}, "
                f"found {name} = {start}, {side} = {length}"
            )
    if not max(w, h) * scale <= MAX_SIDE:
        raise UsageError(f"scale: expected at most {MAX_SIDE} samples a side, found {max(w, h) * scale:.0f}")
    columns, rows = output_size(w, scale), output_size(h, scale)
    # A single output sample that averages over several times the picture is a mistake, and would take for ever.
    if scale < 1 and 1 / scale > max(1024, 2 * max(width, height)):
        raise UsageError(f"scale: expected at least {1 / max(1024, 2 * max(width, height)):.3g}, found {scale}")
    reduction = math.ceil(1 / scale) if scale < 1 else 1
    return Grid(columns, rows, reduction, _axis(x, columns, reduction, scale), _axis(y, rows, reduction, scale))
