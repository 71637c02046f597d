"""Fitting in plain torch, with its gradients: the backend over :mod:`igs.encoder.raster.reference` and ``tiled``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from igs.encoder.raster import multiscale, reference, shapes, tiled
from igs.encoder.raster.adam import Moments, Rates
from igs.encoder.raster.backend import Pullback, Scratch, averaged
from igs.encoder.raster.loss import LossWeights, PictureLoss, StepResult
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.format.fields import SIGMA_MAX, SIGMA_MIN


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
        self, model: Model, grads: Sequence[Tensor], moments: Moments, age: Tensor, rates: Rates, factor: float,
    ) -> None:  # fmt: skip
        reference.adam_reference(model, grads, moments, age, rates, factor)
