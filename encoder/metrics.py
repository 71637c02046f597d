"""PSNR and MS-SSIM of a decoded picture against its source, both as values in [0, 1].

MS-SSIM: Wang et al. 2003, 11-tap Gaussian of deviation 1.5, five scales, valid part only, mean over channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igs.decoder.measure import psnr as psnr
from igs.encoder.blur import blur_block, gaussian_taps, row_blocks
from igs.format import Group, each_group, threads

_WINDOW = gaussian_taps(1.5, 5)
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_ROWS = 256  # of a halved picture that are made at a time
MS_SSIM_SIDE = 161  # pixels: below it the fourth halving leaves less than a window


def ms_ssim(a: NDArray[np.float32], b: NDArray[np.float32]) -> float | None:
    """MS-SSIM of pictures [H, W, C]; None if a side is below 161 pixels."""
    if min(a.shape[:2]) < MS_SSIM_SIDE:
        return None
    values = np.empty(a.shape[2])

    def measure(channel: int) -> None:
        values[channel] = _channel(a[:, :, channel], b[:, :, channel])

    threads.run(len(values), threads.default_threads(), measure)
    return float(values.mean())


def by_group(a: NDArray[np.float32], b: NDArray[np.float32], groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Name, number of channels, PSNR and MS-SSIM of each group of pictures [H, W, C]."""
    found = []
    for group, part, *_ in each_group(groups):
        both = a[..., part], b[..., part]
        quality = {"psnr": psnr(*both), "ms_ssim": ms_ssim(*both)}
        found.append({"name": group.name, "channels": group.channels, **quality})
    return found


def _channel(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    value = 1.0
    for i, weight in enumerate(_SCALES):
        if min(x.shape) < len(_WINDOW):
            break
        value *= max(_similarity(x, y, luminance=i == len(_SCALES) - 1), 1e-6) ** weight
        x, y = _halve(x), _halve(y)
    return value


def _similarity(x: NDArray[np.float32], y: NDArray[np.float32], luminance: bool) -> float:
    """The mean of SSIM's contrast and structure, and of its luminance if asked for; by blocks that the cache holds."""
    total = 0.0
    for rows in row_blocks(len(x), _WINDOW):
        a, b = np.ascontiguousarray(x[rows]), np.ascontiguousarray(y[rows])
        ma, mb = blur_block(a, _WINDOW), blur_block(b, _WINDOW)
        both, squares = ma * mb, ma * ma + mb * mb
        covariance, variances = blur_block(a * b, _WINDOW) - both, blur_block(a * a + b * b, _WINDOW) - squares
        part = (2 * covariance + 9e-4) / (variances + 9e-4)
        if luminance:
            part *= (2 * both + 1e-4) / (squares + 1e-4)
        total += float(part.sum(dtype=np.float64))
    return total / math.prod(side - len(_WINDOW) + 1 for side in x.shape)


def _halve(x: NDArray[np.float32]) -> NDArray[np.float32]:
    h, w = x.shape[0] // 2, x.shape[1] // 2
    half = np.empty((h, w), x.dtype)
    for first in range(0, h, _ROWS):  # one channel of several is copied by reshape
        part = x[2 * first : 2 * min(first + _ROWS, h), : 2 * w]
        half[first : first + _ROWS] = part.reshape(-1, 2, w, 2).mean((1, 3))
    return half
