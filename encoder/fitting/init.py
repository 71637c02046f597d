"""Where the first Gaussians go: the gradient as a position map, drawing from a map, neighbour distances.

Source: Image-GS section 3.2 (content-adaptive initialisation: probability (1 − λ)·‖∇I‖/Σ + λ/(HW)). Maps of saliency
are in saliency.py.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Map = NDArray[np.float64]
_ROUNDS, _SPARE = 8, 64  # of a draw: how many more than are missing are drawn at once


def gradient_map(pixels: NDArray[np.float32]) -> Map:
    """‖∇I‖ [H, W] of pixels [H, W, C]: central differences of every channel, root of the sum of squares."""
    total = np.zeros(pixels.shape[:2])
    for c in range(pixels.shape[2]):
        plane = pixels[:, :, c].astype(np.float64)
        for axis in (0, 1):
            if plane.shape[axis] > 1:
                total += np.gradient(plane, axis=axis) ** 2
    return np.sqrt(total)


def resample_map(values: Map, width: int, height: int) -> Map:
    """Any map [h, w] at the picture's size [H, W], bilinear; never negative."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.maximum(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float64), 0)


def draw_positions(
    map_: Map | NDArray[np.float32],
    n: int,
    uniform: float,
    power: float,
    rng: np.random.Generator,
    factor: Map | None = None,
    *,
    as_drawn: bool = False,
) -> NDArray[np.float64]:
    """n positions [n, 2] (x, y in pixels), each inside a pixel drawn with (1 − uniform)·map^power + uniform share.

    No pixel is drawn twice while there are enough of them; inside its pixel a position is uniform. factor: of each
    pixel's probability, [H, W], above 0; none: 1. Probabilities have the map's precision.

    They come row by row; ``as_drawn``: in the order of the draw, so that the first of them are a draw of fewer.
    """
    h, w = map_.shape
    p = np.maximum(map_, 0).ravel()
    largest = p.max()
    if largest > 0:
        p = (p / largest) ** p.dtype.type(power)
        if uniform:
            p = (1 - uniform) / float(p.sum(dtype=np.float64)) * p + uniform / (h * w)
    else:
        p = np.full_like(p, 1 / (h * w))
    if factor is not None:
        p *= factor.ravel()
    index = _draw(p, min(n, p.size), rng)
    if len(index) < n:  # more Gaussians than pixels
        of_all = p.astype(np.float64)
        index = np.concatenate([index, rng.choice(p.size, n - len(index), p=of_all / of_all.sum())])
    if not as_drawn:
        index.sort()
    return np.stack([index % w, index // w], axis=1) + rng.random((n, 2))


def _draw(p: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """n ≤ len(p) different indices, one after the other in proportion to p.

    Those that came before are passed over, which takes long where few have nearly all of p. What is missing then is the
    start of a race of exponential arrival times (Efraimidis and Spirakis), which has the same distribution.
    """
    sums, found = p.cumsum(dtype=np.float64), np.empty(0, np.int64)
    for _ in range(_ROUNDS):
        at = sums[-1] * rng.random(n - len(found) + _SPARE)
        drawn = np.searchsorted(sums[:-1], at, side="right")
        every = np.concatenate([found, drawn[p[drawn] > 0]])  # a product may be rounded up to the last sum
        found = every[np.sort(np.unique(every, return_index=True)[1])][:n]
        if len(found) == n:
            return found
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        times = rng.standard_exponential(p.size, p.dtype) / p  # inf where p is 0
    times[found] = np.nan  # behind all others
    first = np.argpartition(times, n - len(found) - 1)[: n - len(found)]
    return np.concatenate([found, first[np.argsort(times[first], kind="stable")]])


def top_positions(error: Map, n: int) -> NDArray[np.float64]:
    """The centres [n, 2] of the n pixels with the largest error [H, W], the first of equal ones; n > HW starts anew."""
    order = np.argsort(-error.ravel(), kind="stable")
    index = np.resize(order, n)
    return np.stack([index % error.shape[1], index // error.shape[1]], axis=1) + 0.5


class Pixels(Protocol):
    """Values [H, W, C]: an array, or what is indexed as one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any, /) -> NDArray[np.float32]: ...


def sample_bilinear(pixels: Pixels, points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values [n, C] of pixels [H, W, C] at points [n, 2], between pixel centres."""
    h, w = pixels.shape[:2]
    x, y = np.clip(points[:, 0] - 0.5, 0, w - 1), np.clip(points[:, 1] - 0.5, 0, h - 1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1 = np.minimum(x0 + 1, w - 1), np.minimum(y0 + 1, h - 1)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    top = pixels[y0, x0] * (1 - fx) + pixels[y0, x1] * fx
    bottom = pixels[y1, x0] * (1 - fx) + pixels[y1, x1] * fx
    return (top * (1 - fy) + bottom * fy).astype(np.float32)
