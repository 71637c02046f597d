"""Fitting with the compiled CPU kernels: the backend over :mod:`igs.encoder.raster.kernels`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from igs.encoder.raster import kernels, multiscale, shapes
from igs.encoder.raster.adam import Moments, Rates, Stepper
from igs.encoder.raster.backend import Pullback, Scratch, averaged, spread
from igs.encoder.raster.loss import LossWeights, PictureLoss, StepResult
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.format.fields import SIGMA_MAX, SIGMA_MIN


class KernelBackend:
    """See :class:`igs.encoder.raster.backend.Backend`."""

    def __init__(self) -> None:
        self._rasterizer, self._stepper = kernels.Rasterizer(), Stepper(torch.device("cpu"))
        self._scales = multiscale.Operations(kernels.ssim_and_gradient, kernels.half, kernels.add_spread)
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
            more, by_half = multiscale.loss_and_gradient(image, target, self._scales, weights.map, weights.shares)
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
        self, model: Model, grads: Sequence[Tensor], moments: Moments, age: Tensor, rates: Rates, factor: float,
    ) -> None:  # fmt: skip
        kernels.adam(model, grads, moments, age, rates, factor, self._stepper)
