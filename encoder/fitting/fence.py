"""Keeping Gaussians off what lies beyond a picture that is part of a larger one, and is finished there.

A fit doesn't see those pixels, and a large Gaussian that is fine in its own picture may change many of them: where all
else is far, as in flat parts, the one of the smallest d² is what is seen.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from igs.encoder.raster import shapes
from igs.encoder.raster.model import Model

LEFT, TOP, RIGHT, BOTTOM = range(4)
_INSET = 2.0  # pixels from a closed side: the smallest Gaussians reach 1.5
_LEAST = 1e-3  # factor of a deviation


@dataclasses.dataclass(frozen=True)
class Fence:
    """What Gaussians of a picture may not reach, to d² ≤ R²: pixels beyond some of its sides and corners.

    corners: each by its sides of x and of y, of open ones. What is closed begins ``margin`` pixels inside both, but for
    what the picture shows.
    """

    width: int
    height: int
    reach2: float
    sides: frozenset[int]
    corners: frozenset[tuple[int, int]] = frozenset()
    margin: int = 0

    def hold(self, model: Model) -> None:
        """Move and shrink the Gaussians that are beyond, in place."""
        for side in self.sides:
            self._inside(model, side)
        for by_x, by_y in self.corners:  # one arm after the other
            self._inside(model, by_x, self._room(model, by_y) < self.margin + _INSET)
            self._inside(model, by_y, self._room(model, by_x) < self.margin + _INSET)
        across, down = self._extents(model)
        room = [self._room(model, side) for side in range(4)]
        factor = torch.ones_like(across)
        for side in self.sides:
            factor = torch.minimum(factor, room[side] / (down if side in (TOP, BOTTOM) else across))
        for by_x, by_y in self.corners:
            # Both arms of what is closed: it ends before the side of one, or else before the edge of the other.
            by_side = room[by_x] / across, room[by_y] / down
            by_edge = (room[by_x] - self.margin) / across, (room[by_y] - self.margin) / down
            arms = torch.maximum(by_side[0], by_edge[1]), torch.maximum(by_side[1], by_edge[0])
            factor = torch.minimum(factor, torch.minimum(*arms))
        scale, rotation = shapes.enlarge(model.scale, model.rotation, model.scale_map, factor.clamp_min(_LEAST))
        beyond = factor < 1
        model.scale.copy_(torch.where(beyond[:, None], scale, model.scale))
        model.rotation.copy_(torch.where(beyond, rotation, model.rotation))

    def _room(self, model: Model, side: int) -> Tensor:
        """From each mean to a side, [N] pixels, negative beyond it."""
        along = model.position[:, side % 2]
        return along if side in (LEFT, TOP) else (self.width, self.height)[side % 2] - along

    def _inside(self, model: Model, side: int, which: Tensor | None = None) -> None:
        """Bring means beyond a side, or nearly, inside, in place. which: of these Gaussians [N]; None: of all."""
        missing = (_INSET - self._room(model, side)).clamp_min(0)
        if which is not None:
            missing = torch.where(which, missing, 0.0)
        model.position[:, side % 2] += missing if side in (LEFT, TOP) else -missing

    def _extents(self, model: Model) -> tuple[Tensor, Tensor]:
        """How far Gaussians reach along x and y, each [N] pixels."""
        if shapes.is_matrix(model.scale_map):
            sxx, syy, _ = shapes.covariance_entries(model.scale, model.rotation, model.scale_map)
        else:
            first, second = model.sigmas().square().unbind(1)
            cosine = torch.cos(math.pi * model.rotation).square()
            sxx, syy = cosine * first + (1 - cosine) * second, cosine * second + (1 - cosine) * first
        return (self.reach2 * sxx).sqrt(), (self.reach2 * syy).sqrt()
