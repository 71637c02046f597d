"""Keeping Gaussians off what lies beyond a picture that is part of a larger one, and is finished there.

A fit doesn't see those pixels, and a large Gaussian that is fine in its own picture may change many of them: where all
else is far, as in flat parts, the one of the smallest d² is what is seen.
"""

from __future__ import annotations

import dataclasses
import functools
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
    """What Gaussians of a picture may not reach, to d² ≤ R²: pixels beyond some of its sides and corners, and boxes.

    corners: each by its sides of x and of y, of open ones. What is closed begins ``margin`` pixels inside both, but for
    what the picture shows. boxes: (left, top, right, bottom) in the picture's pixels, more than a margin from it.
    """

    width: int
    height: int
    reach2: float
    sides: frozenset[int]
    corners: frozenset[tuple[int, int]] = frozenset()
    margin: int = 0
    boxes: tuple[tuple[int, int, int, int], ...] = ()

    def hold(self, model: Model) -> None:
        """Move and shrink the Gaussians that are beyond, in place."""
        for side in self.sides:
            self._inside(model, side)
        for by_x, by_y in self.corners:  # one arm after the other
            self._inside(model, by_x, self._room(model, by_y) < self.margin + _INSET)
            self._inside(model, by_y, self._room(model, by_x) < self.margin + _INSET)
        if self.boxes:  # no mean gets there
            for axis, length in enumerate((self.width, self.height)):
                model.position[:, axis].clamp_(-self.margin, length + self.margin)
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
        if self.boxes:
            factor = torch.minimum(factor, self._beside_boxes(model, across, down))
        scale, rotation = shapes.enlarge(model.scale, model.rotation, model.scale_map, factor.clamp_min(_LEAST))
        beyond = factor < 1
        model.scale.copy_(torch.where(beyond[:, None], scale, model.scale))
        model.rotation.copy_(torch.where(beyond, rotation, model.rotation))

    def _beside_boxes(self, model: Model, across: Tensor, down: Tensor) -> Tensor:
        """By what to shrink so that no box is reached, [N]: it ends before it along x, or else along y."""
        place = model.position.device
        if place not in self._edges:
            self._edges[place] = torch.tensor(self.boxes, dtype=torch.float32).to(place).unbind(1)
        left, top, right, bottom = self._edges[place]
        x, y = model.position[:, 0, None], model.position[:, 1, None]
        by_x = torch.maximum(left - x, x - right) / across[:, None]  # [N, boxes]
        by_y = torch.maximum(top - y, y - bottom) / down[:, None]
        return torch.maximum(by_x, by_y).amin(dim=1)

    @functools.cached_property
    def _edges(self) -> dict[torch.device, tuple[Tensor, ...]]:
        """The boxes' edges by device, [boxes] each: to bring them there would mean to wait for it at every step."""
        return {}

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
