"""Where a fit computes: one interface over the compiled CPU kernels, a GPU and plain torch.

A backend takes the four parameter tensors of a :class:`Model` and gives pictures, losses and gradients. Adam is here
too, since its state lives where the parameters do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from igs.encoder.raster.adam import Moments, Rates
from igs.encoder.raster.loss import LossWeights, PictureLoss, StepResult
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions


def averaged(image: Tensor, points: int) -> Tensor:
    """Means over squares of points × points of pictures [..., H·points, W·points]."""
    return image if points == 1 else torch.nn.functional.avg_pool2d(image, points)


def spread(gradient: Tensor, points: int, out: Tensor | None = None) -> Tensor:
    """The adjoint of :func:`averaged`, in ``out`` if given: the gradient by a picture of one by its means."""
    if points == 1:
        return gradient
    *front, height, width = gradient.shape
    large = gradient.new_empty(*front, height * points, width * points) if out is None else out
    large.view(*front, height, points, width, points).copy_((gradient / points**2)[..., :, None, :, None])
    return large


class Scratch:
    """A picture and its gradient, kept from step to step: fresh pages cost as much as the work."""

    def __init__(self) -> None:
        self._both: tuple[Tensor, Tensor] | None = None

    def like(self, target: Tensor, points: int = 1) -> tuple[Tensor, Tensor]:
        """Room for both, of the target's shape with so many times the rows and columns, with anything in it."""
        *front, height, width = target.shape
        shape = (*front, height * points, width * points)
        if self._both is None or self._both[0].shape != shape:
            self._both = target.new_empty(shape), target.new_empty(shape)
        return self._both


Pullback = Callable[[Tensor], tuple[Tensor, ...]]


class Backend(Protocol):
    """What a fit needs of a device.

    Tensors are float32 but where something else is said: of N Gaussians with F features, and of a picture [C, H, W]
    of stored values. What :meth:`step`, :meth:`picture_loss`, :meth:`add_noise` and Adam take lies at :attr:`place`.
    The others take a model from the host as well, and their results are moved to where it lies.
    """

    name: str  # which code computes
    device: str  # where: cpu or cuda
    place: torch.device  # where a fit's tensors best lie
    # Whether step() returns before it is done. Its gradients are zero then where the loss is below PERFECT, which the
    # host would have to wait to find out.
    asynchronous: bool
    scratch: Scratch  # may be shared by backends that take no steps at the same time
    separable: bool  # whether a pixel is one point of the picture of Gaussians, whatever other pixels there are

    def render(self, model: Model, options: RasterOptions) -> Tensor:
        """The picture [C, H, W], detached. Waits for a device, which has to tell how long its lists are."""

    def step(self, model: Model, options: RasterOptions, target: Tensor, weights: LossWeights) -> StepResult:
        """The loss against target [C, H, W], and its gradients by the model's four tensors, of their shapes.

        Gradients include what the options pull, which is no part of the loss. If :attr:`asynchronous`, the work is
        queued, with a look at the device once in many steps; who asks for the result's measures waits for it.
        """

    def pullback(self, model: Model, options: RasterOptions, pull: bool = False) -> Pullback | None:
        """Jᵀ of the picture's Jacobian: takes a picture [C, H, W], gives gradients as Model.NAMES. Use it at once.

        pull: add what the options pull to pixels that nothing reaches. None where it would take too long. Waits as
        :meth:`render` does.
        """

    def picture_loss(self, image: Tensor, target: Tensor, weights: LossWeights) -> PictureLoss:
        """The loss of a picture [C, H, W], and its gradient by the picture, [C, H, W]. Waits for the device."""

    def removal_costs(
        self, model: Model, options: RasterOptions, target: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """By how much Σw·e² would rise without each Gaussian, about, [N]. weight: w of each pixel [H, W], none: 1.

        Waits as :meth:`render` does.
        """

    def measure(
        self, image: Tensor, target: Tensor, ssim: bool, weight: Tensor | None = None
    ) -> tuple[float, float | None]:
        """(mean w·e², mean w·SSIM or None) of a picture [C, H, W]. Waits for the device.

        ssim: whether it is asked for. weight: w of each pixel [H, W], none: 1.
        """

    def add_noise(self, model: Model, coarseness: Tensor, steps: Tensor, mixed: Tensor, u: Tensor) -> Model:
        """A copy of a model with noise of one lattice step on all it has; see :func:`reference.add_noise_reference`.

        coarseness: [1] for all, or [N]. steps: [4]. mixed: [F, F]. u: [N, 5 + F], in −½ … ½. Waits for nothing.
        """

    def adam(
        self, model: Model, grads: Sequence[Tensor], moments: Moments, age: Tensor, rates: Rates, factor: float,
    ) -> None:  # fmt: skip
        """One step of Adam on a model in place; see :func:`igs.encoder.raster.reference.adam_reference`.

        Waits for nothing.
        """


class PlainBackend(Backend, Protocol):
    """One that computes by itself, and can average on the way.

    points: the loss is of means over points × points of the picture's points; the target is so many times smaller.
    """

    def step(
        self, model: Model, options: RasterOptions, target: Tensor, weights: LossWeights, points: int = 1
    ) -> StepResult: ...
