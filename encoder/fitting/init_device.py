"""Position maps and draws of :mod:`igs.encoder.fitting.init` in torch, for pictures that lie on a GPU.

The same distributions, with other random numbers: a picture of millions of pixels would take longer to bring home than
to fit for a hundred steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MOST_PAIRED = 2**13  # points: cells take hundreds of small launches, in which time a GPU tries 2^26 pairs (estimated)


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


def neighbour_distance(points: Tensor, among: Tensor, limit: float) -> Tensor:
    """Mean distance [B, n] from each of points [B, n, 2] to its three nearest others of ``among`` [B, m, 2].

    Of some thousands all pairs are tried, of more only those in cells near by: the distances are the same. See
    :func:`igs.encoder.fitting.init.neighbour_distance`.
    """
    k = min(4, among.shape[1])
    if k < 2:
        return points.new_full(points.shape[:2], limit)
    if among.shape[1] > _MOST_PAIRED:
        found = torch.stack([_nearest_by_cells(p, a, k) for p, a in zip(points, among, strict=True)])
    else:
        part = max(1, 2**25 // (points.shape[0] * among.shape[1]))
        nearest = []
        for some in points.split(part, dim=1):
            distance = torch.cdist(some, among, compute_mode="donot_use_mm_for_euclid_dist")
            nearest.append(torch.topk(distance, k, largest=False).values)
        found = torch.cat(nearest, dim=1)
    return found[..., 1:].mean(-1).clamp(0.25, limit)


def _cell(points: Tensor, low: Tensor, side: Tensor, cells: int) -> tuple[Tensor, ...]:
    """Column and row [n] of points [n, 2] in a grid from ``low`` on, of cells × cells squares, none outside."""
    return ((points - low) / side).long().clamp(0, cells - 1).unbind(1)


def _nearest_by_cells(points: Tensor, among: Tensor, k: int) -> Tensor:
    """Distances [n, k], ascending, from each of points [n, 2] to the nearest of ``among`` [m, 2], itself included.

    Each looks at its cell of a square grid and the eight around it. What lies outside is farther away than a cell is
    wide: if the k-th found is not, it is the k-th of all. The rest look again at cells twice as wide, and so on, in the
    end at all points.
    """
    low, m = among.amin(0), len(among)
    extent = (among.amax(0) - low).amax()
    found = points.new_empty(len(points), k)
    left = torch.arange(len(points), device=points.device)
    # Far more cells than points at first: Gaussians come in crowds, and a cell in one is to hold few of them as well.
    cells = 2 ** round(math.log2(16 * math.sqrt(m)))  # in a row of the grid
    while len(left):
        side = extent / cells
        column, row = _cell(among, low, side, cells)
        key, order = (row * cells + column).sort(stable=True)
        x, y = among[order].unbind(1)
        column, row = _cell(points[left], low, side, cells)
        # Neighbours in a row are one run of the sorted points: three runs for each. Rows off the grid have empty ones.
        rows = (row[:, None] + torch.arange(-1, 2, device=row.device)) * cells
        begin = torch.searchsorted(key, rows + (column - 1).clamp_min(0)[:, None])
        end = torch.searchsorted(key, rows + (column + 1).clamp_max(cells - 1)[:, None], right=True)
        longest = (end - begin).amax(1)
        nearest = points.new_full((len(left), k), math.inf)
        enough = ((end - begin).sum(1) >= k).nonzero()[:, 0]
        for alike in enough[longest[enough].argsort(stable=True)].split(2**16):  # padded to the longest of these
            length = max([2, *longest[alike[-1:]].tolist()])  # three runs of 2 are enough for k; alike may be empty
            run = torch.arange(length, device=row.device)
            for some in alike.split(max(1, 2**20 // length)):
                place = begin[some, :, None] + run  # [s, 3, length]
                off = place >= end[some, :, None]
                place.clamp_(max=m - 1)
                here = points[left[some], :, None, None]
                away = torch.hypot(x[place] - here[:, 0], y[place] - here[:, 1]).masked_fill_(off, math.inf)
                nearest[some] = torch.topk(away.flatten(1), k, largest=False).values
        done = (nearest[:, -1] <= side) | (cells <= 2)  # of 2 × 2 cells none is out of sight
        found[left[done]] = nearest[done]
        left = left[~done]
        cells //= 2
    return found


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
