"""Steps on interlaced subsets of the pixels: where a Gaussian covers many of them, a quarter is enough for a step.

For large pictures: such a step costs 0.31 to 0.40 of one on all pixels there. Small ones spend their time elsewhere, so
that nothing is gained.

There are four subsets, of every other row and column; steps take them in turn. Since they are point samples, a step's
picture is the Gaussians themselves in coordinates half as large: the kernels are the same, and the mean of all subsets'
gradients is that of all pixels, but for the multiscale term, which takes a subset for the reduced picture. (A reduced
picture for all would be a blurred target.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from torch import Tensor

from igs.encoder.raster.backend import Backend, Pullback
from igs.encoder.raster.loss import LossWeights, StepResult
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.rescale import Rescaled
from igs.encoder.raster.surrounded import at
from igs.encoder.recipe import Recipe

STRIDE = 2
ORDER = ((0, 0), (1, 1), (1, 0), (0, 1))  # (x, y) of the subsets' first pixels: the first two have no row in common
LEAST_PIXELS = 1_000_000  # of the picture
# Times as many steps as the recipe's where as many are cheap as by default: 1600 and 2400 gave 39.32 and 39.88 dB
# (road_runner, 0.08 bpp), 33.41 and 33.74 (arcade_room, 0.08).
STEPS = 1.5
LEAST = 16.0  # pixels of a subset per Gaussian
_LEAST_SIDE = 16  # of a subset: a tile's


def suits(width: int, height: int, gaussians: int, pixels: int | None = None) -> bool:
    """Whether a picture is worth it, and its subsets have pixels enough for so many Gaussians.

    pixels: of the picture that this one is a part of; None: it is whole.
    """
    worth = (width * height if pixels is None else pixels) >= LEAST_PIXELS
    return worth and width * height >= LEAST * STRIDE**2 * gaussians and wide_enough(width, height)


def steps(recipe: Recipe, width: int, height: int, gaussians: int) -> int:
    """How many steps a fit takes: the recipe's, or more in proportion to how many of them see a quarter."""
    if recipe.loss_ssim or not suits(width, height, gaussians):
        return recipe.steps
    return round(recipe.steps * (1 + (STEPS - 1) * recipe.interlace / Recipe.interlace))


def wide_enough(width: int, height: int) -> bool:
    """Whether a picture's subsets are no smaller than the kernels' tiles."""
    return min(width, height) >= _LEAST_SIDE * STRIDE


class Interlace:
    """The subsets of one picture [..., H, W] and its loss's weights, made when first asked for."""

    def __init__(self, target: Tensor, weights: LossWeights) -> None:
        self._target, self._weights = target, weights
        self.pixels: int | None = None  # of the picture that this one is a part of
        self._subsets: dict[tuple[int, int], tuple[Tensor, LossWeights]] = {}

    def suits(self, gaussians: int) -> bool:
        """:func:`suits` this picture."""
        height, width = self._target.shape[-2:]
        return suits(width, height, gaussians, self.pixels)

    def step(self, backend: Backend, model: Model, options: RasterOptions, turn: int) -> StepResult:
        """``Backend.step`` on one subset: ``turn`` counts. The measures are the subset's."""
        there, target, weights = self._view(turn)
        result = at(backend, there).step(there.model(model), there.options(options), target, weights.at(turn))
        return dataclasses.replace(result, grads=there.gradients(result.grads, model.scale_map))

    def pullbacks(
        self, backend: Backend, model: Model, options: RasterOptions, weight: Tensor | None = None
    ) -> Iterator[tuple[Pullback, tuple[int, ...], Tensor | None]]:
        """``Backend.pullback`` of each subset, the shape of the pictures that it takes, and its part of ``weight``."""
        for turn in range(len(ORDER)):
            there, target, _ = self._view(turn)
            inner = at(backend, there).pullback(there.model(model), there.options(options))
            if inner is None:
                return

            def apply(picture: Tensor, there: Rescaled = there, inner: Pullback = inner) -> tuple[Tensor, ...]:
                return there.gradients(inner(picture), model.scale_map)

            left, top = ORDER[turn]
            part = None if weight is None else _every_other(weight, left, top)
            yield apply, (*target.shape[:-2], there.height, there.width), part

    def _view(self, turn: int) -> tuple[Rescaled, Tensor, LossWeights]:
        """Coordinates, target and weights of one subset."""
        left, top = ORDER[turn % len(ORDER)]
        target, weights = self._subset(left, top)
        height, width = target.shape[-2:]
        # The subset's first pixel has its centre at ½ there, and at left + ½ and top + ½ here.
        inset = 0.5 - 0.5 * STRIDE
        return Rescaled(1 / STRIDE, width, height, left + inset, top + inset), target, weights

    def _subset(self, left: int, top: int) -> tuple[Tensor, LossWeights]:
        if (left, top) not in self._subsets:
            map_ = self._weights.map
            part = None if map_ is None else _every_other(map_, left, top)
            weights = dataclasses.replace(self._weights, map=part, interlaced=True)
            self._subsets[left, top] = _every_other(self._target, left, top), weights
        return self._subsets[left, top]


def _every_other(picture: Tensor, left: int, top: int) -> Tensor:
    """Every other row and column of a picture [..., H, W]."""
    return picture[..., top::STRIDE, left::STRIDE].contiguous()
