"""Numbers per pixel: which Gaussian counts most, how many there are, how wrong the picture is."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from igs.decoder.grid import make_grid
from igs.decoder.reference import squared_distances
from igs.decoder.rule import Rule, Splats
from igs.decoder.strips import render_strips
from igs.format.threads import default_threads
from igs.view.scene import F32, F64, Region

I64 = npt.NDArray[np.int64]

_PART = 4096  # indices are rendered in two parts, which binary32 holds exactly
BEST_DB = 60.0  # local PSNR beyond which nobody sees a difference


def nearest(splats: Splats, rule: Rule, size: tuple[int, int], region: Region | None = None, scale: float = 1.0) -> I64:
    """The Gaussian with the smallest d² at each sample, int64 [h, w]: its weight in the blend is the largest; −1: none.

    size: width and height of the picture. Found by the decoder itself, which is asked for the numbers of the Gaussians
    as if they were colours, with a top-K of one. scale ≥ 1: below, numbers would be averaged; it is taken as 1.
    """
    x, y, w, h = region or (0, 0, *size)
    grid = make_grid(x, y, w, h, max(scale, 1.0), *size)
    index = np.arange(splats.means.shape[1])
    feature = np.stack([index // _PART, index % _PART], axis=1).astype(np.float32)
    ids = dataclasses.replace(
        rule,
        top_k=1,
        sum_blend=False,
        background=np.array([-1.0, 0.0], np.float32),
        lit=np.zeros(2, np.float32),
    )
    out = np.empty((grid.rows, grid.columns, 2), np.float32)
    layer = (dataclasses.replace(splats, features=feature), ids)
    render_strips([layer], grid, default_threads(), lambda top, strip: None, out)
    parts = np.rint(out).astype(np.int64)
    return np.where(parts[..., 0] < 0, -1, parts[..., 0] * _PART + parts[..., 1])


def nearest_reference(
    splats: Splats, rule: Rule, size: tuple[int, int], region: Region | None = None, scale: float = 1.0
) -> I64:
    """The same by trying every Gaussian at every sample."""
    x, y, w, h = region or (0, 0, *size)
    grid = make_grid(x, y, w, h, max(scale, 1.0), *size)
    points = np.stack(np.meshgrid(grid.xs, grid.ys), axis=-1).reshape(-1, 2)
    d2 = squared_distances(splats.means.T, splats.factors.T, points)
    found = np.where(d2.min(axis=1) <= np.float32(rule.reach2), d2.argmin(axis=1), -1)
    return found.reshape(grid.rows, grid.columns).astype(np.int64)


def density(means: npt.ArrayLike, width: int, height: int, blur: float | None = None) -> F64:
    """Gaussians per 1000 pixels [H, W], smoothed over ``blur`` pixels (default: their mean distance)."""
    points = np.asarray(means, np.float64)
    inside = ((points >= 0) & (points < [width, height])).all(axis=1)
    columns, rows = np.floor(points[inside]).astype(np.intp).T
    count = np.bincount(rows * width + columns, minlength=width * height).reshape(height, width).astype(np.float64)
    if blur is None:
        blur = float(np.sqrt(width * height / max(len(points), 1)))
    return 1000.0 * smoothed(count, blur)


def smoothed(values: F64, deviation: float) -> F64:
    """A Gaussian blur [H, W] that looks at no more than there is: weights are renormalised at the border."""
    if deviation <= 0:
        return values
    out = values
    for axis in (0, 1):
        kernel = _kernel(deviation, values.shape[axis])
        out = np.moveaxis(_along(np.moveaxis(out, axis, -1), kernel), -1, axis)
    return out


def _kernel(deviation: float, side: int) -> F64:
    reach = int(min(np.ceil(4 * deviation), side))
    kernel: F64 = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    return kernel


def _along(rows: F64, kernel: F64) -> F64:
    """Rows convolved with a kernel by FFT, over the same of ones."""
    side, reach = rows.shape[-1], len(kernel) // 2
    length = side + 2 * reach
    transform = np.fft.rfft(kernel, length)
    both = np.concatenate([rows, np.ones((1, side))])
    found = np.fft.irfft(np.fft.rfft(both, length) * transform, length)[:, reach : reach + side]
    blurred: F64 = found[:-1] / found[-1]
    return blurred


def errors(decoded: npt.ArrayLike, source: npt.ArrayLike) -> F64:
    """Root mean squared error over the channels, [H, W], in steps of 8-bit values. Pictures [H, W, C] in [0, 1]."""
    difference = np.asarray(decoded, np.float64) - np.asarray(source, np.float64)
    found: F64 = 255.0 * np.sqrt((difference**2).mean(axis=2))
    return found


def error_db(found: F64, blur: float = 3.0) -> F64:
    """Local PSNR in dB, [H, W]: of ``errors`` squared and averaged over ``blur`` pixels around, at most ``BEST_DB``."""
    mse = np.maximum(smoothed((found / 255.0) ** 2, blur), 10.0 ** (-BEST_DB / 10))
    decibels: F64 = -10.0 * np.log10(mse)
    return decibels


def busiest(pixels: F32, side: int) -> Region:
    """The square of ``side`` pixels (or what there is) with the most contrast between neighbours: where to zoom in."""
    grey = pixels.mean(axis=2, dtype=np.float64)
    height, width = grey.shape
    energy = np.zeros_like(grey)
    energy[:, 1:] += np.abs(np.diff(grey, axis=1))
    energy[1:, :] += np.abs(np.diff(grey, axis=0))
    w, h = min(side, width), min(side, height)
    sums = np.pad(energy, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    total = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    y, x = np.unravel_index(int(total.argmax()), total.shape)
    return float(x), float(y), float(w), float(h)
