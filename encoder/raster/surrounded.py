"""Fitting Gaussians among others that stay as they are: those around a part of a larger picture (super_tiles.py).

The others are drawn behind those of the fit in every call, and get no gradient. So a fit knows nothing of them: what it
starts, moves, leaves out and rounds are its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from igs.encoder.raster.backend import Backend, Pullback
from igs.encoder.raster.loss import LossWeights, StepResult
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.rescale import Rescaled


class SurroundedBackend:
    """A backend that draws ``around`` with every model, and tells of the model's own Gaussians."""

    def __init__(self, backend: Backend, around: Model) -> None:
        self.backend = backend
        self.around = around.map(lambda t: t.to(backend.place))
        self.name, self.device, self.scratch = backend.name, backend.device, backend.scratch
        self.place, self.asynchronous, self.separable = backend.place, backend.asynchronous, backend.separable
        self._elsewhere: dict[Rescaled, SurroundedBackend] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def _all(self, model: Model) -> Model:
        """The model's Gaussians and those around, where the model lies."""
        return Model.joined([model, self.around.map(lambda t: t.to(model.position.device))])

    def at(self, there: Rescaled) -> SurroundedBackend:
        """The same for models in other coordinates."""
        if there not in self._elsewhere:
            self._elsewhere[there] = SurroundedBackend(self.backend, there.model(self.around))
        return self._elsewhere[there]

    def render(self, model: Model, options: RasterOptions) -> Tensor:
        """The picture of all [C, H, W]."""
        return self.backend.render(self._all(model), options)

    def step(self, model: Model, options: RasterOptions, target: Tensor, weights: LossWeights) -> StepResult:
        """Loss of the picture of all; gradients of the model's own."""
        result = self.backend.step(self._all(model), options, target, weights)
        position, scale, rotation, feature = (g[: len(model)] for g in result.grads)
        return dataclasses.replace(result, grads=(position, scale, rotation, feature))

    def pullback(self, model: Model, options: RasterOptions, pull: bool = False) -> Pullback | None:
        """Jᵀ of the picture of all, by the model's own."""
        inner, own = self.backend.pullback(self._all(model), options, pull), len(model)
        return None if inner is None else lambda picture: tuple(g[:own] for g in inner(picture))

    def removal_costs(
        self, model: Model, options: RasterOptions, target: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """By how much Σw·e² of the picture of all would rise without each of the model's own, about, [N]."""
        return self.backend.removal_costs(self._all(model), options, target, weight)[: len(model)]


def at(backend: Backend, there: Rescaled) -> Backend:
    """A backend for models in other coordinates: what it draws besides them has to be moved as well."""
    return backend.at(there) if isinstance(backend, SurroundedBackend) else backend
