"""SSIM of reduced pictures: the term of the loss that MS-SSIM listens to.

MS-SSIM (Wang et al. 2003) weighs the full picture's structure with 0.0448 and that of pictures reduced by 2 to 16 with
the rest. A loss by SSIM of the full picture spends bits on details that hardly count there; this one is by a sum over
the reduced pictures, each the means of 2 × 2 pixels of the one before, and takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

SHARES = (0.2856, 0.3001, 0.2363, 0.1333)  # of pictures reduced by 2, 4, 8 and 16
_LEAST_SIDE = 11  # pixels: SSIM's window

# Mean w·SSIM of two pictures [C, H, W], and the gradient of 1 − that by the first one.
OneScale = Callable[[Tensor, Tensor, Tensor | None], tuple[float | Tensor, Tensor]]


def _half(t: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(t.unsqueeze(0), 2).squeeze(0).contiguous()


def _spread(gradient: Tensor, like: Tensor) -> Tensor:
    """Gradient by a picture from that by its half; an odd last row or column has none."""
    out = torch.zeros_like(like)
    height, width = gradient.shape[-2:]
    out[..., : 2 * height, : 2 * width] = (gradient / 4).repeat_interleave(2, -2).repeat_interleave(2, -1)
    return out


def _reductions(
    image: Tensor, target: Tensor, weight: Tensor | None
) -> Iterator[tuple[float, Tensor, Tensor, Tensor | None]]:
    """(share, image, target, weight) of each reduction that a window fits into; shares sum to 1. weight: [H, W]."""
    height, width = image.shape[-2:]
    count = sum(min(height, width) >> k + 1 >= _LEAST_SIDE for k in range(len(SHARES)))
    for share in SHARES[:count]:
        image, target = _half(image), _half(target)
        if weight is not None:
            weight = _half(weight.unsqueeze(0)).squeeze(0)
            weight = weight / weight.mean()  # which an odd last row or column that is left out has changed
        yield share / sum(SHARES[:count]), image, target, weight


def loss_reference(
    image: Tensor, target: Tensor, one_scale: Callable[..., Tensor], weight: Tensor | None = None
) -> Tensor:
    """1 − Σ share·mean w·SSIM, 0 of pictures too small. one_scale: SSIM of two pictures [C, H, W], by pixel."""
    total = image.new_zeros(())
    for share, reduced, wanted, w in _reductions(image, target, weight):
        total = total + share * (1 - ((1.0 if w is None else w) * one_scale(reduced, wanted)).mean())
    return total


def loss(image: Tensor, target: Tensor, one_scale: OneScale, weight: Tensor | None = None) -> float | Tensor:
    """The same of pictures without a gradient."""
    total: float | Tensor = 0.0
    for share, reduced, wanted, w in _reductions(image, target, weight):
        total = total + share * (1 - one_scale(reduced, wanted, w)[0])
    return total


def loss_and_gradient(
    image: Tensor, target: Tensor, one_scale: OneScale, weight: Tensor | None = None
) -> tuple[float | Tensor, Tensor]:
    """The same with its gradient by the image [C, H, W]."""
    total: float | Tensor = 0.0
    pictures, parts = [image], []
    for share, reduced, wanted, w in _reductions(image, target, weight):
        ssim, part = one_scale(reduced, wanted, w)
        total = total + share * (1 - ssim)
        pictures.append(reduced)
        parts.append(share * part)
    gradient = torch.zeros_like(pictures[-1])
    for part, picture in zip(reversed(parts), reversed(pictures[:-1]), strict=True):
        gradient = _spread(gradient + part, picture)
    return total, gradient
