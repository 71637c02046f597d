"""Small pictures that Gaussians can fit, and encodes of them that take a moment."""

from __future__ import annotations

import numpy as np

from igs.encoder import encode


def picture(width=40, height=30, channels=3, seed=0):
    """Smooth, with an edge: something that Gaussians can fit and noise can't."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        0.5 + 0.4 * np.sin((x * (c + 1) + y * (seed + 1)) / 9.0) * np.cos(y / 7.0) * np.where(x > width / 2, 1, 0.5)
        for c in range(channels)
    ]
    return np.round(np.stack(planes, axis=2) * 255).astype(np.uint8)


def small(image, **settings):
    return encode(image, **({"steps": 40, "num_gaussians": 30} | settings))
