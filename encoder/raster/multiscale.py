"""SSIM of reduced pictures: the term of the loss that MS-SSIM listens to.

MS-SSIM (Wang et al. 2003) weighs the full picture's structure with 0.0448 and that of pictures reduced by 2 to 16 with
the rest. A loss by SSIM of the full picture spends bits on details that hardly count there; this one is by a sum over
the reduced pictures, each the means of 2 × 2 pixels of the one before, and takes a third of the time.

A picture of every other row and column (fitting/interlace.py) stands for the one reduced by 2; its own SSIM is left out
for time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

SHARES = (0.2856, 0.3001, 0.2363, 0.1333)  # of pictures reduced by 2, 4, 8 and 16
INTERLACED = SHARES[1:]  # the same of what has every other row and column of the picture
_LEAST_SIDE = 11  # pixels: SSIM's window


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
class Operations:
    """What a backend computes with; pictures [C, H, W], weights of pixels [H, W] or None.

    Where several pictures are fitted together they are [B, C, H, W], weights [B, H, W], and means [B].
    """

    # Mean w·SSIM of two pictures, and the gradient of 1 − that by the first one.
    ssim: Callable[[Tensor, Tensor, Tensor | None], tuple[float | Tensor, Tensor]]
    half: Callable[[Tensor], Tensor] = half
    add_spread: Callable[[Tensor, float, Tensor], None] = add_spread


def _reductions(
    image: Tensor,
    target: Tensor,
    weight: Tensor | None,
    shares: tuple[float, ...],
    half: Callable[[Tensor], Tensor],
) -> Iterator[tuple[float, Tensor, Tensor, Tensor | None]]:
    """(share, image, target, weight) of each reduction that a window fits into; shares sum to 1."""
    height, width = image.shape[-2:]
    count = sum(min(height, width) >> k + 1 >= _LEAST_SIDE for k in range(len(shares)))
    for share in shares[:count]:
        image, target = half(image), half(target)
        if weight is not None:
            weight = half(weight.unsqueeze(-3)).squeeze(-3)
            # An odd last row or column that is left out has changed the mean.
            weight = weight / weight.mean((-2, -1), keepdim=True)
        yield share / sum(shares[:count]), image, target, weight


def loss_reference(
    image: Tensor,
    target: Tensor,
    one_scale: Callable[..., Tensor],
    weight: Tensor | None = None,
    shares: tuple[float, ...] = SHARES,
) -> Tensor:
    """1 − Σ share·mean w·SSIM, 0 of pictures too small. one_scale: SSIM of two pictures [C, H, W], by pixel."""
    total = image.new_zeros(())
    for share, reduced, wanted, w in _reductions(image, target, weight, shares, half):
        total = total + share * (1 - ((1.0 if w is None else w) * one_scale(reduced, wanted)).mean())
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
    for share, reduced, wanted, w in _reductions(image, target, weight, shares, operations.half):
        total = total + share * (1 - operations.ssim(reduced, wanted, w)[0])
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
    scales = []
    for share, reduced, wanted, w in _reductions(image, target, weight, shares, operations.half):
        ssim, gradient = operations.ssim(reduced, wanted, w)
        total = total + share * (1 - ssim)
        scales.append((share, gradient))
    above, factor = None, 0.0
    for share, gradient in reversed(scales):  # each carries its own factor, 1 in the end
        if above is not None:
            operations.add_spread(above, factor / share, gradient)
        above, factor = gradient, share
    return total, None if above is None else above.mul_(factor)
