"""The same Gaussians in other coordinates: enlarged or reduced, and moved."""

from __future__ import annotations

import dataclasses
import functools
import math

import torch
from torch import Tensor

from igs.encoder.raster import shapes
from igs.encoder.raster.loss import Grads
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions

# d(parameter there)/d(parameter here) as powers of the factor: of ``Model.scale`` and of ``Model.rotation``.
_POWERS = {"log": (0, 0), "raw": (1, 0), "inverse": (-1, 0), "cholesky": (1, 1), "covariance": (2, 2)}


@functools.lru_cache(maxsize=64)
def _offset(left: float, top: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[2], kept: making one waits for a device."""
    return torch.tensor([left, top], dtype=dtype, device=device)


@dataclasses.dataclass(frozen=True)
class Rescaled:
    """Coordinates (x − left)·factor, (y − top)·factor of a picture of width × height pixels there."""

    factor: float
    width: int
    height: int
    left: float = 0.0  # pixels here
    top: float = 0.0

    def back(self, width: int, height: int) -> Rescaled:
        """The way back from there to a picture of width × height pixels."""
        return Rescaled(1 / self.factor, width, height, -self.left * self.factor, -self.top * self.factor)

    def model(self, model: Model) -> Model:
        """A model as it is there."""
        f = self.factor
        position = model.position
        if self._moves:
            position = position - _offset(self.left, self.top, position.dtype, position.device)
        if model.scale_map == "log":
            scale, rotation = model.scale + math.log(f), model.rotation
        else:
            factors = model.scale.new_full((len(model),), f)
            scale, rotation = shapes.enlarge(model.scale, model.rotation, model.scale_map, factors)
        return Model(position * f, scale, rotation, model.feature, model.scale_map)

    def options(self, o: RasterOptions) -> RasterOptions:
        """Options for there; the pull of all pixels together stays the same."""
        pull = o.pull * (o.width * o.height) / (self.width * self.height)
        lowpass = o.lowpass * self.factor**2
        return dataclasses.replace(o, width=self.width, height=self.height, pull=pull, lowpass=lowpass)

    def gradients(self, grads: Grads | tuple[Tensor, ...], scale_map: str) -> Grads:
        """Gradients by the parameters here of those by the parameters there."""
        position, scale, rotation, feature = grads
        by_scale, by_rotation = _POWERS[scale_map]
        if by_scale:
            scale = scale * self.factor**by_scale
        if by_rotation:
            rotation = rotation * self.factor**by_rotation
        return position * self.factor, scale, rotation, feature

    @property
    def _moves(self) -> bool:
        return bool(self.left or self.top)
