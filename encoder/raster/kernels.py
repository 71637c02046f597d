"""The compiled kernels as torch functions: rasteriser, fused loss, factors, Adam. CPU, float32, contiguous.

Each has a twin in :mod:`igs.encoder.raster.reference` with the same signature. Where the library is missing,
``available()`` is False and the encoder uses the tiled torch path instead.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from igs.csrc import Raster, library
from igs.encoder.raster.adam import Moments, Rates, Stepper, bound_matrices
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.shapes import SCALE_MAPS
from igs.format.fields import SIGMA_MAX, SIGMA_MIN


def available() -> bool:
    """Whether the compiled kernels can be used."""
    return library() is not None


def _lib() -> ctypes.CDLL:
    lib = library()
    if lib is None:
        raise RuntimeError("the compiled kernels are not installed; check available() first")
    return lib


def target() -> str:
    """The instruction set that the kernels use here: baseline, avx2 or avx512."""
    return str(_lib().igs_target().decode())


def _check(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    if t.shape != shape or t.dtype != torch.float32 or t.device.type != "cpu":
        raise ValueError(f"expected a float32 CPU tensor {shape}, found {t.dtype} {t.device} {tuple(t.shape)}")
    return t.contiguous()


def _weight(weight: Tensor | None, o: RasterOptions) -> int | None:
    """Address of the pixels' weights, which the caller keeps alive."""
    if weight is None:
        return None
    if not weight.is_contiguous():
        raise ValueError("expected contiguous weights of the pixels")
    return _check(weight, (o.height, o.width)).data_ptr()


class Rasterizer:
    """Owns the tile lists of one fit, reused from step to step. Not thread-safe; one per fit."""

    def __init__(self) -> None:
        self._lib = _lib()
        self._bins = ctypes.c_void_p(self._lib.igs_bins_create())
        self._constants: tuple[Any, Any] = (None, None)  # what they are of, and background and lit channels as tensors

    def __del__(self) -> None:
        if getattr(self, "_bins", None):
            self._lib.igs_bins_destroy(self._bins)

    def _raster(self, means: Tensor, features: Tensor, o: RasterOptions) -> Raster:
        """Points to constants that are kept until others are asked for."""
        channels = o.channels(features)
        key = channels, o.background, o.lit
        if self._constants[0] != key:
            background = features.new_tensor(o.background or (0.0,) * channels)
            self._constants = key, (background, o.lit_channels(features))
        background, lit = self._constants[1]
        return Raster(
            o.width, o.height, channels, means.shape[0], 0 if o.blend == "topk" else 1, o.top_k, o.reach2,
            min(o.relative_reach2, 1e30), o.pull, o.pull_share * o.reach2, background.data_ptr(),
            lit.data_ptr() if o.gradient else None,
        )  # fmt: skip

    def bin(self, means: Tensor, factors: Tensor, features: Tensor, o: RasterOptions) -> int:
        """Rebuild the tile lists; returns the number of (tile, Gaussian) entries."""
        raster = self._raster(means, features, o)
        entries: int = self._lib.igs_bin(self._bins, ctypes.byref(raster), means.data_ptr(), factors.data_ptr())
        if entries < 0:
            raise MemoryError("no memory for the tile lists")
        return entries

    def forward(
        self, means: Tensor, factors: Tensor, features: Tensor, o: RasterOptions, out: Tensor | None = None
    ) -> Tensor:
        """The picture [C, H, W], in ``out`` if given; bin() must have been called for these Gaussians."""
        raster = self._raster(means, features, o)
        image = means.new_empty(o.channels(features), o.height, o.width) if out is None else out
        self._run(
            self._lib.igs_rasterize_forward, raster, means.data_ptr(), factors.data_ptr(), features.data_ptr(),
            image.data_ptr(),
        )  # fmt: skip
        return image

    def backward(
        self, means: Tensor, factors: Tensor, features: Tensor, o: RasterOptions, grad_image: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of means, factors and features for dL/dimage [C, H, W]."""
        raster = self._raster(means, features, o)
        grads = torch.empty_like(means), torch.empty_like(factors), torch.empty_like(features)
        grad_image = grad_image.contiguous()  # kept until the kernel is done
        self._run(
            self._lib.igs_rasterize_backward, raster, means.data_ptr(), factors.data_ptr(), features.data_ptr(),
            grad_image.data_ptr(), *(g.data_ptr() for g in grads),
        )  # fmt: skip
        return grads

    def fused(
        self, means: Tensor, factors: Tensor, features: Tensor, o: RasterOptions, target: Tensor, l1: float, l2: float,
        image: Tensor | None = None, weight: Tensor | None = None,
    ) -> tuple[float, float, tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
        """One pass for L = l1·mean w|e| + l2·mean w·e²: (mean w|e|, mean w·e², gradients); image is filled if given.

        weight: w of each pixel [H, W], none: 1.
        """
        raster = self._raster(means, features, o)
        grads = torch.empty_like(means), torch.empty_like(factors), torch.empty_like(features)
        sums = (ctypes.c_double * 2)()
        self._run(
            self._lib.igs_rasterize_fused, raster, means.data_ptr(), factors.data_ptr(), features.data_ptr(),
            target.data_ptr(), _weight(weight, o), l1, l2, None if image is None else image.data_ptr(), sums,
            *(g.data_ptr() for g in grads),
        )  # fmt: skip
        n = target.numel()
        return sums[0] / n, sums[1] / n, grads

    def removal_costs(
        self, means: Tensor, factors: Tensor, features: Tensor, o: RasterOptions, target: Tensor,
        weight: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See :func:`igs.encoder.raster.reference.removal_costs_reference`; bin() must have been called for these."""
        raster = self._raster(means, features, o)
        costs = means.new_empty(len(means))
        self._run(
            self._lib.igs_removal_costs, raster, means.data_ptr(), factors.data_ptr(), features.data_ptr(),
            target.data_ptr(), _weight(weight, o), costs.data_ptr(),
        )  # fmt: skip
        return costs

    def work(self) -> tuple[int, int]:
        """What the last rasterisation did, see igs_kernels.h: (rows of candidates evaluated, those selected among)."""
        out = (ctypes.c_int64 * 2)()
        self._lib.igs_bins_work(self._bins, out)
        return out[0], out[1]

    def _run(self, function: Any, raster: Raster, *arguments: Any) -> None:
        if function(self._bins, ctypes.byref(raster), *arguments) != 0:
            raise MemoryError("no memory for the rasteriser")


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, means: Tensor, factors: Tensor, features: Tensor, o: RasterOptions) -> Tensor:
        n, c = features.shape
        arrays = _check(means, (n, 2)), _check(factors, (n, 3)), _check(features, (n, c))
        ctx.rasterizer, ctx.options = Rasterizer(), o
        ctx.rasterizer.bin(*arrays, o)
        ctx.save_for_backward(*arrays)
        return ctx.rasterizer.forward(*arrays, o)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*ctx.rasterizer.backward(*ctx.saved_tensors, ctx.options, grad), None)


def rasterize(means: Tensor, factors: Tensor, features: Tensor, options: RasterOptions) -> Tensor:
    """The picture [C, H, W], differentiable; see :func:`igs.encoder.raster.reference.rasterize_reference`.

    The reference's twin, by which tests compare values and gradients; fits call :class:`Rasterizer` without autograd.
    """
    return _Rasterize.apply(means, factors, features, options)


def loss_and_gradient(
    image: Tensor,
    target: Tensor,
    l1: float,
    l2: float,
    ssim: float,
    gradient: bool = True,
    out: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[float, float, float, Tensor | None]:
    """(mean w|e|, mean w·e², mean w·SSIM, dL/dimage or None, in ``out`` if given). SSIM is 0 where its weight is 0.

    L: see :func:`igs.encoder.raster.reference.loss_reference`. weight: w of each pixel [H, W], none: 1.
    """
    c, h, w = image.shape
    sums = (ctypes.c_double * 3)()
    grad = None
    if gradient:
        grad = torch.empty_like(image) if out is None else out
    image, target = _check(image, (c, h, w)), _check(target, (c, h, w))
    grad_pointer = None if grad is None else grad.data_ptr()
    weight = None if weight is None else _check(weight, (h, w))
    weight_pointer = None if weight is None else weight.data_ptr()
    if _lib().igs_loss(w, h, c, image.data_ptr(), target.data_ptr(), weight_pointer, l1, l2, ssim, sums, grad_pointer):
        raise MemoryError("no memory for the loss")
    n = image.numel()
    return sums[0] / n, sums[1] / n, sums[2] / n, grad


def ssim_and_gradient(image: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[float, Tensor]:
    """Mean w·SSIM of two pictures [C, H, W], and the gradient of 1 − that by the first."""
    _, _, ssim, gradient = loss_and_gradient(image, target, 0.0, 0.0, 1.0, weight=weight)
    assert gradient is not None
    return ssim, gradient


def half(picture: Tensor) -> Tensor:
    """See :func:`igs.encoder.raster.multiscale.half`; float32 [C, H, W]."""
    c, h, w = picture.shape
    picture, out = _check(picture, (c, h, w)), picture.new_empty(c, h // 2, w // 2)
    _lib().igs_halve(c, h, w, picture.data_ptr(), out.data_ptr())
    return out


def add_spread(by_half: Tensor, factor: float, by_picture: Tensor) -> None:
    """See :func:`igs.encoder.raster.multiscale.add_spread`; float32 [C, H/2, W/2] and [C, H, W]."""
    c, h, w = by_picture.shape
    if not by_picture.is_contiguous():
        raise ValueError("expected a contiguous gradient to add to")
    by_half = _check(by_half, (c, h // 2, w // 2))
    _lib().igs_add_spread(c, h, w, by_half.data_ptr(), factor, _check(by_picture, (c, h, w)).data_ptr())


def _factors(scales: Tensor, rotations: Tensor, arguments: tuple[int, int, float, float, float]) -> Tensor:
    n = arguments[0]
    scales, rotations, out = _check(scales, (n, 2)), _check(rotations, (n,)), scales.new_empty(n, 3)
    _lib().igs_factors_forward(*arguments, scales.data_ptr(), rotations.data_ptr(), out.data_ptr())
    return out


class _Factors(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scales: Tensor, rotations: Tensor, scale_map: str, sigma_min: float, sigma_max: float, lowpass: float
    ) -> Tensor:
        ctx.arguments = rotations.shape[0], SCALE_MAPS[scale_map], sigma_min, sigma_max, lowpass
        ctx.save_for_backward(scales, rotations)
        return _factors(scales, rotations, ctx.arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scales, rotations = (t.contiguous() for t in ctx.saved_tensors)
        grad_scales, grad_rotations = torch.empty_like(scales), torch.empty_like(rotations)
        grad = grad.contiguous()
        _lib().igs_factors_backward(
            *ctx.arguments, scales.data_ptr(), rotations.data_ptr(), grad.data_ptr(),
            grad_scales.data_ptr(), grad_rotations.data_ptr(),
        )  # fmt: skip
        return grad_scales, grad_rotations, None, None, None, None


def factors(
    scales: Tensor,
    rotations: Tensor,
    scale_map: str = "log",
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    lowpass: float = 0.0,
) -> Tensor:
    """See :func:`igs.encoder.raster.reference.factors_reference`."""
    if not (scales.requires_grad or rotations.requires_grad):  # a graph takes as long as the kernel
        return _factors(scales, rotations, (rotations.shape[0], SCALE_MAPS[scale_map], sigma_min, sigma_max, lowpass))
    return _Factors.apply(scales, rotations, scale_map, sigma_min, sigma_max, lowpass)


def set_num_threads(n: int) -> None:
    """Threads of the compiled kernels (results do not depend on it)."""
    _lib().igs_set_num_threads(n)


def factors_gradient(
    scales: Tensor,
    rotations: Tensor,
    grad_factors: Tensor,
    scale_map: str = "log",
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    lowpass: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Gradients of scales [N, 2] and rotations [N] from dL/dfactors [N, 3], without an autograd graph."""
    grad_scales, grad_rotations = torch.empty_like(scales), torch.empty_like(rotations)
    _lib().igs_factors_backward(
        rotations.shape[0], SCALE_MAPS[scale_map], sigma_min, sigma_max, lowpass, scales.data_ptr(),
        rotations.data_ptr(), grad_factors.data_ptr(), grad_scales.data_ptr(), grad_rotations.data_ptr(),
    )  # fmt: skip
    return grad_scales, grad_rotations


def add_noise(
    means: Tensor, scales: Tensor, rotations: Tensor, features: Tensor, scale_map: str, coarseness: Tensor,
    steps: Tensor, mixed: Tensor, u: Tensor, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX,
) -> tuple[Tensor, ...]:  # fmt: skip
    """See :func:`igs.encoder.raster.reference.add_noise_reference`."""
    given = [t.contiguous() for t in (means, scales, rotations, features)]
    noisy = tuple(torch.empty_like(t) for t in given)
    _lib().igs_add_noise(
        len(rotations), SCALE_MAPS[scale_map], sigma_min, sigma_max, features.shape[1], steps.data_ptr(),
        mixed.data_ptr(), coarseness.data_ptr(), coarseness.numel() > 1, u.data_ptr(),
        *(t.data_ptr() for t in given), *(t.data_ptr() for t in noisy),
    )  # fmt: skip
    return noisy


def adam(
    model: Model, grads: Sequence[Tensor], moments: Moments, age: Tensor, rates: Rates, factor: float = 1.0,
    stepper: Stepper | None = None,
) -> None:  # fmt: skip
    """One step of Adam in place; see :func:`igs.encoder.raster.reference.adam_reference`. stepper: used before."""
    stepper = stepper or Stepper(torch.device("cpu"))
    _lib().igs_adam(ctypes.byref(stepper(model, grads, moments, age, rates, factor)))
    bound_matrices(model, rates)
