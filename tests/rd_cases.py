"""Curves and pictures that the rate-distortion benchmark is tested with."""

from __future__ import annotations

import numpy as np

TEST = [(0.1, 27.0), (0.15, 28.4), (0.2, 29.3), (0.3, 30.9), (0.4, 31.8)]
# One point (0.17) is beaten by a cheaper one (0.16).
ANCHOR = [(0.05, 23.1), (0.09, 26.2), (0.17, 28.0), (0.16, 28.1), (0.26, 30.0), (0.5, 32.9), (0.9, 36.0)]


def points(curve: list[tuple[float, float]], up: float = 0.0, rate: float = 1.0) -> list[dict[str, float]]:
    """A curve's points; MS-SSIM and FLIP such that their decibels are a third of PSNR's."""
    made = []
    for bpp, psnr in curve:
        rest = 10 ** (-(psnr + up) / 30)
        made.append({"bpp": bpp * rate, "psnr": psnr + up, "ms_ssim": 1 - rest, "flip": rest})
    return made


def pictures(size: tuple[int, int] = (192, 176)) -> tuple[np.ndarray, np.ndarray]:
    """A picture with flat, smooth and busy parts, and a damaged copy, uint8 [H, W, 3]."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: size[0], : size[1]] * (4.5 / max(size))
    base = np.stack([np.sin(x) * np.cos(y), np.sin(x * y / 3), np.where(x > 2, 0.5, -0.5)], 2) * 90 + 128
    noise = rng.normal(0, 12, base.shape) * (y > 2)[..., None]
    return base.clip(0, 255).astype(np.uint8), (base + noise).clip(0, 255).astype(np.uint8)
