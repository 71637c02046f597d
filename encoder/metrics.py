"""PSNR and MS-SSIM of a decoded picture against its source, both as values in [0, 1].

MS-SSIM: Wang et al. 2003, 11-tap Gaussian of deviation 1.5, five scales, valid part only, mean over channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igs.decoder.measure import psnr as psnr
from igs.decoder.measure import psnr_of
from igs.encoder.blur import blur_block, gaussian_taps, row_blocks
from igs.format import Group, each_group, threads

_WINDOW = gaussian_taps(1.5, 5)
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_ROWS = 256  # of a halved picture that are made at a time
_AT_ONCE = 2**22  # values whose errors are in memory together
MS_SSIM_SIDE = 161  # pixels: below it the fourth halving leaves less than a window


class Errors:
    """Squared errors of two pictures, channel by channel: sums over pixels as they come."""

    def __init__(self, channels: int) -> None:
        self._sums, self._pixels = np.zeros(channels), 0

    def add(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
        """More pixels of both, [..., C]."""
        step = max(1, _AT_ONCE // max(1, a[:1].size))
        for first in range(0, len(a), step):
            part = slice(first, first + step)
            self._sums += np.square(a[part] - b[part]).reshape(-1, a.shape[-1]).sum(axis=0, dtype=np.float64)
        self._pixels += a.size // a.shape[-1]

    def means(self) -> NDArray[np.float64]:
        """The mean squared error of each channel, [C]."""
        return self._sums / self._pixels

    def psnr(self, channels: slice = slice(None)) -> float | None:
        """PSNR in dB over some channels, all being the default; None where they are equal, or nothing came."""
        sums = self._sums[channels]
        return psnr_of(sums.sum() / (len(sums) * self._pixels)) if sums.any() else None


class Comparison(Errors):
    """Two pictures [H, W, C], compared by rows as they come: so many of them are in memory."""

    def __init__(self, shape: Sequence[int]) -> None:
        height, width, channels = shape
        super().__init__(channels)
        large = min(height, width) >= MS_SSIM_SIDE
        self._scales = [_Scale(height, width, 0) for _ in range(channels)] if large else []

    def add(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
        """The next rows of both, [rows, W, C]."""
        super().add(a, b)
        threads.run(len(self._scales), threads.default_threads(), lambda c: self._scales[c].add(a[:, :, c], b[:, :, c]))

    def ms_ssim(self, channels: slice = slice(None)) -> float | None:
        """MS-SSIM, the mean over some channels; None if a side is below 161 pixels."""
        return float(np.mean([scale.product() for scale in self._scales[channels]])) if self._scales else None


class _Scale:
    """SSIM of one channel at one of the scales, and those below, by rows as they come."""

    def __init__(self, height: int, width: int, number: int) -> None:
        reach = len(_WINDOW) - 1
        self._number, self._total = number, 0.0
        self._windows = (height - reach) * (width - reach)
        nothing = np.empty((0, width), np.float32)
        self._seen = nothing, nothing  # of each picture the rows that windows to come see
        self._single = nothing, nothing  # … and the one that waits for a second to be halved with
        more = number + 1 < len(_SCALES) and min(height, width) // 2 > reach
        self._next = _Scale(height // 2, width // 2, number + 1) if more else None

    def add(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
        """The next rows of both pictures."""
        x, y = _behind(self._seen[0], a), _behind(self._seen[1], b)
        self._total += _similarity(x, y, luminance=self._number == len(_SCALES) - 1)
        kept = max(0, len(x) - len(_WINDOW) + 1)
        self._seen = x[kept:].copy(), y[kept:].copy()
        if self._next is not None:
            x, y = _behind(self._single[0], a), _behind(self._single[1], b)
            pairs = len(x) // 2 * 2
            self._single = x[pairs:].copy(), y[pairs:].copy()
            if pairs:
                self._next.add(_halve(x), _halve(y))

    def product(self) -> float:
        """The product of this scale's SSIM and those below, each to its power."""
        own = max(self._total / self._windows, 1e-6) ** _SCALES[self._number]
        return own * (1.0 if self._next is None else self._next.product())


def ms_ssim(a: NDArray[np.float32], b: NDArray[np.float32]) -> float | None:
    """MS-SSIM of pictures [H, W, C]; None if a side is below 161 pixels."""
    found = Comparison(a.shape)
    found.add(a, b)
    return found.ms_ssim()


def by_group(found: Comparison, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Name, number of channels, PSNR and MS-SSIM of each group of two pictures."""
    return [
        {
            "name": at.group.name,
            "channels": at.group.channels,
            "psnr": found.psnr(at.whole),
            "ms_ssim": found.ms_ssim(at.whole),
        }
        for at in each_group(groups)
    ]


def _behind(before: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows behind those that were kept."""
    return np.concatenate([before, rows]) if len(before) else rows


def _similarity(x: NDArray[np.float32], y: NDArray[np.float32], luminance: bool) -> float:
    """SSIM's contrast and structure, and luminance if asked for, summed over all windows; by blocks in the cache."""
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
    return total


def _halve(x: NDArray[np.float32]) -> NDArray[np.float32]:
    h, w = x.shape[0] // 2, x.shape[1] // 2
    half = np.empty((h, w), x.dtype)
    for first in range(0, h, _ROWS):  # one channel of several is copied by reshape
        part = x[2 * first : 2 * min(first + _ROWS, h), : 2 * w]
        half[first : first + _ROWS] = part.reshape(-1, 2, w, 2).mean((1, 3))
    return half
