"""Residual vector quantisation of colours: k-means tables that follow what they stand for (spec §6 codebook).

Each stage has a table of 2^bits rows, and a value is the sum of one row of each, chosen stage by stage. While fitting
the gradient passes straight through, a commitment term draws each value to its rows, and every table follows the
values that use it (an exponential average). Source: GaussianImage (ECCV 2024), which has two stages of eight rows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from igs.format import Quantizer

_DECAY = 0.8  # of the averages, per step (as published)
_ROUNDS = 20  # of k-means at the start (published: 5)


class ResidualCodebook:
    """Values [N, columns] as sums of rows of ``tables`` [stages, 2^bits, columns]. ``commit``: weight of the pull."""

    STATE = ("tables", "_count", "_sum")

    def __init__(self, values: Tensor, bits: int, stages: int, commit: float, seed: int = 0) -> None:
        self.commit = commit
        rng = np.random.default_rng(seed)
        rest = values.double().cpu()  # k-means draws and loops on the host
        tables, counts, sums = [], [], []
        for _ in range(stages):
            table = kmeans(rest, 2**bits, _ROUNDS, rng)
            code = nearest(rest, table)
            count, total = _tally(rest, code, len(table))
            tables.append(table)
            counts.append(count)
            sums.append(total)
            rest = rest - table[code]
        parts = (torch.stack(t).to(values.device) for t in (tables, counts, sums))
        self.tables, self._count, self._sum = parts  # float64

    def codes(self, values: Tensor) -> Tensor:
        """Row numbers [N, stages]."""
        rest, codes = values.double(), []
        for table in self.tables:
            codes.append(nearest(rest, table))
            rest = rest - table[codes[-1]]
        return torch.stack(codes, dim=1)

    def round(self, values: Tensor) -> Tensor:
        """What the codes of the values stand for."""
        codes = self.codes(values)
        return sum(table[codes[:, i]] for i, table in enumerate(self.tables)).to(values.dtype)

    def learn(self, values: Tensor, grad: Tensor, factor: float = 1.0) -> Tensor:
        """dL/dvalues from the gradient at the rounded ones: that, and the commitment term's mean squared distance."""
        if not self.commit:
            return grad
        rest, pull = values.double(), torch.zeros_like(values, dtype=torch.float64)
        for table in self.tables:
            rest = rest - table[nearest(rest, table)]
            pull = pull + rest
        return grad + (2 * self.commit / values.numel() * pull).to(grad.dtype)

    def update(self, values: Tensor) -> None:
        """Move the tables towards the values that use them."""
        rest, tables = values.double(), []
        for i, table in enumerate(self.tables):
            code = nearest(rest, table)
            count, total = _tally(rest, code, len(table))
            self._count[i] = _DECAY * self._count[i] + (1 - _DECAY) * count
            self._sum[i] = _DECAY * self._sum[i] + (1 - _DECAY) * total
            used = self._count[i] > 1e-3  # a row that nothing uses stays where it is
            moved = torch.where(used[:, None], self._sum[i] / self._count[i].clamp_min(1e-9)[:, None], table)
            rest = rest - table[code]
            tables.append(moved)
        self.tables = torch.stack(tables)

    def quantizer(self) -> Quantizer:
        """As a file holds it."""
        return Quantizer.codebook(self.tables.cpu().numpy())


def nearest(values: Tensor, table: Tensor) -> Tensor:
    """The row [N] of a table [rows, columns] nearest to each of values [N, columns]."""
    codes = [
        ((table * table).sum(1) - 2 * part @ table.T).argmin(1) for part in values.split(max(1, 2**22 // len(table)))
    ]
    return torch.cat(codes)


def _tally(values: Tensor, code: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    if code.is_cuda:  # additions there come in any order; a product's don't
        member = (code[:, None] == torch.arange(rows, device=code.device)).to(values.dtype)
        return member.sum(0), member.T @ values
    count = values.new_zeros(rows).index_add_(0, code, values.new_ones(len(code)))
    total = values.new_zeros(rows, values.shape[1]).index_add_(0, code, values)
    return count, total


def kmeans(values: Tensor, rows: int, rounds: int, rng: np.random.Generator) -> Tensor:
    """Centres [rows, columns] of values [N, columns], float64. Starts spread out (k-means++), fills empty rows anew."""
    n = len(values)
    table = values[rng.integers(n)][None]
    distance = ((values - table[0]) ** 2).sum(1)
    while len(table) < rows:
        p = distance.numpy()
        total = p.sum()
        at = int(rng.choice(n, p=p / total)) if total > 0 else int(rng.integers(n))
        table = torch.cat([table, values[at][None]])
        distance = torch.minimum(distance, ((values - table[-1]) ** 2).sum(1))
    for _ in range(rounds):
        count, total_ = _tally(values, nearest(values, table), rows)
        table = torch.where((count > 0)[:, None], total_ / count.clamp_min(1)[:, None], table)
    return table
