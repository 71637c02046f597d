"""How a picture changes with the numbers of each of its Gaussians: blocks of the Gauss–Newton matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

F64 = NDArray[np.float64]
PROBES = 64  # random pictures whose gradients estimate the matrices
MAJOR, MINOR, ANGLE, X, Y, SLOPES = range(6)  # the numbers of a form, see Sensitivities; the slopes are the last ones
_RIDGE = 0.02  # of the diagonal: the matrices are estimates


class Costs(NamedTuple):
    """What a change of a Gaussian's form costs when its values follow it, and how they do: see ``Sensitivities``."""

    matrix: F64  # [N, G, G]
    response: F64  # [N, C, G]
    value: F64  # [N]: what a change of a channel's value costs

    def rows(self, which: NDArray[np.intp]) -> Costs:
        """Those of some Gaussians."""
        return Costs(*(part[which] for part in self))


class Sensitivities(NamedTuple):
    """JᵀWJ of the picture's Jacobian, of each Gaussian by itself; without what is zero, as no channel shows in another.

    Its form are scales 1, 2, rotation, x, y, and the slopes of Gaussians that carry a gradient: G numbers.
    """

    form: F64  # [N, G, G]
    mixed: F64  # [N, G, C]: a number of the form and a channel's value
    value: F64  # [N]: a channel's value, the same for all

    def without_values(self) -> Costs:
        """What a change of the form costs when the values follow it.

        The mean over random signs is less sure of ``mixed`` the more channels there are: of as many as there were signs
        it would be all chance. That share is taken off.
        """
        known = max(0.0, 1 - self.mixed.shape[2] / PROBES)
        value = (1 + _RIDGE) * self.value + 1e-9
        response = -known * self.mixed.transpose(0, 2, 1) / value[:, None, None]
        unit = np.sqrt(np.einsum("nii->ni", self.form) + 1e-9)
        unit = unit[:, :, None] * unit[:, None, :]
        size, direction = np.linalg.eigh((self.form + self.mixed @ response) / unit)
        size = np.maximum(size + _RIDGE, _RIDGE)  # of 1 % of a picture's Gaussians there are negative ones
        return Costs(np.einsum("nij,nj,nkj->nik", direction, size, direction) * unit, response, value)


def numbers(parts: Sequence[Tensor], channels: int) -> tuple[Tensor, Tensor]:
    """A form's numbers [N, G] and the values [N, C] of tensors as Model.NAMES."""
    position, scale, rotation, feature = parts
    return torch.cat([scale, rotation[:, None], position, feature[:, channels:]], dim=1), feature[:, :channels]


def sensitivities(
    pullback: Callable[[Tensor], tuple[Tensor, ...]], shape: tuple[int, ...], seed: int, probes: int = PROBES,
    place: torch.device | str = "cpu", weight: Tensor | None = None,
) -> Sensitivities:  # fmt: skip
    """How a picture of this shape, [C, H, W], changes with each Gaussian's attributes.

    pullback: Jᵀ of a picture [C, H, W], as Model.NAMES. weight: W of each pixel [H, W], none: 1.
    An average over random signs, times √W: its expectation is exact.
    """
    generator = torch.Generator(place).manual_seed(seed)
    root = 1.0 if weight is None else weight.sqrt()
    channels = shape[0]
    total: list[Tensor] = []
    for _ in range(probes):
        g, values = (part.double() for part in numbers(pullback(_signs(shape, generator) * root), channels))
        products = g[:, :, None] * g[:, None, :], g[:, :, None] * values[:, None, :], values.square().mean(1)
        total = [t.add_(p) for t, p in zip(total, products, strict=True)] if total else list(products)
    return Sensitivities(*((t / probes).cpu().numpy() for t in total))


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Random ±1 as float32, eight of each byte drawn: drawing is what takes the time."""
    count = math.prod(shape)
    place = generator.device
    drawn = torch.randint(0, 256, (-(-count // 8), 1), generator=generator, dtype=torch.uint8, device=place)
    bits = (drawn >> torch.arange(8, dtype=torch.uint8, device=place)) & 1
    return bits.flatten()[:count].reshape(shape).float().mul_(2).sub_(1)
