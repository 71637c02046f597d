"""Values at many scattered points: sorted into cells, cells shared among threads, the result the same for any cells.

Kernels are in ``points.py``; a few points take the shorter way in ``image.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from igs.decoder.bins import bands, count_tile_rows, tile_rows
from igs.decoder.constants import NOWHERE
from igs.decoder.points import cell_bounds, sample_row, sort_into_cells
from igs.decoder.rule import Rule, Splats
from igs.decoder.work import Work
from igs.format.threads import run

Ints = npt.NDArray[np.int32]

BATCH = 1 << 20  # points at a time: bounds the memory for sorting to about 30 bytes each
# Four vectors of points share a cell's candidates; fewer, and finding those costs more than it saves …
_POINTS_PER_CELL = 64
# … unless so many Gaussians lie in the cell that most of them are tried in vain.
_GAUSSIANS_PER_CELL = 16
_MAX_CELLS_PER_SIDE = 4096


class Cells:
    """Points in the order of a grid of square cells. Points beyond the grid belong to the cells at its border."""

    def __init__(self, xs: Ints, ys: Ints, width: int, height: int, num_gaussians: int) -> None:
        """xs, ys: int32 units, NOWHERE for none; width, height: the picture in units."""
        somewhere = xs != NOWHERE
        self.number = int(somewhere.sum())
        spans, ends = [], []
        for values, limit in ((xs, width), (ys, height)):
            first = int(np.min(values, initial=2**31 - 1, where=somewhere))
            last = int(np.max(values, initial=-(2**31), where=somewhere))
            ends.append((first, last))
            low, high = min(max(first, 0), limit), min(max(last, 0), limit)
            spans.append((low, max(high - low, 0) + 1))
        (x0, w), (y0, h) = spans
        gaussians = num_gaussians * (w / (width + 1)) * (h / (height + 1))  # about so many lie within
        wanted = max(self.number / _POINTS_PER_CELL, min(gaussians / _GAUSSIANS_PER_CELL, self.number), 1)
        side = max(1.0, float(np.sqrt(w * h / wanted)))
        side = max(side, w / _MAX_CELLS_PER_SIDE, h / _MAX_CELLS_PER_SIDE)
        self.columns, self.rows = int(np.ceil(w / side)), int(np.ceil(h / side))
        self.per_unit = 1.0 / side
        self.x0, self.y0 = float(x0), float(y0)
        self.grid = np.array([x0, y0, self.per_unit, self.columns, self.rows], np.float64)
        self.starts, self.order, self.ordered = sort_into_cells(xs, ys, self.grid)
        self.bounds = cell_bounds(self.starts, self.ordered)
        self.lows_x, self.highs_x = self._edges(self.x0, self.columns, *ends[0])
        self.lows_y, self.highs_y = self._edges(self.y0, self.rows, *ends[1])

    def _edges(
        self, start: float, cells: int, first: int, last: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Low and high ends of the cells along a side; of those at the border as far as there are points."""
        edges = start + np.arange(cells + 1) / self.per_unit
        lows, highs = edges[:-1] - 1.0, edges[1:] + 1.0  # a unit of room for the rounding of the division
        lows[0], highs[-1] = first - 1.0, last + 1.0
        return lows, highs


def sample_cells(
    cells: Cells, splats: Splats, rule: Rule, threads: int, out: npt.NDArray[np.float32], reach_ratio: float = math.inf
) -> None:
    """Stored values at the points of ``cells`` → their rows of ``out``, float32 [points, C].

    reach_ratio: the limit (spec §12); LimitExceeded where a row of cells has more Gaussians to try (work.py).
    """
    out[...] = rule.background
    counts = count_tile_rows(
        splats.means, splats.factors, rule.reach, cells.lows_y, cells.highs_y, cells.y0, cells.per_unit
    )
    for start, end in bands(counts, 1):
        origin = cells.y0 + start / cells.per_unit
        lists = tile_rows(
            splats.means, splats.factors, rule.reach, cells.lows_y[start:end], cells.highs_y[start:end], origin,
            cells.per_unit,
        )  # fmt: skip

        def piece(number: int, start: int = start, lists: Any = lists) -> None:
            row = start + number
            band = cells.lows_y[row], cells.highs_y[row]
            first, last = row * cells.columns, (row + 1) * cells.columns
            work = Work(reach_ratio, int(cells.starts[last] - cells.starts[first]), cells.number)
            blend = rule.top_k, float(rule.sum_blend)
            numbers = np.array([rule.reach, cells.x0, cells.per_unit, *blend, *band, work.most])
            crowd = sample_row(
                splats.means, splats.factors, splats.features, *lists, cells.starts[first : last + 1], cells.order,
                cells.ordered, cells.bounds[first:last], cells.lows_x, cells.highs_x, numbers, rule.floats, number, out,
            )  # fmt: skip
            work.check(crowd)

        run(end - start, threads, piece)


def sample_many(
    xs: Ints,
    ys: Ints,
    size: tuple[int, int, int],
    layers: Callable[[Cells], list[tuple[Splats, Rule]]],
    threads: int,
    out: npt.NDArray[np.float32],
    reach_ratio: float = math.inf,
) -> None:
    """The sum of the layers' stored values at points: xs, ys int32 units → out float32 [points, C].

    size: the picture's width and height in units, and its number of Gaussians. layers: what to add up for the points
    of some cells. reach_ratio: see ``sample_cells``.
    """
    for start in range(0, len(xs), BATCH):
        part = slice(start, start + BATCH)
        cells = Cells(xs[part], ys[part], *size)
        for number, (splats, rule) in enumerate(layers(cells)):
            target = out[part] if number == 0 else np.empty_like(out[part])
            sample_cells(cells, splats, rule, threads, target, reach_ratio)
            if number:
                out[part] += target
