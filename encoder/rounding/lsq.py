"""Learned step quantisation: offset and step per column, trained with what they round (LSQ+, Bhalgat et al. 2020).

Rounding is straight-through: inside the range a value's gradient passes, outside it is zero and moves the offset (and
the step) instead. Gradients are by hand. What a file holds is spec §6 affine: offset + code·step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from igs.format import Quantizer

# First range: the share of the values' own that rounds with the least squared error, tried in this many steps …
_TRIALS = 32
# … for tails only: below this share more is clipped than a few outliers.
_NARROWEST = 0.25
_BETAS, _EPSILON = (0.9, 0.999), 1e-12


class LearnedStep:
    """Columns of values [N, columns] rounded to 2^bits codes each. ``lr``: Adam's rate, in first steps per step."""

    STATE = ("offset", "step", "_unit", "_m", "_v", "_age")

    def __init__(self, values: Tensor, bits: int, lr: float) -> None:
        self.top = float(2**bits - 1)
        self.bits, self.lr = bits, lr
        self.offset, self.step = best_range(values.double(), bits)  # each float64 [columns]
        self._unit = self.step.clone()
        self._m = torch.zeros(2, values.shape[1], dtype=torch.float64, device=values.device)
        self._v = torch.zeros_like(self._m)
        self._age = self._m.new_zeros(())

    def round(self, values: Tensor) -> Tensor:
        """The nearest values [N, columns] that codes stand for."""
        return round_reference(values.double(), self.offset, self.step, self.top).to(values.dtype)

    def gradients(self, values: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dL/dvalues [N, columns], dL/doffset and dL/dstep [columns] from the gradient at the rounded values.

        The last two with LSQ's factor 1/√(N·2^bits − 1), which keeps their size beside that of the values'.
        """
        v, g = (values.double() - self.offset) / self.step, grad.double()
        code = v.clamp(0, self.top).round()
        inside = (v >= 0) & (v <= self.top)
        scale = (self.top * values.numel()) ** -0.5
        by_step = (g * torch.where(inside, code - v, code)).sum(0) * scale
        by_offset = (g * ~inside).sum(0) * scale
        return (g * inside).to(grad.dtype), by_offset, by_step

    def learn(self, values: Tensor, grad: Tensor, factor: float = 1.0) -> Tensor:
        """:meth:`gradients`, and a step of Adam on offset and step at ``factor`` of the rate; gives dL/dvalues."""
        by_values, by_offset, by_step = self.gradients(values, grad)
        g = torch.stack([by_offset, by_step]) * self._unit  # in units of the first step: columns differ in size
        self._age = self._age + 1
        self._m = _BETAS[0] * self._m + (1 - _BETAS[0]) * g
        self._v = _BETAS[1] * self._v + (1 - _BETAS[1]) * g * g
        m, v = self._m / (1 - _BETAS[0] ** self._age), self._v / (1 - _BETAS[1] ** self._age)
        move = factor * self.lr * m / (v.sqrt() + _EPSILON) * self._unit
        self.offset = self.offset - move[0]
        self.step = torch.maximum(self.step - move[1], self._unit * 1e-3)
        return by_values

    def quantizer(self) -> Quantizer:
        """As a file holds it."""
        return Quantizer.affine(self.offset.cpu().numpy(), self.step.cpu().numpy(), self.bits)

    def update(self, values: Tensor) -> None:
        """Nothing to follow: codebooks have."""


def round_reference(values: Tensor, offset: Tensor, step: Tensor, top: float) -> Tensor:
    """offset + code·step of the nearest code in 0 … top; differentiable with the straight-through rule."""
    v = ((values - offset) / step).clamp(0, top)
    code = v + (v.round() - v).detach()
    return offset + code * step


def best_range(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """(offset, step) [columns] over the part of each column's range that rounds with the least squared error."""
    top = 2**bits - 1
    low, high = values.amin(0), values.amax(0)
    span = (high - low).clamp_min(1e-9)
    best = torch.full_like(low, torch.inf)
    offset, step = low.clone(), span / top
    centre = values.median(dim=0).values
    for share in np.linspace(1.0, _NARROWEST, _TRIALS):
        first = centre + share * (low - centre)
        width = span * share / top
        code = ((values - first) / width).round().clamp(0, top)
        error = ((first + code * width - values) ** 2).sum(0)
        better = error < best * (1 - 1e-9)
        best = torch.where(better, error, best)
        offset, step = torch.where(better, first, offset), torch.where(better, width, step)
    return offset, step


class HalfFloat:
    """Values rounded to binary16, straight-through."""

    STATE = ()

    def __init__(self, values: Tensor) -> None:
        self.columns = values.shape[1]

    def round(self, values: Tensor) -> Tensor:
        """The nearest binary16 numbers."""
        return values.half().to(values.dtype)

    def learn(self, values: Tensor, grad: Tensor, factor: float = 1.0) -> Tensor:
        """The gradient as it is: there is nothing to learn."""
        return grad

    def update(self, values: Tensor) -> None:
        """Nothing to follow."""

    def quantizer(self) -> Quantizer:
        """As a file holds it."""
        return Quantizer.float16(self.columns)
