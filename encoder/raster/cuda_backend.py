"""Fitting on an NVIDIA GPU: the backend over :mod:`igs.encoder.raster.cuda_kernels`.

A step is queued and not waited for: its measures are read from the device when somebody asks. Models may lie anywhere;
a result lies where the model that it was asked for does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from igs.csrc.cuda_compile import CudaUnavailable
from igs.csrc.cuda_driver import DeviceKernels
from igs.encoder.raster import multiscale, shapes
from igs.encoder.raster.adam import Moments, Rates
from igs.encoder.raster.backend import Pullback, Scratch, averaged, spread
from igs.encoder.raster.cuda_kernels import CudaRasterizer, Launcher
from igs.encoder.raster.loss import PERFECT, LossWeights, PictureLoss, StepResult
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.format.fields import SIGMA_MAX, SIGMA_MIN


def open_device(*, atomic: bool = False) -> CudaBackend:
    """The current GPU of torch. Compiles what every fit needs, so that what can fail fails here.

    Raises CudaUnavailable where torch was built without CUDA, or there is no GPU, no driver or no compiler.
    """
    if not torch.backends.cuda.is_built():
        raise CudaUnavailable(f"PyTorch {torch.__version__} is a build for the CPU: install one for CUDA")
    if not torch.cuda.is_available():
        raise CudaUnavailable("PyTorch finds no CUDA GPU: check that one is there and what nvidia-smi says")
    place = torch.device("cuda", torch.cuda.current_device())
    torch.zeros(1, device=place)  # makes the context
    launcher = _kernels(place.index)
    backend = CudaBackend(launcher, place, name=f"cuda-{launcher.architecture}", atomic=atomic)
    backend.try_out()
    return backend


@functools.cache
def _kernels(ordinal: int) -> DeviceKernels:
    """Loaded once per process; a thread launches on its own current stream."""
    return DeviceKernels(ordinal, lambda: torch.cuda.current_stream(ordinal).cuda_stream)


class CudaBackend:
    """See :class:`igs.encoder.raster.backend.Backend`.

    atomic: gradients by atomic additions, in no fixed order. pictures: see :class:`CudaRasterizer`.
    """

    asynchronous = True
    separable = True

    def __init__(
        self, launcher: Launcher, place: torch.device, *, name: str = "cuda", device: str = "cuda",
        atomic: bool = False, pictures: int = 1,
    ) -> None:  # fmt: skip
        self.place, self.name, self.device = place, name, device
        self._launcher, self._atomic = launcher, atomic
        self._rasterizer = CudaRasterizer(launcher, place, atomic=atomic, perfect=PERFECT, pictures=pictures)
        self.scales = multiscale.Operations(self._ssim_and_gradient)
        self._shares: dict[tuple[float, ...], Tensor] = {}  # of each scale's sum in the multiscale term
        self.scratch = Scratch()

    def of_many(self, pictures: int) -> CudaBackend:
        """The same for so many pictures at once: pictures are [B, C, H, W] there, and measures B."""
        return CudaBackend(
            self._launcher, self.place, name=self.name, device=self.device, atomic=self._atomic, pictures=pictures
        )

    def try_out(self) -> None:
        """One step of one Gaussian."""
        kind: Any = {"dtype": torch.float32, "device": self.place}
        model = Model(
            position=torch.full((1, 2), 8.0, **kind), scale=torch.zeros(1, 2, **kind),
            rotation=torch.zeros(1, **kind), feature=torch.ones(1, 3, **kind), scale_map="log",
        )  # fmt: skip
        options = RasterOptions(16, 16)
        target = torch.zeros(3, 16, 16, **kind)
        result = self.step(model, options, target, LossWeights(0.0, 1.0, 0.1))
        moments = [(torch.zeros_like(t), torch.zeros_like(t)) for t in model.tensors()]
        age = torch.zeros(1, dtype=torch.int32, device=self.place)
        self.adam(model, result.grads, moments, age, Rates(0.1, 0.1, 0.1, 0.1), 1.0)
        if not 0.0 < result.mse <= 1.0:
            raise CudaUnavailable(f"{self.name}: one Gaussian's picture has the error {result.mse}, expected 0 to 1")

    def _here(self, model: Model) -> Model:
        return model.map(lambda t: t.to(self.place).contiguous())

    def _factors(self, model: Model, options: RasterOptions) -> Tensor:
        if shapes.is_matrix(model.scale_map):
            return shapes.matrix_factors(model.scale, model.rotation, model.scale_map, options.lowpass)
        return self._rasterizer.factors(
            model.scale, model.rotation, model.scale_map, SIGMA_MIN, SIGMA_MAX, options.lowpass
        )

    def _shape_gradients(self, model: Model, by_factor: Tensor, options: RasterOptions) -> tuple[Tensor, Tensor]:
        shape = model.scale, model.rotation, by_factor, model.scale_map
        if shapes.is_matrix(model.scale_map):
            return shapes.matrix_factors_gradient(*shape, options.lowpass)
        return self._rasterizer.factors_gradient(*shape, SIGMA_MIN, SIGMA_MAX, options.lowpass)

    def _bin(self, model: Model, options: RasterOptions, *, trust: bool = False) -> None:
        self._rasterizer.bin(model.position, self._factors(model, options), model.feature, options, trust=trust)

    def render(self, model: Model, options: RasterOptions) -> Tensor:
        here = self._here(model)
        self._bin(here, options)
        return self._rasterizer.forward(options).to(model.position.device)

    def step(
        self, model: Model, options: RasterOptions, target: Tensor, weights: LossWeights, points: int = 1
    ) -> StepResult:
        raster, model = self._rasterizer, self._here(model)
        self._bin(model, options, trust=True)
        more: float | Tensor = 0.0
        if points > 1 or not (weights.by_pixel and raster.fusible):
            image, gradient = self.scratch.like(target, points)
            seen = averaged(raster.forward(options, image), points)
            by_seen = gradient if points == 1 else torch.empty_like(target)
            totals, more = self._loss(seen, target, weights, by_seen)
            grads = raster.backward(spread(by_seen, points, gradient))
        else:
            totals, grads = raster.fused(target, weights.l1, weights.l2, weights.map)
        scale, rotation = self._shape_gradients(model, grads[1], options)
        means = totals / (target.numel() // raster.pictures)
        measures = functools.partial(_measures, means, weights, more)
        return StepResult(measures, (grads[0], scale, rotation, grads[2]), means, more)

    def picture_loss(self, image: Tensor, target: Tensor, weights: LossWeights) -> PictureLoss:
        """The loss of a picture [C, H, W], and its gradient by the picture. Waits for the device."""
        gradient = torch.empty_like(image)
        totals, more = self._loss(image, target, weights, gradient)
        return *_measures(totals / target.numel(), weights, more), gradient

    def _loss(
        self, image: Tensor, target: Tensor, weights: LossWeights, gradient: Tensor
    ) -> tuple[Tensor, float | Tensor]:
        """Sums as ``CudaRasterizer.loss``, and the multiscale term; the gradient of both is written to ``gradient``."""
        raster, w = self._rasterizer, weights
        more: float | Tensor = 0.0
        scales = self.scales.scales(target, w.map, w.shares) if w.ms_ssim else []
        if scales:  # before the rest, which tells whether there is anything left to learn
            images = raster.reduce(image, len(scales))
            gradients, parts = raster.reductions(image, len(scales))
            sums = torch.empty(len(scales), *target.shape[:-3], 3, dtype=torch.float64, device=self.place)
            for scale, reduced, part, its_sums in zip(scales, images, parts, sums, strict=True):
                raster.loss(reduced, scale.target, 0.0, 0.0, 1.0, part, scale.weight, its_sums)
            more = self._multiscale(scales, sums)
        totals = raster.loss(image, target, w.l1, w.l2, w.ssim, gradient, w.map)
        if scales:
            factors = [w.ms_ssim * w.ms_ssim_gain * scale.share / 4 ** (k + 1) for k, scale in enumerate(scales)]
            raster.add_reduced(gradients, factors, gradient)
        return totals, more

    def _multiscale(self, scales: list[multiscale.Scale], sums: Tensor) -> Tensor:
        """1 − Σ share·mean w·SSIM of each scale's sums, float64 [scales(, B), 3]."""
        values = [scale.target.numel() // self._rasterizer.pictures for scale in scales]
        key = tuple(scale.share / n for scale, n in zip(scales, values, strict=True))
        if key not in self._shares:
            self._shares[key] = sums.new_tensor(key).view(-1, *(1,) * (sums.dim() - 2))
        return 1 - (self._shares[key] * sums[..., 2]).sum(0)

    def _ssim_and_gradient(self, image: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        gradient = torch.empty_like(image)
        totals = self._rasterizer.loss(image, target, 0.0, 0.0, 1.0, gradient, weight)
        return totals[..., 2] / (target.numel() // self._rasterizer.pictures), gradient

    def pullback(self, model: Model, options: RasterOptions, pull: bool = False) -> Pullback:
        """Jᵀ of the picture's Jacobian: takes a picture [C, H, W], gives gradients as Model.NAMES. Use it at once.

        pull: add what the options pull to pixels that nothing reaches.
        """
        here, home = self._here(model), model.position.device
        plain = options if pull else dataclasses.replace(options, pull=0.0)
        self._bin(here, plain)
        self._rasterizer.forward(plain)

        def apply(picture: Tensor) -> tuple[Tensor, ...]:
            position, by_factor, feature = self._rasterizer.backward(picture.to(self.place).contiguous())
            grads = position, *self._shape_gradients(here, by_factor, plain), feature
            return tuple(g.to(home) for g in grads)

        return apply

    def removal_costs(
        self, model: Model, options: RasterOptions, target: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """By how much Σw·e² would rise without each Gaussian, [N]. weight: w of each pixel [H, W], none: 1."""
        self._bin(self._here(model), options)
        costs = self._rasterizer.removal_costs(target.to(self.place).contiguous(), self._moved(weight))
        return costs.to(model.position.device)

    def _moved(self, weight: Tensor | None) -> Tensor | None:
        return None if weight is None else weight.to(self.place).contiguous()

    def measure(
        self, image: Tensor, target: Tensor, ssim: bool, weight: Tensor | None = None
    ) -> tuple[float, float | None]:
        """(mean w·e², mean w·SSIM or None). weight: w of each pixel [H, W], none: 1. Waits for the device."""
        weights = LossWeights(0.0, 1.0, 1.0 if ssim else 0.0)
        return _measures(self.means(image, target, ssim, weight), weights)[1:]

    def means(self, image: Tensor, target: Tensor, ssim: bool, weight: Tensor | None = None) -> Tensor:
        """Means of w|e|, w·e² and w·SSIM (0 unless asked for), float64 [3], on the device."""
        image, target = (p.to(self.place).contiguous() for p in (image, target))
        totals = self._rasterizer.loss(image, target, 0.0, 1.0, 1.0 if ssim else 0.0, None, self._moved(weight))
        return totals / (target.numel() // self._rasterizer.pictures)

    def add_noise(self, model: Model, coarseness: Tensor, steps: Tensor, mixed: Tensor, u: Tensor) -> Model:
        noisy = self._rasterizer.add_noise(*model.tensors(), model.scale_map, coarseness, steps, mixed, u)
        return Model.of(noisy, model.scale_map)

    def adam(
        self, model: Model, grads: Sequence[Tensor], moments: Moments, age: Tensor, rates: Rates, factor: float,
    ) -> None:  # fmt: skip
        self._rasterizer.adam(model, grads, moments, age, rates, factor)


def _measures(means: Tensor, w: LossWeights, more: float | Tensor = 0.0) -> tuple[float, float, float | None]:
    """(loss, mean squared error, mean SSIM or None) of the means of |e|, e² and SSIM; of several pictures the mean.

    more: the loss's multiscale term.

    Waits for the device.
    """
    e1, e2, s = means.view(-1, 3).mean(0).tolist()
    return (
        w.l1 * e1 + w.l2 * e2 + w.ssim * (1 - s) + w.ms_ssim * float(more.mean() if isinstance(more, Tensor) else more),
        e2,
        s if w.ssim else None,
    )
