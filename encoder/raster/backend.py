"""Where a fit computes: one interface over the compiled CPU kernels and plain torch.

A backend takes the four parameter tensors of a :class:`Model` and gives pictures, losses and gradients. Adam is here
too, since its state lives where the parameters do.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from igs.encoder.raster import kernels, multiscale, reference, shapes, tiled
from igs.encoder.raster.reference import RasterOptions
from igs.format.fields import SIGMA_MAX, SIGMA_MIN


@dataclasses.dataclass
class Model:
    """The Gaussians of a fit. ``scale_map`` says what ``scale`` and ``rotation`` hold, see shapes.py."""

    position: Tensor  # [N, 2] pixels
    scale: Tensor  # [N, 2]
    rotation: Tensor  # [N] half-turns, or the entry beside the diagonal
    feature: Tensor  # [N, F] stored values: C colours, then a and b where the Gaussians carry a gradient
    scale_map: str

    NAMES = ("position", "scale", "rotation", "feature")

    def __len__(self) -> int:
        return self.position.shape[0]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.position, self.scale, self.rotation, self.feature

    @staticmethod
    def of(tensors: Iterable[Tensor], scale_map: str) -> Model:
        """The model of four tensors in the order of ``NAMES``."""
        position, scale, rotation, feature = tensors
        return Model(position, scale, rotation, feature, scale_map)

    def map(self, change: Callable[[Tensor], Tensor]) -> Model:
        """A model with ``change`` applied to each of the four tensors."""
        return Model.of(map(change, self.tensors()), self.scale_map)

    def clone(self) -> Model:
        return self.map(torch.clone)

    def sigmas(self) -> Tensor:
        """Standard deviations [N, 2] in pixels, clamped as the format does."""
        return shapes.deviations(self.scale, self.rotation, self.scale_map)

    def is_finite(self) -> bool:
        return bool(torch.stack([torch.isfinite(t).all() for t in self.tensors()]).all())  # one look at the device


def scale_parameter(sigma: Tensor, scale_map: str) -> Tensor:
    """``Model.scale`` of deviations [N, 2] along the axes of the picture."""
    return shapes.parameters(sigma, sigma.new_zeros(len(sigma)), scale_map)[0]


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
PictureLoss = tuple[float, float, float | None, Tensor]  # loss, mean squared error, mean SSIM, dL/dpicture [C, H, W]


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
        self, values: Tensor, grads: Tensor, m: Tensor, v: Tensor, age: Tensor, lr: float, betas: tuple[float, float],
        epsilon: float,
    ) -> None:  # fmt: skip
        """One step of Adam (Kingma and Ba 2015) on values, grads and moments m, v [N, …]; values, m and v in place.

        age: int32 [N], the steps of each row with this one, by which its moments are corrected. lr: in the values'
        units. Waits for nothing.
        """

    def adam_means(
        self, model: Model, grads: Tensor, m: Tensor, v: Tensor, age: Tensor, lr: float, betas: tuple[float, float],
        epsilon: float,
    ) -> None:  # fmt: skip
        """The same of a model's positions, grads [N, 2] by them, in its Gaussians' own axes.

        lr: in deviations along each. m, v: [N, 2] along the axes.
        """


class PlainBackend(Backend, Protocol):
    """One that computes by itself, and can average on the way.

    points: the loss is of means over points × points of the picture's points; the target is so many times smaller.
    """

    def step(
        self, model: Model, options: RasterOptions, target: Tensor, weights: LossWeights, points: int = 1
    ) -> StepResult: ...


class KernelBackend:
    """The compiled CPU kernels."""

    def __init__(self) -> None:
        self._rasterizer = kernels.Rasterizer()
        self.name, self.device = f"kernels-{kernels.target()}", "cpu"
        self.place, self.asynchronous, self.separable = torch.device("cpu"), False, True
        self.scratch = Scratch()

    def _factors(self, model: Model, options: RasterOptions) -> Tensor:
        if shapes.is_matrix(model.scale_map):
            return shapes.matrix_factors(model.scale, model.rotation, model.scale_map, options.lowpass)
        return kernels.factors(
            model.scale, model.rotation, model.scale_map, SIGMA_MIN, SIGMA_MAX, options.lowpass
        )  # fmt: skip

    def _shape_gradients(self, model: Model, by_factor: Tensor, options: RasterOptions) -> tuple[Tensor, Tensor]:
        """dL/dscale [N, 2] and dL/drotation [N] from dL/dfactors [N, 3]."""
        shape = model.scale, model.rotation, by_factor, model.scale_map
        if shapes.is_matrix(model.scale_map):
            return shapes.matrix_factors_gradient(*shape, options.lowpass)
        return kernels.factors_gradient(*shape, SIGMA_MIN, SIGMA_MAX, options.lowpass)

    def render(self, model: Model, options: RasterOptions) -> Tensor:
        factors = self._factors(model, options)
        self._rasterizer.bin(model.position, factors, model.feature, options)
        return self._rasterizer.forward(model.position, factors, model.feature, options)

    def step(
        self, model: Model, options: RasterOptions, target: Tensor, weights: LossWeights, points: int = 1
    ) -> StepResult:
        factors = self._factors(model, options)
        arrays = model.position, factors, model.feature
        self._rasterizer.bin(*arrays, options)
        if not weights.by_pixel or points > 1:
            image, gradient = self.scratch.like(target, points)
            seen = averaged(self._rasterizer.forward(*arrays, options, image), points)
            loss, e2, measured, by_seen = self.picture_loss(seen, target, weights, gradient if points == 1 else None)
            grads = self._rasterizer.backward(*arrays, options, spread(by_seen, points, gradient))
        else:
            e1, e2, grads = self._rasterizer.fused(*arrays, options, target, weights.l1, weights.l2, weight=weights.map)
            loss, measured = weights.l1 * e1 + weights.l2 * e2, None
        scale, rotation = self._shape_gradients(model, grads[1], options)
        return StepResult.of(loss, e2, measured, (grads[0], scale, rotation, grads[2]))

    def picture_loss(
        self, image: Tensor, target: Tensor, weights: LossWeights, out: Tensor | None = None
    ) -> PictureLoss:
        """The loss of a picture [C, H, W], and its gradient by the picture, in ``out`` if given."""
        e1, e2, ssim, grad = kernels.loss_and_gradient(
            image, target, weights.l1, weights.l2, weights.ssim, out=out, weight=weights.map
        )
        assert grad is not None
        loss = weights.l1 * e1 + weights.l2 * e2 + weights.ssim * (1 - ssim)
        if weights.ms_ssim:
            more, by_half = multiscale.loss_and_gradient(image, target, kernels.SCALES, weights.map, weights.shares)
            loss += weights.ms_ssim * float(more)
            if by_half is not None:
                kernels.add_spread(by_half, weights.ms_ssim * weights.ms_ssim_gain, grad)
        return loss, e2, ssim if weights.ssim else None, grad

    def pullback(self, model: Model, options: RasterOptions, pull: bool = False) -> Pullback | None:
        """Jᵀ of the picture's Jacobian: takes a picture [C, H, W], gives gradients as Model.NAMES. Use it at once.

        pull: add what the options pull to pixels that nothing reaches.
        """
        factors = self._factors(model, options)
        arrays = model.position, factors, model.feature
        plain = options if pull else dataclasses.replace(options, pull=0.0)
        self._rasterizer.bin(*arrays, plain)

        def apply(picture: Tensor) -> tuple[Tensor, ...]:
            position, by_factor, feature = self._rasterizer.backward(*arrays, plain, picture)
            return position, *self._shape_gradients(model, by_factor, options), feature

        return apply

    def removal_costs(
        self, model: Model, options: RasterOptions, target: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """By how much Σw·e² would rise without each Gaussian, [N]. weight: w of each pixel [H, W], none: 1."""
        arrays = model.position, self._factors(model, options), model.feature
        self._rasterizer.bin(*arrays, options)
        return self._rasterizer.removal_costs(*arrays, options, target, weight)

    def measure(
        self, image: Tensor, target: Tensor, ssim: bool, weight: Tensor | None = None
    ) -> tuple[float, float | None]:
        """(mean w·e², mean w·SSIM or None). weight: w of each pixel [H, W], none: 1."""
        _, e2, s, _ = kernels.loss_and_gradient(
            image, target, 0.0, 1.0, 1.0 if ssim else 0.0, gradient=False, weight=weight
        )
        return e2, s if ssim else None

    def add_noise(self, model: Model, coarseness: Tensor, steps: Tensor, mixed: Tensor, u: Tensor) -> Model:
        noisy = kernels.add_noise(*model.tensors(), model.scale_map, coarseness, steps, mixed, u)
        return Model.of(noisy, model.scale_map)

    def adam(
        self, values: Tensor, grads: Tensor, m: Tensor, v: Tensor, age: Tensor, lr: float, betas: tuple[float, float],
        epsilon: float,
    ) -> None:  # fmt: skip
        kernels.adam(values, grads, m, v, age, lr, betas, epsilon)

    def adam_means(
        self, model: Model, grads: Tensor, m: Tensor, v: Tensor, age: Tensor, lr: float, betas: tuple[float, float],
        epsilon: float,
    ) -> None:  # fmt: skip
        axes = shapes.axes(model.scale, model.rotation, model.scale_map)
        kernels.adam_means(model.position, grads, m, v, age, *axes, lr, betas, epsilon)


class TorchBackend:
    """Plain torch: tiled (the fallback without compiled kernels), or every Gaussian at every pixel."""

    def __init__(self, tiles: bool = True) -> None:
        self._rasterize = tiled.rasterize_tiled if tiles else reference.rasterize_reference
        self._removal_costs = tiled.removal_costs_tiled if tiles else reference.removal_costs_reference
        self.name, self.device, self.scratch = "torch", "cpu", Scratch()
        self.place, self.asynchronous, self.separable = torch.device("cpu"), False, True

    def _factors(self, scale: Tensor, rotation: Tensor, scale_map: str, options: RasterOptions) -> Tensor:
        if shapes.is_matrix(scale_map):
            return shapes.matrix_factors_reference(scale, rotation, scale_map, options.lowpass)
        return reference.factors_reference(scale, rotation, scale_map, SIGMA_MIN, SIGMA_MAX, options.lowpass)

    def _image(self, tensors: tuple[Tensor, ...], scale_map: str, options: RasterOptions) -> Tensor:
        position, scale, rotation, feature = tensors
        return self._rasterize(position, self._factors(scale, rotation, scale_map, options), feature, options)

    def render(self, model: Model, options: RasterOptions) -> Tensor:
        with torch.no_grad():
            return self._image(model.tensors(), model.scale_map, options)

    def step(
        self, model: Model, options: RasterOptions, target: Tensor, weights: LossWeights, points: int = 1
    ) -> StepResult:
        leaves = tuple(t.detach().clone().requires_grad_() for t in model.tensors())
        image = averaged(self._image(leaves, model.scale_map, options), points)
        loss = self._loss(image, target, weights)
        grads = torch.autograd.grad(loss, leaves)
        mse, ssim = self.measure(image.detach(), target, weights.ssim > 0, weights.map)
        return StepResult.of(float(loss.detach()), mse, ssim, grads)  # type: ignore[arg-type]

    def _loss(self, image: Tensor, target: Tensor, weights: LossWeights) -> Tensor:
        loss = reference.loss_reference(image, target, weights.l1, weights.l2, weights.ssim, weights.map)
        if weights.ms_ssim:
            ssim_map = reference.ssim_map_reference
            more = multiscale.loss_reference(image, target, ssim_map, weights.map, weights.shares)
            gained = more.detach() + weights.ms_ssim_gain * (more - more.detach())  # the same value
            loss = loss + weights.ms_ssim * gained
        return loss

    def picture_loss(self, image: Tensor, target: Tensor, weights: LossWeights) -> PictureLoss:
        """The loss of a picture [C, H, W], and its gradient by the picture."""
        leaf = image.detach().clone().requires_grad_()
        loss = self._loss(leaf, target, weights)
        (grad,) = torch.autograd.grad(loss, leaf)
        return float(loss.detach()), *self.measure(image, target, weights.ssim > 0, weights.map), grad

    def pullback(self, model: Model, options: RasterOptions, pull: bool = False) -> Pullback | None:
        """None: dozens of gradients would take longer here than the fit may."""
        return None

    def removal_costs(
        self, model: Model, options: RasterOptions, target: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        position, scale, rotation, feature = model.tensors()
        factors = self._factors(scale, rotation, model.scale_map, options)
        return self._removal_costs(position, factors, feature, options, target, weight)

    def measure(
        self, image: Tensor, target: Tensor, ssim: bool, weight: Tensor | None = None
    ) -> tuple[float, float | None]:
        w = 1.0 if weight is None else weight
        s = float((w * reference.ssim_map_reference(image, target)).mean()) if ssim else None
        return float((w * (image - target) ** 2).mean()), s

    def add_noise(self, model: Model, coarseness: Tensor, steps: Tensor, mixed: Tensor, u: Tensor) -> Model:
        noisy = reference.add_noise_reference(*model.tensors(), model.scale_map, coarseness, steps, mixed, u)
        return Model.of(noisy, model.scale_map)

    def adam(
        self, values: Tensor, grads: Tensor, m: Tensor, v: Tensor, age: Tensor, lr: float, betas: tuple[float, float],
        epsilon: float,
    ) -> None:  # fmt: skip
        reference.adam_reference(values, grads, m, v, age, lr, betas, epsilon)

    def adam_means(
        self, model: Model, grads: Tensor, m: Tensor, v: Tensor, age: Tensor, lr: float, betas: tuple[float, float],
        epsilon: float,
    ) -> None:  # fmt: skip
        axes = shapes.axes(model.scale, model.rotation, model.scale_map)
        reference.adam_means_reference(model.position, grads, m, v, age, *axes, lr, betas, epsilon)
