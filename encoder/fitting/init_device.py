"""Position maps and draws of :mod:`igs.encoder.fitting.init` in torch, for pictures that lie on a GPU.

The same distributions, with other random numbers: a picture of millions of pixels would take longer to bring home than
to fit for a hundred steps.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gradient_map(target: Tensor) -> Tensor:
    """‖∇I‖ [..., H, W] of pictures [..., C, H, W]: central differences of every channel, root of the sum of squares."""
    total = torch.zeros_like(target.select(-3, 0))
    for plane in target.unbind(-3):
        for axis in (-2, -1):
            if plane.shape[axis] > 1:
                total += torch.gradient(plane, dim=axis)[0] ** 2
    return total.sqrt()


def draw_positions(
    map_: Tensor, n: int, uniform: float, power: float, seed: int, factor: Tensor | None = None
) -> Tensor:
    """n positions [..., n, 2] (x, y in pixels, float64) drawn from each map [..., H, W], in the order of the draw.

    See :func:`igs.encoder.fitting.init.draw_positions`.
    """
    h, w = map_.shape[-2:]
    generator = torch.Generator(map_.device).manual_seed(seed)
    p = map_.clamp_min(0).flatten(-2).double() ** power
    total = p.sum(-1, keepdim=True)
    p = torch.where(total > 0, (1 - uniform) * p / total + uniform / (h * w), 1 / (h * w))
    if factor is not None:
        p = p * factor.flatten(-2).double()
    # Exponential races, as there. Of binary64: of binary32 there are so few that equal times would be common.
    times = torch.empty_like(p).exponential_(generator=generator) / p  # inf where p is 0
    index = torch.topk(times, min(n, h * w), largest=False).indices
    if n > h * w:
        more = torch.multinomial(p.reshape(-1, h * w), n - h * w, replacement=True, generator=generator)
        index = torch.cat([index, more.view(*index.shape[:-1], -1)], dim=-1)
    within = torch.rand(*index.shape, 2, generator=generator, device=p.device, dtype=torch.float64)
    return torch.stack([index % w, index // w], dim=-1) + within


def top_positions(error: Tensor, n: int) -> Tensor:
    """The centres [..., n, 2] of the n pixels with the largest error of each map [..., H, W].

    See :func:`igs.encoder.fitting.init.top_positions`.
    """
    w = error.shape[-1]
    order = torch.sort(error.flatten(-2), dim=-1, descending=True, stable=True).indices
    index = order[..., torch.arange(n, device=order.device) % order.shape[-1]]
    return torch.stack([index % w, index // w], dim=-1).double() + 0.5


def sample_bilinear(pictures: Tensor, points: Tensor) -> Tensor:
    """Values [B, n, C] of pictures [B, C, H, W] at points [B, n, 2], between pixel centres."""
    b, c, h, w = pictures.shape
    x, y = (points[..., 0] - 0.5).clamp(0, w - 1), (points[..., 1] - 0.5).clamp(0, h - 1)
    x0, y0 = x.floor().long(), y.floor().long()
    x1, y1 = (x0 + 1).clamp_max(w - 1), (y0 + 1).clamp_max(h - 1)
    flat = pictures.reshape(b, c, h * w)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row * w + column)[:, None, :].expand(b, c, -1)
        return torch.gather(flat, 2, index).transpose(1, 2)

    fx, fy = (x - x0)[..., None].float(), (y - y0)[..., None].float()
    top = at(y0, x0) * (1 - fx) + at(y0, x1) * fx
    return (top * (1 - fy) + (at(y1, x0) * (1 - fx) + at(y1, x1) * fx) * fy).contiguous()
