"""Pictures reduced before they are fitted, to be shown enlarged (``--downsample``; the fit is raster/area.py's)."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from igs.encoder.loading.source import SourceImage
from igs.format.errors import UsageError

_ROWS = 256  # of the reduced picture that are made at a time


def reduce(pixels: NDArray[np.float32], r: int) -> NDArray[np.float32]:
    """Means over squares of r × r pixels, [⌈H/r⌉, ⌈W/r⌉, C]; those at the end over what there is of them."""
    found = np.empty((-(-pixels.shape[0] // r), -(-pixels.shape[1] // r), pixels.shape[2]), np.float32)
    columns = np.arange(0, pixels.shape[1], r)
    widths = np.diff(np.append(columns, pixels.shape[1]))
    for row, out in enumerate(found):
        part = pixels[row * r : (row + 1) * r].sum(axis=0, dtype=np.float64)
        out[...] = np.add.reduceat(part, columns, axis=0) / (widths * len(pixels[row * r : (row + 1) * r]))[:, None]
    return found


def reduced(source: SourceImage, r: int) -> SourceImage:
    """A picture r times smaller. Raises UsageError where nothing would be left of it to speak of."""
    if r > min(source.width, source.height):
        raise UsageError(
            f"downsample: expected at most the shorter side, {min(source.width, source.height)}, found {r}"
        )
    if r == 1:
        return source
    step = _ROWS * r
    rows = [reduce(source[first : first + step], r) for first in range(0, source.height, step)]
    return dataclasses.replace(source, values=np.concatenate(rows))
