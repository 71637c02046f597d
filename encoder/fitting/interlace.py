"""Steps on interlaced subsets of the pixels: where a Gaussian covers many of them, a quarter is enough for a step.

For large pictures: a step costs about 0.4 of one on all pixels there, and half as many steps more make up for what is
not seen. Small ones spend their time elsewhere, so that nothing is gained.

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
# As many steps as on all pixels. kodim07 at 0.1 bpp, kodim01 and 15 at 0.2, kodim24 at 0.4, road_runner (1.6 Mpx) at
# 0.05: 29.11, 25.45, 32.31, 28.05, 36.29 dB with all pixels; 29.02, 25.48, 32.12, 28.06, 36.44 dB with these; with
# twice as many steps 29.25, 25.48, 32.17, 28.10, 36.53 dB. A stride of 4 lost 1.4 dB on road_runner's thin lines.
STEPS = 1.5


def suits(width: int, height: int, gaussians: int) -> bool:
    """Whether a picture is worth it, and its subsets have pixels enough for so many Gaussians."""
    enough = width * height >= max(LEAST_PIXELS, LEAST * STRIDE**2 * gaussians)
    return enough and min(width, height) >= _LEAST_SIDE * STRIDE


class Interlace:
    """The subsets of one picture [..., H, W], made when first asked for."""

    def __init__(self, target: Tensor) -> None:
        self._target = target
        self._subsets: dict[tuple[int, int], Tensor] = {}

    def suits(self, gaussians: int) -> bool:
        """:func:`suits` this picture."""
        height, width = self._target.shape[-2:]
        return suits(width, height, gaussians)

    def step(
        self, backend: Backend, model: Model, options: RasterOptions, weights: LossWeights, turn: int
    ) -> StepResult:
        """``Backend.step`` on one subset: ``turn`` counts. The measures are the subset's."""
        left, top = ORDER[turn % len(ORDER)]
        target = self._subset(left, top)
        height, width = target.shape[-2:]
        # The subset's first pixel has its centre at ½ there, and at left + ½ and top + ½ here.
        inset = 0.5 - 0.5 * STRIDE
        there = Rescaled(1 / STRIDE, width, height, left + inset, top + inset)
        result = backend.step(there.model(model), there.options(options), target, weights)
        return dataclasses.replace(result, grads=there.gradients(result.grads, model.scale_map))

    def _subset(self, left: int, top: int) -> Tensor:
        if (left, top) not in self._subsets:
            self._subsets[left, top] = self._target[..., top::STRIDE, left::STRIDE].contiguous()
        return self._subsets[left, top]
