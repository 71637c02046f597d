"""What a loss is made of, and what a step tells of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from torch import Tensor

from igs.encoder.raster import multiscale

# Steps that share one gradient of the multiscale term. Not 2 or 4, with which two or three of the four subsets of
# interlaced steps would never have it. In each, every second, third and fifth step gave 30.13, 30.14, 30.16 and 30.15
# dB, MS-SSIM 0.9264, 0.9261, 0.9259 and 0.9254 (kodim02, 11, 22 at 0.2 bpp).
MULTISCALE_EVERY = 3


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Of the loss l1·mean w|e| + l2·mean w·e² + ssim·(1 − mean w·SSIM) + ms_ssim·(multiscale.py)."""

    l1: float
    l2: float
    ssim: float
    # w of each pixel, the same for all channels: float32 [H, W], above 0, of mean 1 over the picture; None: 1. A part
    # of a picture has its part of the map.
    map: Tensor | None = None
    ms_ssim: float = 0.0
    ms_ssim_gain: float = 1.0  # of the multiscale term's gradient, where only one step in so many has it
    interlaced: bool = False  # pictures are every other row and column of the one whose loss it is

    @property
    def by_pixel(self) -> bool:
        """Whether the loss is a mean over pixels, each by itself."""
        return not (self.ssim or self.ms_ssim)

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of the multiscale term's scales."""
        return multiscale.INTERLACED if self.interlaced else multiscale.SHARES

    def at(self, turn: int) -> LossWeights:
        """The weights for one step: the multiscale term, as dear as the rest, is in one of a few, and stronger."""
        if not self.whole_at(turn):
            return dataclasses.replace(self, ms_ssim=0.0)
        return dataclasses.replace(self, ms_ssim_gain=float(MULTISCALE_EVERY))

    def whole_at(self, turn: int) -> bool:
        """Whether that step has all terms."""
        return not self.ms_ssim or turn % MULTISCALE_EVERY == 0


Grads = tuple[Tensor, Tensor, Tensor, Tensor]  # as Model.NAMES
PictureLoss = tuple[float, float, float | None, Tensor]  # loss, mean squared error, mean SSIM, dL/dpicture [C, H, W]
# Loss below which there is nothing left to learn: 100 dB, far below a 16-bit level squared for pictures of one colour.
PERFECT = 1e-10


@dataclasses.dataclass
class StepResult:
    """Gradients and measures of one step. ``measures`` may wait for a device, so it is called when one is asked for."""

    # Loss, mean squared error, mean SSIM: of a loss with a map the weighted means.
    measures: Callable[[], tuple[float, float, float | None]]
    grads: Grads
    # Means of |e|, e² and SSIM, [3], where they were computed if that isn't here; of B pictures together [B, 3].
    means_there: Tensor | None = None
    multiscale_there: float | Tensor = 0.0  # the multiscale term, there; of B pictures together [B]

    @staticmethod
    def of(loss: float, mse: float, ssim: float | None, grads: Grads) -> StepResult:
        """Of measures that are known."""
        return StepResult(lambda: (loss, mse, ssim), grads)

    def loss_there(self, weights: LossWeights) -> Tensor | None:
        """The loss where it was computed if that isn't here, float64 [], of B pictures together [B]."""
        return None if self.means_there is None else loss_of_means(self.means_there, weights, self.multiscale_there)

    @functools.cached_property
    def _measured(self) -> tuple[float, float, float | None]:
        return self.measures()

    @property
    def loss(self) -> float:
        return self._measured[0]

    @property
    def mse(self) -> float:
        return self._measured[1]

    @property
    def ssim(self) -> float | None:
        return self._measured[2]


def loss_of_means(means: Tensor, w: LossWeights, more: float | Tensor = 0.0) -> Tensor:
    """The loss of means of |e|, e² and SSIM, [..., 3]. more: its multiscale term."""
    e1, e2, ssim = means.unbind(-1)
    return w.l1 * e1 + w.l2 * e2 + w.ssim * (1 - ssim) + w.ms_ssim * more
