"""Closing holes, for a new file (pack.py) and for one with coarser steps (fewer_bits.py). Without torch.

A hole is a point that no Gaussian reaches (spec §7, ``topk``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from igs.format import Gaussians, Header
from igs.format.fields import MEAN_UNIT
from igs.format.lattice import EDGE

F64 = NDArray[np.float64]
Rounded = tuple[Header, NDArray[np.uint32], Gaussians]  # a model's header, its codes, and what these stand for

# A Gaussian that must reach a point gets a little more than it needs: quantising may take some of it back.
_MARGIN = 0.85
_COVER = 0.95  # of the squared reach: so much is tested, as nothing is between the points of a grid
_ROUNDS = 24
_FINEST = 8  # bare points are looked for on up to this many points per pixel and axis …
_POINTS = 10_000  # … and closed this many at a time
_BLOCK = 4_000_000  # distances at once


def closed(
    rounded: Callable[[], Rounded],
    close: Callable[[Gaussians, F64], None],
    reach2: float,
    rows: slice = slice(None),
    before: Gaussians | None = None,
) -> Rounded:
    """Round, look for bare points and close them, in turn, until none is left or the rounds are over.

    rounded: rounds the model as it is now. close: changes it so that it reaches points [m, 2], pixels; it gets the
    Gaussians as rounded. rows: the Gaussians that must reach all points by themselves. before: only points that these
    reach count. Returns what was rounded last, which is what was looked at.
    """
    from igs.decoder import holes  # loads Numba

    grid = 1
    for _ in range(_ROUNDS):
        found = header, _, gaussians = rounded()
        tight = dataclasses.replace(header, reach2=_COVER * reach2)
        points = np.empty((0, 2))
        while len(points) == 0 and grid <= _FINEST:  # wide holes are seen, and closed, on coarser grids first
            points = holes(tight, gaussians[rows], grid)
            points = points[:: 1 + len(points) // _POINTS]
            if before is not None:
                points = points[nearest(before, points)[1] <= _COVER * reach2]
            grid *= 1 if len(points) else 2
        if len(points) == 0:
            break
        close(gaussians[rows], points)
    return found


def growth(gaussians: Gaussians, points: F64, reach2: float) -> F64:
    """How many times as large each Gaussian must be, float64 [n], for the nearest of each point to reach it."""
    who, d2 = nearest(gaussians, points)
    factor = np.ones(len(gaussians))
    np.maximum.at(factor, who, np.sqrt(d2 / (_MARGIN * reach2)))
    return factor


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
    beyond = (means < EDGE - size) | (means > 2 * size - EDGE)
    return np.asarray(beyond.any(axis=1))
