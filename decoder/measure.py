"""How a decoded picture is judged: its values as users get them, as errors count in them, and PSNR.

For the encoder, the report and the commands; no decode needs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from igs.format.transfer import CURVED, from_linear

if TYPE_CHECKING:
    from igs.decoder.image import Image
    from igs.format import Group

Values = npt.NDArray[np.float32]
_AT_ONCE = 2**24  # values whose errors are in memory together


def rounded(
    image: Image, bit_depth: int, times: float = 1, level: int | None = None, rows: tuple[int, int] | None = None
) -> Values:
    """A picture's values [H, W, C] as a user gets them at its source's depth, as float32: what is measured.

    times: enlarged so many times. rows: from which one on, before it is enlarged, and how many; None: all.
    """
    first, count = rows or (0, image.height)
    dtype, top = {8: ("uint8", 255), 16: ("uint16", 65535), 32: ("float32", 1)}[bit_depth]
    found = image.region(0, first, image.width, count, times, dtype, level)
    if bit_depth == 32:
        return np.asarray(found, np.float32)
    values = found.astype(np.float32)
    values /= np.float32(top)
    return values


def compared(values: Values, groups: Sequence[Group]) -> Values:
    """Picture values [..., C] as errors are measured: colours times their alpha, light by its curve.

    A colour that can't be seen counts for nothing so, and light above white for no more than its code does.
    """
    from igs.format import Alpha, each_group

    if all(group.alpha == Alpha.NONE and group.transfer not in CURVED for group in groups):
        return values
    found = np.array(values, np.float32)
    for group, _, lit, alpha in each_group(groups):
        colours = found[..., lit]
        if group.transfer in CURVED:
            colours[...] = from_linear(colours, group.transfer)
        if alpha is not None:
            colours *= found[..., alpha]
    return found


def psnr_of(mse: float) -> float:
    """PSNR in dB of a mean squared error of values in [0, 1]: 10·log10(1/mse); inf for 0."""
    return math.inf if mse <= 0 else -10 * math.log10(mse)


def psnr(a: npt.ArrayLike, b: npt.ArrayLike) -> float | None:
    """PSNR in dB over all values, of pictures in [0, 1]; None where they are equal (it would be infinite)."""
    x, y = np.atleast_1d(np.asarray(a, np.float32)), np.atleast_1d(np.asarray(b, np.float32))
    rows = max(1, _AT_ONCE // math.prod(x.shape[1:]))
    blocks = (slice(first, first + rows) for first in range(0, len(x), rows))
    mse = sum(float(np.sum((x[part] - y[part]) ** 2, dtype=np.float64)) for part in blocks) / x.size
    return None if mse == 0 else psnr_of(mse)
