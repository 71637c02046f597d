"""Regions from Gaussians: cuts a grid into strips of tile rows, shares them among threads, hands each strip on.

Works on Gaussians in memory, so that the encoder can look at its fit before a file exists. Files are ``image.py``'s,
picture values ``output.py``'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from igs.decoder.grid import Grid, make_grid
from igs.decoder.rule import Rule, Splats
from igs.decoder.work import TILE_POINTS, Work
from igs.format.threads import default_threads, run

if TYPE_CHECKING:
    from igs.format import Gaussians, Header

Layer = tuple[Splats, Rule]
Strip = npt.NDArray[np.float32]  # [rows, columns, C]

# Sample points per piece of work: many pieces for the threads to share, each far longer than a call takes (10 µs).
STRIP_SAMPLES = 1 << 15


class Axis:
    """One axis of a grid in tiles."""

    def __init__(self, points: npt.NDArray[np.int32], samples: int, reduction: int) -> None:
        from igs.decoder.bins import tile_bounds
        from igs.decoder.tiles import tile_axis

        firsts, counts, self.tiles_per_unit, self.samples_per_unit = tile_axis(samples, reduction)
        self.points = points
        self.tiles = np.stack([firsts, counts])  # [2, tiles]
        self.lows, self.highs, self.per_unit = tile_bounds(points, firsts, counts)

    def __len__(self) -> int:
        return len(self.lows)

    def guess(self, first_tile: int = 0) -> tuple[float, float]:
        """Origin and tiles per unit of the tiles from ``first_tile`` on: about where a coordinate's tile is."""
        return float(self.lows[first_tile]), self.per_unit

    def numbers(self, rule: Rule, reduction: int, most: float = math.inf) -> npt.NDArray[np.float64]:
        """What the tile kernels take besides arrays. most: entries of the lists of a row of tiles."""
        return np.array([rule.reach, *self.guess(), rule.top_k, float(rule.sum_blend), reduction, most], np.float64)


def render_strips(
    layers: Sequence[Layer],
    grid: Grid,
    threads: int,
    emit: Callable[[int, Strip], None],
    out: npt.NDArray[np.float32] | None = None,
    reach_ratio: float = math.inf,
) -> None:
    """Compute the sum of the layers' stored values on a grid, strip by strip.

    emit(first row, strip [rows, columns, C]) is called once per strip, from any thread; the strip is reused afterwards.
    With ``out`` (float32 [rows, columns, C]) strips are views of it and need not be copied.
    reach_ratio: the limit (spec §12); LimitExceeded where a row of tiles has more Gaussians to try (work.py).
    """
    from igs.decoder.bins import bands, count_tile_rows, tile_rows
    from igs.decoder.tiles import render_rows

    across = Axis(grid.xs, grid.columns, grid.reduction)
    down = Axis(grid.ys, grid.rows, grid.reduction)
    channels = len(layers[0][1].background)
    counts = np.zeros(len(down), np.int64)
    for splats, rule in layers:
        counts += count_tile_rows(splats.means, splats.factors, rule.reach, down.lows, down.highs, *down.guess())
    unit = down.tiles_per_unit
    unit_samples = max(1, len(grid.xs) * down.samples_per_unit * grid.reduction)
    work = Work(reach_ratio, len(across) * TILE_POINTS, len(across) * TILE_POINTS * len(down))
    step = unit * max(1, STRIP_SAMPLES // unit_samples)  # tile rows per piece of work
    for start, end in bands(counts, unit):
        lists = [
            tile_rows(
                splats.means,
                splats.factors,
                rule.reach,
                down.lows[start:end],
                down.highs[start:end],
                *down.guess(start),
            )
            for splats, rule in layers
        ]

        def piece(number: int, start: int = start, end: int = end, lists: Any = lists) -> None:
            first = start + number * step
            last = min(first + step, end)
            top = first // unit * down.samples_per_unit
            bottom = min(-(-last // unit) * down.samples_per_unit, grid.rows)
            shape = (bottom - top, grid.columns, channels)
            strip = np.empty(shape, np.float32) if out is None else out[top:bottom]
            for layer, ((splats, rule), (starts, members)) in enumerate(zip(layers, lists, strict=True)):
                target = strip if layer == 0 else np.empty(shape, np.float32)
                crowd = render_rows(
                    splats.means, splats.factors, splats.features, starts, members, grid.xs, grid.ys, across.tiles,
                    np.ascontiguousarray(down.tiles[:, first:last]), across.lows, across.highs,
                    across.numbers(rule, grid.reduction, work.most / TILE_POINTS), rule.floats, first - start, target,
                )  # fmt: skip
                work.check(crowd * TILE_POINTS)
                if layer:
                    strip += target
            emit(top, strip)

        run(-(-(end - start) // step), threads, piece)


def render(
    header: Header,
    gaussians: Gaussians,
    x: float = 0,
    y: float = 0,
    w: float | None = None,
    h: float | None = None,
    scale: float = 1.0,
    threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """The *stored* values of a region (spec §7, §8) from all of the given Gaussians, as one level.

    x, y, w, h: pixels (default: the whole picture); scale: samples per pixel. → float32 [rows, columns, C].
    Raises UsageError as ``Image.region``.
    """
    grid = make_grid(
        x,
        y,
        header.width if w is None else w,
        header.height if h is None else h,
        scale,
        header.width,
        header.height,
    )
    out = np.empty((grid.rows, grid.columns, header.channels), np.float32)
    threads = default_threads() if threads is None else threads
    render_strips([(Splats.of(gaussians), Rule.of(header))], grid, threads, lambda top, strip: None, out)
    return out
