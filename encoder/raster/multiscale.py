"""SSIM of reduced pictures: the term of the loss that MS-SSIM listens to.

MS-SSIM (Wang et al. 2003) weighs the full picture's structure with 0.0448 and that of pictures reduced by 2 to 16 with
the rest. A loss by SSIM of the full picture spends bits on details that hardly count there; this one is by a sum over
the reduced pictures, each the means of 2 × 2 pixels of the one before, and takes a third of the time.

A picture of every other row and column (fitting/interlace.py) stands for the one reduced by 2; its own SSIM is left out
for time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

SHARES = (0.2856, 0.3001, 0.2363, 0.1333)  # of pictures reduced by 2, 4, 8 and 16
INTERLACED = SHARES[1:]  # the same of what has every other row and column of the picture
_LEAST_SIDE = 11  # pixels: SSIM's window
_MOST_KEPT = 8  # targets whose reductions are kept: the picture, and four interlaced subsets


def half(picture: Tensor) -> Tensor:
    """Means of 2 × 2 pixels of pictures [..., C, H, W]: [..., C, H/2, W/2]. An odd last row or column is left out."""
    return torch.nn.functional.avg_pool2d(picture, 2).contiguous()


def add_spread(by_half: Tensor, factor: float, by_picture: Tensor) -> None:
    """The adjoint of :func:`half`: add ``factor`` times a gradient by the half picture to one by the picture.

    by_half: [..., C, H/2, W/2]; by_picture: [..., C, H, W], changed in place.
    """
    height, width = by_half.shape[-2:]
    spread = (factor / 4 * by_half).repeat_interleave(2, -2).repeat_interleave(2, -1)
    by_picture[..., : 2 * height, : 2 * width] += spread


@dataclasses.dataclass(frozen=True)
class Scale:
    """A reduction of what is to be drawn; shares of all sum to 1."""

    share: float
    target: Tensor  # [..., C, H, W]
    weight: Tensor | None  # [..., H, W], of mean 1


def scales_of(
    target: Tensor, weight: Tensor | None, shares: tuple[float, ...], half: Callable[[Tensor], Tensor] = half
) -> list[Scale]:
    """The reductions of a picture and of its pixels' weights that a window fits into."""
    height, width = target.shape[-2:]
    count = sum(min(height, width) >> k + 1 >= _LEAST_SIDE for k in range(len(shares)))
    scales = []
    for share in shares[:count]:
        target = half(target)
        if weight is not None:
            weight = half(weight.unsqueeze(-3)).squeeze(-3)
            # An odd last row or column that is left out has changed the mean.
            weight = weight / weight.mean((-2, -1), keepdim=True)
        scales.append(Scale(share / sum(shares[:count]), target, weight))
    return scales


class Operations:
    """What a backend computes with; pictures [C, H, W], weights of pixels [H, W] or None.

    Where several pictures are fitted together they are [B, C, H, W], weights [B, H, W], and means [B].
    ssim: mean w·SSIM of two pictures, and the gradient of 1 − that by the first one. Not thread-safe.
    """

    def __init__(
        self,
        ssim: Callable[[Tensor, Tensor, Tensor | None], tuple[float | Tensor, Tensor]],
        half: Callable[[Tensor], Tensor] = half,
        add_spread: Callable[[Tensor, float, Tensor], None] = add_spread,
    ) -> None:
        self.ssim, self.half, self.add_spread = ssim, half, add_spread
        self._kept: list[tuple[Tensor, Tensor | None, tuple[int, ...], tuple[float, ...], list[Scale]]] = []

    def scales(self, target: Tensor, weight: Tensor | None, shares: tuple[float, ...]) -> list[Scale]:
        """:func:`scales_of` a target, made once for each of those that steps come back to."""
        versions = tuple(t._version for t in (target, weight) if t is not None)
        for place, (kept, its_weight, *what, scales) in enumerate(self._kept):
            if kept is target and its_weight is weight and what == [versions, shares]:
                self._kept.append(self._kept.pop(place))
                return scales
        scales = scales_of(target, weight, shares, self.half)
        self._kept = [*self._kept[1 - _MOST_KEPT :], (target, weight, versions, shares, scales)]
        return scales


def loss_reference(
    image: Tensor,
    target: Tensor,
    one_scale: Callable[..., Tensor],
    weight: Tensor | None = None,
    shares: tuple[float, ...] = SHARES,
) -> Tensor:
    """1 − Σ share·mean w·SSIM, 0 of pictures too small. one_scale: SSIM of two pictures [C, H, W], by pixel."""
    total = image.new_zeros(())
    for scale in scales_of(target, weight, shares):
        image, w = half(image), 1.0 if scale.weight is None else scale.weight
        total = total + scale.share * (1 - (w * one_scale(image, scale.target)).mean())
    return total


def loss(
    image: Tensor,
    target: Tensor,
    operations: Operations,
    weight: Tensor | None = None,
    shares: tuple[float, ...] = SHARES,
) -> float | Tensor:
    """The same of pictures [..., C, H, W] without a gradient."""
    total: float | Tensor = 0.0
    for scale in operations.scales(target, weight, shares):
        image = operations.half(image)
        total = total + scale.share * (1 - operations.ssim(image, scale.target, scale.weight)[0])
    return total


def loss_and_gradient(
    image: Tensor,
    target: Tensor,
    operations: Operations,
    weight: Tensor | None = None,
    shares: tuple[float, ...] = SHARES,
) -> tuple[float | Tensor, Tensor | None]:
    """The same with its gradient by the half picture [C, H/2, W/2], None of pictures too small."""
    total: float | Tensor = 0.0
    gradients = []
    for scale in operations.scales(target, weight, shares):
        image = operations.half(image)
        ssim, gradient = operations.ssim(image, scale.target, scale.weight)
        total = total + scale.share * (1 - ssim)
        gradients.append((scale.share, gradient))
    above, factor = None, 0.0
    for share, gradient in reversed(gradients):  # each carries its own factor, 1 in the end
        if above is not None:
            operations.add_spread(above, factor / share, gradient)
        above, factor = gradient, share
    return total, None if above is None else above.mul_(factor)
