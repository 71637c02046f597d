"""A picture to fit square by square, and what may be asked of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from encoder_cases import picture

WIDTH, HEIGHT = 300, 200
CASES: dict[str, dict[str, Any]] = {
    "count": {"num_gaussians": 600}, "size": {"size": 4000}, "bpp": {"bpp": 0.5}, "quality": {"quality": 75},
}  # fmt: skip


def tile_picture() -> np.ndarray:
    """Smooth with edges, and one corner that is flat."""
    found = picture(WIDTH, HEIGHT)
    found[:70, :90] = 90
    return found
