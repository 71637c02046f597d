"""Steps on interlaced subsets of the pixels: where a Gaussian covers many of them, a quarter is enough for a step.

For large pictures: such a step costs 0.31 to 0.40 of one on all pixels there. Small ones spend their time elsewhere, so
that nothing is gained.

There are four subsets, of every other row and column; steps take them in turn. Since they are point samples, a step's
picture is the Gaussians themselves in coordinates half as large: the kernels are the same, and the mean of all subsets'
gradients is that of all pixels. (A reduced picture instead would be a blurred target.)
"""

from __future__ import annotations

import dataclasses

from torch import Tensor

from igs.encoder.raster.backend import Backend, LossWeights, Model, StepResult
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.rescale import Rescaled

STRIDE = 2
ORDER = ((0, 0), (1, 1), (1, 0), (0, 1))  # (x, y) of the subsets' first pixels: the first two have no row in common
LEAST_PIXELS = 1_000_000  # of the picture
LEAST = 16.0  # pixels of a subset per Gaussian
_LEAST_SIDE = 16  # of a subset: a tile's


def suits(width: int, height: int, gaussians: int) -> bool:
    """Whether a picture is worth it, and its subsets have pixels enough for so many Gaussians."""
    enough = width * height >= max(LEAST_PIXELS, LEAST * STRIDE**2 * gaussians)
    return enough and min(width, height) >= _LEAST_SIDE * STRIDE


class Interlace:
    """The subsets of one picture [..., H, W] and its loss's weights, made when first asked for."""

    def __init__(self, target: Tensor, weights: LossWeights) -> None:
        self._target, self._weights = target, weights
        self._subsets: dict[tuple[int, int], tuple[Tensor, LossWeights]] = {}

    def suits(self, gaussians: int) -> bool:
        """:func:`suits` this picture."""
        height, width = self._target.shape[-2:]
        return suits(width, height, gaussians)

    def step(self, backend: Backend, model: Model, options: RasterOptions, turn: int) -> StepResult:
        """``Backend.step`` on one subset: ``turn`` counts. The measures are the subset's."""
        left, top = ORDER[turn % len(ORDER)]
        target, weights = self._subset(left, top)
        height, width = target.shape[-2:]
        # The subset's first pixel has its centre at ½ there, and at left + ½ and top + ½ here.
        inset = 0.5 - 0.5 * STRIDE
        there = Rescaled(1 / STRIDE, width, height, left + inset, top + inset)
        result = backend.step(there.model(model), there.options(options), target, weights)
        return dataclasses.replace(result, grads=there.gradients(result.grads, model.scale_map))

    def _subset(self, left: int, top: int) -> tuple[Tensor, LossWeights]:
        if (left, top) not in self._subsets:

            def part(picture: Tensor) -> Tensor:
                return picture[..., top::STRIDE, left::STRIDE].contiguous()

            map_ = self._weights.map
            weights = dataclasses.replace(self._weights, map=None if map_ is None else part(map_))
            self._subsets[left, top] = part(self._target), weights
        return self._subsets[left, top]
