"""What closing holes goes by, for a new file (pack.py) and for one with coarser steps (fewer_bits.py). Without torch.

A hole is a point that no Gaussian reaches (spec §7, ``topk``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from igs.format import Gaussians
from igs.format.fields import MEAN_UNIT

F64 = NDArray[np.float64]

# A Gaussian that must reach a point gets a little more than it needs: quantising may take some of it back.
MARGIN = 0.85
COVER = 0.95  # of the squared reach: so much is tested, as nothing is between the points of a grid
ROUNDS = 24
FINEST = 8  # bare points are looked for on up to this many points per pixel and axis …
POINTS = 10_000  # … and closed this many at a time
_EDGE = 2.0**-8  # pixels
_BLOCK = 4_000_000  # distances at once


def nearest(gaussians: Gaussians, points: F64) -> tuple[NDArray[np.intp], F64]:
    """For each point [m, 2] in pixels the Gaussian with the smallest d² (spec §7), and that d²."""
    means = gaussians.means.astype(np.float64) * MEAN_UNIT
    p, q, r = (gaussians.factors.astype(np.float64) / MEAN_UNIT).T
    who, best = np.zeros(len(points), np.intp), np.zeros(len(points))
    block = max(1, _BLOCK // len(means))
    for start in range(0, len(points), block):
        delta = points[start : start + block, None, :] - means[None]
        d2 = (p * delta[..., 0] + q * delta[..., 1]) ** 2 + (r * delta[..., 1]) ** 2
        who[start : start + block] = d2.argmin(axis=1)
        best[start : start + block] = d2.min(axis=1)
    return who, best


def out_of_room(gaussians: Gaussians, size: F64) -> NDArray[np.bool_]:
    """Which means lie outside the room that a lattice's chunks have (spec §5.3). size: [2], the picture's, pixels."""
    means = gaussians.means.astype(np.float64) * MEAN_UNIT
    beyond = (means < _EDGE - size) | (means > 2 * size - _EDGE)
    return np.asarray(beyond.any(axis=1))
