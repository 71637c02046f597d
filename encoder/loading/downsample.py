"""Pictures reduced before they are fitted, to be shown enlarged (``--downsample``; the fit is raster/area.py's)."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from igs.encoder.loading.source import SourceImage
from igs.format.errors import UsageError


def reduce(pixels: NDArray[np.float32], r: int) -> NDArray[np.float32]:
    """Means over squares of r × r pixels, [⌈H/r⌉, ⌈W/r⌉, C]; those at the end over what there is of them."""
    rows, columns = (np.arange(0, n, r) for n in pixels.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.float64), rows, axis=0), columns, axis=1)
    height, width = (np.diff(np.append(starts, n)) for starts, n in zip((rows, columns), pixels.shape[:2], strict=True))
    return np.ascontiguousarray(sums / (height[:, None] * width[None, :])[:, :, None], np.float32)


def reduced(source: SourceImage, r: int) -> SourceImage:
    """A picture r times smaller. Raises UsageError where nothing would be left of it to speak of."""
    if r > min(source.width, source.height):
        raise UsageError(
            f"downsample: expected at most the shorter side, {min(source.width, source.height)}, found {r}"
        )
    return source if r == 1 else dataclasses.replace(source, pixels=reduce(source.pixels, r))
