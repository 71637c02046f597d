"""Pictures made worse in known ways, and the simple filters that a restoration is measured against.

Noise: white and Gaussian, independent per value, of deviation σ in 8-bit steps, rounded and clipped. JPEG: Pillow's
quality, 4:2:0. Banding: each channel rounded to L values evenly spread over 0 … 255, without dither. Every one is a
function of the picture alone (the noise has a fixed seed), so that a run can be repeated.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter

Pixels = NDArray[np.uint8]  # [H, W, 3]

NOISE_SEED = 0
# From hardly visible to plainly soft: the best for σ = 20 on smooth pictures and for light noise on sharp ones differ
# by about that much.
BLURS = (0.6, 1.0, 1.6)  # standard deviations, pixels
MEDIANS = (3, 5)  # sides of the square, pixels


@dataclass(frozen=True)
class Degradation:
    """`kind` is clean, noise, jpeg or banding; `amount` σ in 8-bit steps, JPEG quality, or values per channel."""

    kind: str
    amount: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind} {self.amount}" if self.amount else self.kind

    @property
    def label(self) -> str:
        """As the tables call it."""
        texts = {"clean": "none", "noise": "noise, σ = {}", "jpeg": "JPEG, quality {}", "banding": "banding, {} values"}
        return texts[self.kind].format(self.amount)

    def __call__(self, pixels: Pixels) -> Pixels:
        """The degraded picture, uint8 [H, W, 3]. Raises ValueError for a kind that doesn't exist."""
        if self.kind == "clean":
            return pixels
        if self.kind == "noise":
            return noisy(pixels, self.amount)
        if self.kind == "jpeg":
            return jpeg(pixels, self.amount)
        if self.kind == "banding":
            return banded(pixels, self.amount)
        raise ValueError(f"expected clean, noise, jpeg or banding, found {self.kind!r}")


# `clean` first: it says what a codec makes of the original at that rate, which bounds what it can give back.
ALL = (
    Degradation("clean"),
    *(Degradation("noise", sigma) for sigma in (10, 20)),
    *(Degradation("jpeg", quality) for quality in (10, 20, 40)),
    *(Degradation("banding", levels) for levels in (8, 16)),
)


def noisy(pixels: Pixels, sigma: float, seed: int = NOISE_SEED) -> Pixels:
    """White Gaussian noise of standard deviation `sigma` (8-bit steps) added; the same field for equal shapes."""
    noise = np.random.default_rng(seed).normal(0.0, sigma, pixels.shape)
    return _to_uint8(pixels + noise)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """What is left after baseline JPEG at Pillow's `quality` (1 to 95) with 4:2:0 chroma."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(out) as im:
        return np.asarray(im.convert("RGB"))


def banded(pixels: Pixels, levels: int) -> Pixels:
    """Each value moved to the nearest of `levels` (2 to 256) values evenly spread over 0 … 255."""
    steps = levels - 1
    return _to_uint8(np.floor(pixels * (steps / 255) + 0.5) * (255 / steps))


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    """Convolved with a Gaussian of standard deviation `sigma` pixels, in the values as stored; edges repeated."""
    return _to_uint8(gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0), mode="nearest"))


def median(pixels: Pixels, side: int) -> Pixels:
    """Each channel's median over `side` × `side` pixels; edges repeated."""
    return median_filter(pixels, (side, side, 1), mode="nearest")


def _to_uint8(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
