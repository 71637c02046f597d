"""How far apart points lie, in torch: on the host, or on the device of the pictures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# On a GPU, and on a CPU. On the first what counts is how many operations there are, of which cells take hundreds (an
# estimate), on the second how many values they have (1000 × 1000 pairs: 7.6 ms, by cells 9.7; 500 × 6000: 23 and 7).
_MOST_PAIRS = (2**26, 2**20)  # that are all tried
_ALIKE = (2**16, 256)  # points that are looked at together, padded to the one with the most others around it


def neighbour_distance(points: Tensor, among: Tensor, limit: float) -> Tensor:
    """Mean distance [B, n] from each of points [B, n, 2] to its three nearest others of ``among`` [B, m, 2].

    Where there are few pairs all are tried, otherwise only those in cells near by: the distances are the same.
    At most ``limit``, which they are where there is one point.
    """
    k = min(4, among.shape[1])
    if k < 2:
        return points.new_full(points.shape[:2], limit)
    if points.shape[1] * among.shape[1] > _MOST_PAIRS[_kind(points)]:
        found = torch.stack([_nearest_by_cells(p, a, k) for p, a in zip(points, among, strict=True)])
    else:
        part = max(1, 2**25 // (points.shape[0] * among.shape[1]))
        nearest = []
        for some in points.split(part, dim=1):
            nearest.append(torch.topk(_distances(some, among), k, largest=False).values)
        found = torch.cat(nearest, dim=1)
    return found[..., 1:].mean(-1).clamp(0.25, limit)


def _kind(points: Tensor) -> int:
    """Which of each pair of constants."""
    return int(points.device.type == "cpu")


def _distances(points: Tensor, among: Tensor) -> Tensor:
    """From each of points [B, n, 2] to each of ``among`` [B, m, 2]: [B, n, m]."""
    if points.device.type == "cpu":
        return torch.cdist(points, among, compute_mode="donot_use_mm_for_euclid_dist")
    return _distances_by_axis(points, among)


def _distances_by_axis(points: Tensor, among: Tensor) -> Tensor:
    """The same. On a GPU PyTorch's cdist starts a block of threads for each pair, however few numbers a point has."""
    across, down = (points[..., :, None, axis] - among[..., None, :, axis] for axis in (0, 1))
    return torch.hypot(across, down)


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
    cells = 2 ** round(math.log2(8 * math.sqrt(m)))  # in a row of the grid
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
        enough = enough[longest[enough].argsort(stable=True)]
        for alike in enough.split(_ALIKE[_kind(points)]):  # padded to the longest of these
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
