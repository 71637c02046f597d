"""Keeping Gaussians off what lies beyond a picture that is part of a larger one, and is finished there.

A fit doesn't see those pixels, and a large Gaussian that is fine in its own picture may change many of them: where all
else is far, as in flat parts, the one of the smallest d² is what is seen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from igs.encoder.raster import shapes
from igs.encoder.raster.model import Model

LEFT, TOP, RIGHT, BOTTOM = range(4)
_INSET = 2.0  # pixels from a closed side: the smallest Gaussians reach 1.5
_LEAST = 1e-3  # factor of a deviation


@dataclasses.dataclass(frozen=True)
class Fence:
    """Sides and corners of a picture that no Gaussian may reach beyond, to d² ≤ R².

    corners: each as (side of x, side of y, edges): what is closed is the square beyond both edges, pixels from these
    sides, but for what of it lies in the picture.
    """

    width: int
    height: int
    reach2: float
    sides: frozenset[int]
    corners: Sequence[tuple[int, int, tuple[int, int]]] = ()

    def hold(self, model: Model) -> None:
        """Move and shrink the Gaussians that are beyond, in place."""
        x, y = model.position.unbind(1)
        for values, low, high, size in ((x, LEFT, RIGHT, self.width), (y, TOP, BOTTOM, self.height)):
            values.clamp_(_INSET if low in self.sides else -math.inf, size - _INSET if high in self.sides else math.inf)
        across, down = self._extents(model)
        room = {LEFT: x, TOP: y, RIGHT: self.width - x, BOTTOM: self.height - y}
        factor = torch.ones_like(x)
        for side in self.sides:
            factor = torch.minimum(factor, room[side] / (down if side in (TOP, BOTTOM) else across))
        for by_x, by_y, (edge_x, edge_y) in self.corners:
            free_x, free_y = (room[by_x] - edge_x) / across, (room[by_y] - edge_y) / down
            beyond_x = torch.maximum(
                room[by_x] / across, free_y
            )  # it ends before either the picture's side or the edge
            factor = torch.minimum(factor, torch.minimum(beyond_x, torch.maximum(room[by_y] / down, free_x)))
        scale, rotation = shapes.enlarge(model.scale, model.rotation, model.scale_map, factor.clamp_min(_LEAST))
        beyond = factor < 1
        model.scale.copy_(torch.where(beyond[:, None], scale, model.scale))
        model.rotation.copy_(torch.where(beyond, rotation, model.rotation))

    def _extents(self, model: Model) -> tuple[Tensor, Tensor]:
        """How far Gaussians reach along x and y, each [N] pixels."""
        if shapes.is_matrix(model.scale_map):
            sxx, syy, _ = shapes.covariance_entries(model.scale, model.rotation, model.scale_map)
        else:
            first, second = model.sigmas().square().unbind(1)
            cosine = torch.cos(math.pi * model.rotation).square()
            sxx, syy = cosine * first + (1 - cosine) * second, cosine * second + (1 - cosine) * first
        return (self.reach2 * sxx).sqrt(), (self.reach2 * syy).sqrt()
