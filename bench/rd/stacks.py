"""Texture stacks for bench/textures.py: loading them, igs on whole stacks and on single maps, and quality per map."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rd.metrics import C1, C2, psnr, smooth

Pixels = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Stack:
    """A material's maps at one size: 8-bit pixels [H, W, C], and each map's name and number of channels."""

    name: str
    pixels: Pixels
    maps: tuple[tuple[str, int], ...]

    @property
    def slices(self) -> dict[str, slice]:
        """Each map's channels."""
        ends = np.cumsum([count for _, count in self.maps]).tolist()
        return {name: slice(end - count, end) for (name, count), end in zip(self.maps, ends, strict=True)}

    def arrays(self) -> dict[str, Pixels]:
        """The maps by name, as igs.encode takes them."""
        return {name: self.pixels[..., part] for name, part in self.slices.items()}


def load(folder: Path, side: int | None) -> Stack:
    """The maps of a directory, found as igs-encode finds them; side: of the longer side, by means of pixels."""
    from igs.encoder.loading.stack import find_maps

    planes, maps = [], []
    for name, path in find_maps(folder)[0].items():
        with Image.open(path) as image:
            if side is not None and max(image.size) > side:
                scale = side / max(image.size)
                size = tuple(max(1, round(s * scale)) for s in image.size)
                image = image.resize(size, Image.Resampling.BOX)
            pixels = np.atleast_3d(np.asarray(image))
        planes.append(pixels)
        maps.append((name, pixels.shape[2]))
    return Stack(folder.name, np.concatenate(planes, axis=2), tuple(maps))


def ssim(source: NDArray[Any], decoded: NDArray[Any]) -> float:
    """Mean SSIM (Wang et al. 2004) of pictures [H, W, C] in [0, 1]: 11-tap window, valid part, all channels."""
    a, b = np.asarray(source, np.float64), np.asarray(decoded, np.float64)
    mean_a, mean_b = smooth(a), smooth(b)
    variances = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return float((luminance * (2 * covariance + C2) / (variances + C2)).mean())


def quality(stack: Stack, decoded: NDArray[Any]) -> dict[str, Any]:
    """PSNR and SSIM of each map, their means over the maps, and the PSNR of all channels together.

    decoded: [H, W, C] in [0, 255]. A map that is exact counts as 99 dB, and in the mean as 60.
    """
    a, b = stack.pixels / 255.0, decoded / 255.0
    each = {
        n: {"psnr": psnr(a[..., s], b[..., s]), "ssim": ssim(a[..., s], b[..., s])} for n, s in stack.slices.items()
    }
    return {
        "psnr": psnr(a, b),
        "psnr_mean": float(np.mean([min(m["psnr"], 60.0) for m in each.values()])),
        "ssim_mean": float(np.mean([m["ssim"] for m in each.values()])),
        "maps": each,
    }


def joint(
    stack: Stack, bppc: float, effort: int, threads: int | None, parts: str = "auto"
) -> tuple[int, NDArray[Any], dict[str, Any]]:
    """One file of all maps at a rate in bits per pixel and channel: bytes, decoded values, and what the report says.

    parts: which maps share Gaussians, as for ``igs.encode``.
    """
    return _encoded(stack.arrays(), stack.pixels.shape[2] * bppc, effort, threads, parts)


def single(
    stack: Stack, name: str, bppc: float, effort: int, threads: int | None
) -> tuple[int, NDArray[Any], dict[str, Any]]:
    """One map in a file of its own, otherwise alike."""
    array = stack.arrays()[name]
    return _encoded({name: array}, array.shape[2] * bppc, effort, threads)


def _encoded(
    maps: dict[str, Pixels], bpp: float, effort: int, threads: int | None, parts: str = "auto"
) -> tuple[int, NDArray[Any], dict[str, Any]]:
    import igs

    encoded = igs.encode(maps, bpp=bpp, effort=effort, threads=threads, parts=parts)
    with igs.open(io.BytesIO(encoded.data)) as im:
        decoded = np.concatenate([im.groups[name].decode() for name in maps], axis=2)
    kept = {name: encoded.report[name] for name in ("num_gaussians", "steps", "seconds")}
    if "parts" in encoded.report:
        kept["parts"] = [part["groups"] for part in encoded.report["parts"]]
    return len(encoded.data), decoded.astype(np.float64), kept


def best_split(curves: Sequence[Sequence[tuple[float, float]]], budget: float) -> float | None:
    """The least sum of errors of maps that are coded apart, with ``budget`` bytes in all; None if they need more.

    curves: per map its measured points (bytes, squared error). Between them error is taken to be a power of bytes,
    which favours coding apart: such files would have to be made first.
    """
    samples = []
    for curve in curves:
        points = sorted(curve)
        sizes, errors = (np.log(np.maximum([p[i] for p in points], 1e-9)) for i in (0, 1))
        at = np.linspace(sizes[0], sizes[-1], 200)
        samples.append((np.exp(at), np.exp(np.interp(at, sizes, errors))))
    if sum(size[0] for size, _ in samples) > budget:
        return None
    low, high = -60.0, 60.0  # log of what a byte costs
    for _ in range(80):
        price = np.exp((low + high) / 2)
        chosen = [int(np.argmin(error + price * size)) for size, error in samples]
        spent = sum(size[i] for (size, _), i in zip(samples, chosen, strict=True))
        low, high = ((low + high) / 2, high) if spent > budget else (low, (low + high) / 2)
    chosen = [int(np.argmin(error + np.exp(high) * size)) for size, error in samples]
    return float(sum(error[i] for (_, error), i in zip(samples, chosen, strict=True)))


def at_rate(points: Sequence[tuple[float, float]], rate: float) -> float | None:
    """Quality at a rate by the best points (rate, quality) of a codec, linear over the rate's logarithm.

    Nothing is extrapolated downwards; above the highest rate its quality holds.
    """
    best: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not best or y > best[-1][1]:
            best.append((x, y))
    if not best or rate < best[0][0]:
        return None
    return float(np.interp(np.log(rate), [np.log(x) for x, _ in best], [y for _, y in best]))
