"""Fitting what a camera's pixel sees: the mean over a square of points, not the value at its centre.

For pictures that were reduced and shall be shown enlarged (``--downsample``): who compares point samples with the means
that a reduced picture holds gets a blurred enlargement. Here a fit's picture is drawn R times as large and averaged.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from igs.encoder.raster.backend import PlainBackend, Pullback, Scratch, averaged, spread
from igs.encoder.raster.loss import LossWeights, StepResult
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.rescale import Rescaled

MOST_POINTS = 4  # a side: what a pixel's mean is taken over at most


class AreaBackend:
    """A backend whose pixels are means over ``points`` × ``points`` points."""

    def __init__(self, backend: PlainBackend, points: int) -> None:
        self.backend, self.points = backend, points
        self.name, self.device = backend.name, backend.device
        self.place, self.asynchronous, self.separable = backend.place, backend.asynchronous, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    @property
    def scratch(self) -> Scratch:
        """That of the backend which draws: levels share one."""
        return self.backend.scratch

    @scratch.setter
    def scratch(self, scratch: Scratch) -> None:
        self.backend.scratch = scratch

    def _larger(self, options: RasterOptions) -> Rescaled:
        r = self.points
        return Rescaled(float(r), options.width * r, options.height * r)

    def render(self, model: Model, options: RasterOptions) -> Tensor:
        """The picture of means [C, H, W]."""
        there = self._larger(options)
        large = self.backend.render(there.model(model), there.options(options))
        return averaged(large, self.points)

    def pullback(self, model: Model, options: RasterOptions, pull: bool = False) -> Pullback | None:
        """Jᵀ of the picture of means. pull: add what the options pull to points that nothing reaches."""
        there = self._larger(options)
        inner = self.backend.pullback(there.model(model), there.options(options), pull)
        if inner is None:
            return None
        return lambda picture: there.gradients(inner(spread(picture, self.points)), model.scale_map)

    def step(self, model: Model, options: RasterOptions, target: Tensor, weights: LossWeights) -> StepResult:
        """Loss of the picture of means, and its gradients."""
        there = self._larger(options)
        result = self.backend.step(there.model(model), there.options(options), target, weights, self.points)
        return dataclasses.replace(result, grads=there.gradients(result.grads, model.scale_map))
