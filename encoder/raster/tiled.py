"""The rasteriser in plain torch, tile by tile, with its own gradient: the encoder's path without compiled kernels.

Same value and gradient as :func:`igs.encoder.raster.reference.rasterize_reference`. Tiles of 16×16 pixels with about
equally many candidates are computed together in batches small enough for the cache; nothing of the size pixels ×
Gaussians is ever held. Candidates come from the bounding box of the reach, then from the exact ellipse–rectangle test
(spec §7).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igs.encoder.raster.reference import RasterOptions

TILE = 16
_BATCH = 1 << 20  # values of d² in one batch: 4 MiB


@dataclasses.dataclass(frozen=True)
class _Batch:
    """T tiles with at most M candidates each; who [T, M] is −1 where there are fewer."""

    x0: Tensor  # [T] first pixel column
    y0: Tensor
    who: Tensor


def rasterize_tiled(means: Tensor, factors: Tensor, features: Tensor, options: RasterOptions) -> Tensor:
    """The picture [C, H, W]; see :func:`igs.encoder.raster.reference.rasterize_reference`."""
    return _Tiled.apply(means, factors, features, options)


def removal_costs_tiled(
    means: Tensor, factors: Tensor, features: Tensor, options: RasterOptions, target: Tensor,
    weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """See :func:`igs.encoder.raster.reference.removal_costs_reference`."""
    o, channels = options, options.channels(features)
    background = features.new_tensor(o.background or (0.0,) * channels)
    tiles = _in_tiles(target, o)
    weights = _in_tiles(torch.ones_like(target[:1]) if weight is None else weight[None], o)
    costs = means.new_zeros(len(means), dtype=torch.float64)
    for batch in _batches(means.numpy(), factors.numpy(), o):
        blend = _Blend(batch, means, factors, features, background, o)
        rises = blend.removal_costs(_of_batch(tiles, batch), _of_batch(weights, batch), background)
        there = batch.who >= 0
        costs.index_add_(0, batch.who[there], rises[there].double())
    return costs.to(means.dtype)


def _in_tiles(picture: Tensor, o: RasterOptions) -> Tensor:
    """A picture [C, H, W] as [C, rows, 16, columns, 16], zeros around it."""
    rows, columns = -(-o.height // TILE), -(-o.width // TILE)
    padded = picture.new_zeros(len(picture), rows * TILE, columns * TILE)
    padded[:, : o.height, : o.width] = picture
    return padded.view(len(picture), rows, TILE, columns, TILE)


def _of_batch(tiles: Tensor, batch: _Batch) -> Tensor:
    """The batch's tiles [T, 256, C]."""
    part = tiles[:, batch.y0 // TILE, :, batch.x0 // TILE, :]  # [T, C, 16, 16]
    return part.reshape(len(batch.x0), len(tiles), TILE * TILE).transpose(1, 2)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, means: Tensor, factors: Tensor, features: Tensor, o: RasterOptions) -> Tensor:
        channels = o.channels(features)
        rows, columns = -(-o.height // TILE), -(-o.width // TILE)
        image = means.new_empty(channels, rows * TILE, columns * TILE)
        tiles = image.view(channels, rows, TILE, columns, TILE)
        background = features.new_tensor(o.background or (0.0,) * channels)
        batches = list(_batches(means.detach().numpy(), factors.detach().numpy(), o))
        for batch in batches:
            value = _Blend(batch, means, factors, features, background, o).value  # [T, 256, C]
            block = value.permute(2, 0, 1).reshape(channels, -1, TILE, TILE)
            tiles[:, batch.y0 // TILE, :, batch.x0 // TILE, :] = block.transpose(0, 1)
        ctx.save_for_backward(means, factors, features, background)
        ctx.options, ctx.batches = o, batches
        return image[:, : o.height, : o.width].contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        means, factors, features, background = ctx.saved_tensors
        o = ctx.options
        tiles = _in_tiles(grad, o)
        grads = torch.zeros_like(means), torch.zeros_like(factors), torch.zeros_like(features)
        for batch in ctx.batches:
            blend = _Blend(batch, means, factors, features, background, o)
            blend.add_gradients(_of_batch(tiles, batch), grads)
        return (*grads, None)


class _Blend:
    """One batch: d² of every candidate at every pixel [T, M, 16, 16], weights, value, gradients."""

    def __init__(
        self, batch: _Batch, means: Tensor, factors: Tensor, features: Tensor, background: Tensor, o: RasterOptions
    ) -> None:
        self.o, self.who = o, batch.who
        index = batch.who.clamp_min(0)
        absent = (batch.who < 0)[:, :, None, None]
        step = torch.arange(TILE, dtype=means.dtype, device=means.device) + 0.5
        x, y = batch.x0.to(means.dtype)[:, None] + step, batch.y0.to(means.dtype)[:, None] + step
        self.dx = x[:, None, :] - means[index, 0][:, :, None]  # [T, M, 16]
        self.dy = y[:, None, :] - means[index, 1][:, :, None]
        self.p, self.q, self.r = (factors[index, k] for k in range(3))  # [T, M]
        self.c = features[index]  # [T, M, F]
        self.u = (self.p[..., None] * self.dx)[:, :, None, :] + (self.q[..., None] * self.dy)[:, :, :, None]
        self.v = self.r[..., None] * self.dy  # [T, M, 16]
        d2 = torch.addcmul((self.v * self.v)[:, :, :, None], self.u, self.u)
        d2.masked_fill_(absent, math.inf)
        nearest = d2.amin(dim=1, keepdim=True)
        self.pulled: Tensor | None = None
        if o.blend == "sum":
            limit: Tensor | float = o.reach2
            shift: Tensor | float = 0.0
        else:
            limit = (nearest + o.relative_reach2).clamp_max(o.reach2)
            if o.pull > 0:
                limit = torch.maximum(limit, nearest)
                inside = (y < o.height)[:, None, :, None] & (x < o.width)[:, None, None, :]
                self.pulled = (nearest > o.pull_share * o.reach2) & torch.isfinite(nearest) & inside
            if d2.shape[1] > o.top_k and int((d2 <= limit).sum(dim=1).max()) > o.top_k:
                limit = torch.minimum(limit, d2.kthvalue(o.top_k, dim=1, keepdim=True).values)
            shift = torch.where(torch.isfinite(nearest), nearest, torch.zeros_like(nearest))
        out = d2 > limit
        self.w = d2.sub_(shift).mul_(-0.5).exp_().masked_fill_(out, 0.0)  # d2 is gone from here on
        flat = self.w.flatten(2).transpose(1, 2)  # [T, 256, M]
        total = flat.sum(dim=2, keepdim=True)
        if o.gradient:
            self.a, self.b = self.c[..., -2:-1], self.c[..., -1:]  # [T, M, 1]
            self.c, self.lit = self.c[..., :-2], o.lit_channels(features)
            self.tilt = self.a[..., None] * self.u + (self.b * self.v)[..., None]  # a·u + b·v, [T, M, 16, 16]
            tilt = (self.w * self.tilt).sum(dim=1).flatten(1)[..., None]
            weighted = torch.bmm(flat, self.c) + self.lit * tilt
        else:
            weighted = torch.bmm(flat, self.c)
        if o.blend == "sum":
            self.inverse = torch.ones_like(total)
            self.value = weighted + background
        else:
            self.inverse = torch.where(total > 0, 1 / total.clamp_min(1e-30), torch.zeros_like(total))
            self.value = torch.where(total > 0, weighted * self.inverse, background)

    def add_gradients(self, grad: Tensor, sums: tuple[Tensor, Tensor, Tensor]) -> None:
        """Add what dL/dvalue [T, 256, C] means for means, factors and features."""
        scaled = grad * self.inverse
        h = torch.bmm(self.c, scaled.transpose(1, 2))  # Σ c·dL/dvalue / Σw, [T, M, 256]
        if self.o.blend == "topk":
            h -= (scaled * self.value).sum(dim=2)[:, None, :]
        if self.o.gradient:
            lit = (scaled * self.lit).sum(dim=2)  # [T, 256]
            h += lit[:, None, :] * self.tilt.flatten(2)
        h = h.view_as(self.w).mul_(self.w).mul_(-0.5)
        if self.pulled is not None:
            h += self.o.pull * self.pulled * self.w
        hu = h * self.u
        colours = torch.bmm(self.w.flatten(2), scaled)  # [T, M, C]
        v_pull = torch.zeros_like(self.v)
        if self.o.gradient:
            wl = self.w * lit.view(-1, 1, TILE, TILE)
            wl_y = wl.sum(dim=3)  # by row
            slopes = (wl * self.u).sum(dim=(2, 3)), (wl_y * self.v).sum(dim=2)
            colours = torch.cat([colours, torch.stack(slopes, dim=2)], dim=2)
            hu += wl * (0.5 * self.a[..., None])  # a and b pull on u and v as well
            v_pull = self.b * wl_y
        hu_x, hu_y, h_y = hu.sum(dim=2), hu.sum(dim=3), h.sum(dim=3)  # [T, M, 16]: by column, by row, by row
        hu_all = hu_x.sum(dim=2)
        v_grad = 2 * h_y * self.v + v_pull  # dL/dv, [T, M, 16]
        parts = (
            -2 * self.p * hu_all,
            -2 * self.q * hu_all - self.r * v_grad.sum(dim=2),
            2 * (hu_x * self.dx).sum(dim=2),
            2 * (hu_y * self.dy).sum(dim=2),
            (v_grad * self.dy).sum(dim=2),
        )
        there = self.who >= 0
        index = self.who[there]
        sums[0].index_add_(0, index, torch.stack([p[there] for p in parts[:2]], dim=1))
        sums[1].index_add_(0, index, torch.stack([p[there] for p in parts[2:]], dim=1))
        sums[2].index_add_(0, index, colours[there])

    def removal_costs(self, target: Tensor, weight: Tensor, background: Tensor) -> Tensor:
        """How Σw·e² rises without each candidate, [T, M]. target: [T, 256, C]; weight: [T, 256, 1], 0 outside."""
        error, w = self.value - target, self.w.flatten(2)  # [T, M, 256]
        total = w.sum(dim=1, keepdim=True)
        rest = total - w
        alone = rest <= total * 1e-5  # what counts weighs more
        cost = torch.zeros_like(w)
        for c in range(target.shape[2]):
            colour = self.c[:, :, c, None].expand_as(w)
            if self.o.gradient:
                colour = colour + self.lit[c] * self.tilt.flatten(2)
            value = self.value[:, None, :, c]
            if self.o.blend == "sum":
                change = -w * colour
            else:
                change = torch.where(alone, background[c] - value, (value - colour) * w / rest)
            cost += torch.where(w > 0, change * (2 * error[:, None, :, c] + change) * weight[:, None, :, 0], 0.0)
        return cost.sum(dim=2)


def _batches(means: NDArray[Any], factors: NDArray[Any], o: RasterOptions) -> Iterator[_Batch]:
    """All tiles, those with alike numbers of candidates together."""
    lists = _candidates(means.astype(np.float64), factors.astype(np.float64), o)
    order = sorted(range(len(lists)), key=lambda t: len(lists[t][2]))
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * max(1, len(lists[order[stop]][2])) * TILE * TILE <= _BATCH:
            stop += 1
        members = [lists[t] for t in order[start:stop]]
        who = np.full((len(members), max(1, max(len(m[2]) for m in members))), -1, np.int64)
        for row, (_, _, candidates) in zip(who, members, strict=True):
            row[: len(candidates)] = candidates
        x0, y0 = (torch.from_numpy(np.array([m[k] for m in members])) for k in (0, 1))
        yield _Batch(x0, y0, torch.from_numpy(who))
        start = stop


def _candidates(means: NDArray[Any], factors: NDArray[Any], o: RasterOptions) -> list[tuple[int, int, NDArray[Any]]]:
    """(x0, y0, Gaussians that may count) of every tile."""
    p, q, r = factors.T
    reach = math.sqrt(o.reach2)
    hx, hy = reach * np.sqrt(q * q + r * r) / (p * r), reach / r
    found = []
    everyone = np.arange(len(means))
    for y0 in range(0, o.height, TILE):
        y1 = min(y0 + TILE, o.height)
        row = np.flatnonzero((means[:, 1] + hy >= y0 + 0.5) & (means[:, 1] - hy <= y1 - 0.5))
        left, right = means[row, 0] - hx[row], means[row, 0] + hx[row]
        for x0 in range(0, o.width, TILE):
            x1 = min(x0 + TILE, o.width)
            who = row[(right >= x0 + 0.5) & (left <= x1 - 0.5)]
            box = (x0 + 0.5, y0 + 0.5, x1 - 0.5, y1 - 0.5)
            low, high = _rectangle_d2(means[who], factors[who], box)
            bound = o.reach2
            if o.blend == "topk":
                farthest = high.min(initial=math.inf)
                if farthest <= o.reach2:
                    bound = min(o.reach2, farthest + o.relative_reach2)
                elif o.pull > 0:  # some pixel's nearest Gaussian may not be among these
                    who = everyone
                    low, high = _rectangle_d2(means, factors, box)
                    bound = max(o.reach2, high.min())
            found.append((x0, y0, who[low <= bound * (1 + 1e-5)]))
    return found


def _rectangle_d2(
    means: NDArray[Any], factors: NDArray[Any], box: tuple[float, float, float, float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Smallest and largest d² of the points of a rectangle (x0, y0, x1, y1), per Gaussian; see csrc/gaussian.h."""
    x0, x1 = box[0] - means[:, 0], box[2] - means[:, 0]
    y0, y1 = box[1] - means[:, 1], box[3] - means[:, 1]
    p, q, r = factors.T

    def d2(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        return np.asarray((p * x + q * y) ** 2 + (r * y) ** 2)

    corners = np.stack([d2(x, y) for x in (x0, x1) for y in (y0, y1)])
    nearest = [
        d2(np.clip(-q * y / p, x0, x1), y)
        for y in (y0, y1)  # along a horizontal side
    ] + [
        d2(x, np.clip(-p * q * x / (q * q + r * r), y0, y1))
        for x in (x0, x1)  # along a vertical one
    ]
    inside = (x0 <= 0) & (x1 >= 0) & (y0 <= 0) & (y1 >= 0)
    return np.where(inside, 0.0, np.min(nearest, axis=0)), corners.max(axis=0)
