"""One step of Adam on all that a model has: what it goes by, and how the kernels of the CPU and of a GPU are told."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from igs.encoder.raster import shapes
from igs.encoder.raster.model import Model
from igs.format.fields import SIGMA_MAX, SIGMA_MIN

_INFINITE = 3e38  # stands for no bound

Moments = Sequence[tuple[Tensor, Tensor]]  # Adam's m and v of each of ``Model.NAMES``


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates in each parameter's units, Adam's constants, and what parameters are brought back to.

    A rate of 0 leaves a parameter and its moments as they are.
    """

    position: float
    scale: float
    rotation: float
    feature: float
    slope: float | None = None  # of the two last features, which are a luma gradient's; None: there is none
    # What Adam sees as a position's parameter, in pixels along x and y. None: each Gaussian's deviations along its own
    # axes; the gradient is turned into them, and moments are along them.
    unit: tuple[float, float] | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    epsilon: float = 1e-15
    least: tuple[float, float] = (-math.inf, -math.inf)  # of positions, pixels
    most: tuple[float, float] = (math.inf, math.inf)
    deviations: tuple[float, float] = (SIGMA_MIN, SIGMA_MAX)  # the least and the most of them, pixels

    @functools.cached_property
    def columns(self) -> tuple[float, float, float, float]:
        """Of ``Model.NAMES``; the features' largest."""
        return self.position, self.scale, self.rotation, max(self.feature, self.slope or 0.0)


class Adam(ctypes.Structure):
    """``igs::Adam`` of csrc/gaussian.h."""

    _fields_ = (
        *((name, ctypes.c_void_p * 4) for name in ("values", "grads", "m", "v")),
        *((name, ctypes.c_void_p) for name in ("age", "scales", "rotations")),
        *((name, ctypes.c_int32) for name in ("n", "columns", "colours", "map", "along_axes")),
        *((name, ctypes.c_float) for name in ("lo", "hi")),
        ("rates", ctypes.c_float * 4),
        ("slope_rate", ctypes.c_float),
        ("unit", ctypes.c_float * 2),
        *((name, ctypes.c_float) for name in ("beta1", "beta2", "rest1", "rest2", "epsilon", "log1", "log2")),
        ("least", ctypes.c_float * 2),
        ("most", ctypes.c_float * 2),
        *((name, ctypes.c_float) for name in ("least_scale", "most_scale")),
    )


class Stepper:
    """Fills in ``Adam`` for steps of models on one device. ``kept``: what the last one points to."""

    def __init__(self, device: torch.device) -> None:
        self.adam, self._device = Adam(), device
        self.kept: tuple[object, ...] = ()
        self._rates: tuple[Rates, str] | None = None

    def __call__(
        self, model: Model, grads: Sequence[Tensor], moments: Moments, age: Tensor, rates: Rates, factor: float,
    ) -> Adam:  # fmt: skip
        """For one step; see :func:`igs.encoder.raster.reference.adam_reference`."""
        a = self.adam
        if self._rates != (rates, model.scale_map):
            self._describe(rates, model.scale_map)
        a.n, a.columns = len(model), model.feature.shape[1]
        a.colours = a.columns - 2 * (rates.slope is not None)
        grads = [g.contiguous() for g in grads]
        axes = shapes.axes(model.scale, model.rotation, model.scale_map) if a.along_axes else ()
        self.kept = grads, axes
        if axes:
            a.scales, a.rotations, a.map = axes[0].data_ptr(), axes[1].data_ptr(), shapes.SCALE_MAPS[axes[2]]
        check_tensor("age", age, self._device, torch.int32)
        a.age = age.data_ptr()
        arrays = zip(Model.NAMES, model.tensors(), grads, moments, rates.columns, strict=True)
        for k, (name, value, grad, (m, v), rate) in enumerate(arrays):
            for what, tensor in ((name, value), ("grads", grad), ("m", m), ("v", v)):
                check_tensor(what, tensor, self._device, torch.float32)
            a.values[k], a.m[k], a.v[k] = value.data_ptr(), m.data_ptr(), v.data_ptr()
            a.grads[k] = grad.data_ptr() if rate else None
            a.rates[k] = rate * factor
        a.rates[3], a.slope_rate = rates.feature * factor, (rates.slope or 0.0) * factor
        return a

    def _describe(self, rates: Rates, scale_map: str) -> None:
        a, betas = self.adam, [float(np.float32(b)) for b in rates.betas]  # as kernels have them, also in what follows
        a.along_axes, a.unit = rates.unit is None, (ctypes.c_float * 2)(*(rates.unit or (1.0, 1.0)))
        a.lo, a.hi = SIGMA_MIN, SIGMA_MAX
        (a.beta1, a.beta2), a.epsilon = betas, rates.epsilon
        a.rest1, a.rest2 = (1 - b for b in betas)
        a.log1, a.log2 = (math.log(b) if b else -math.inf for b in betas)
        a.least = (ctypes.c_float * 2)(*(max(x, -_INFINITE) for x in rates.least))
        a.most = (ctypes.c_float * 2)(*(min(x, _INFINITE) for x in rates.most))
        matrix = shapes.is_matrix(scale_map)  # whose deviations are bounded below
        ends = (-_INFINITE, _INFINITE) if matrix else shapes.scale_bounds(scale_map, *rates.deviations)
        a.least_scale, a.most_scale = ends
        self._rates = rates, scale_map


def check_tensor(name: str, tensor: Tensor, device: torch.device, dtype: torch.dtype) -> None:
    """Raise ValueError for a tensor that a kernel can't read as it lies."""
    if tensor.device != device or tensor.dtype != dtype or not tensor.is_contiguous():
        found = f"{tensor.dtype}, {'' if tensor.is_contiguous() else 'not '}contiguous, on {tensor.device}"
        raise ValueError(f"{name}: expected {dtype}, contiguous, on {device}, found {found}")


def bound_matrices(model: Model, rates: Rates) -> None:
    """What kernels leave to do where shapes are entries of matrices: bring their deviations back."""
    if shapes.is_matrix(model.scale_map):
        shapes.bound_shapes(model.scale, model.rotation, model.scale_map, *rates.deviations)
