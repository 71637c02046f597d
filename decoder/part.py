"""The values of one part of a file (spec §3.6): which chunks a request needs, what blends them, and the kernels' calls.

Stored values of the part's channels, in their order; what they mean, and other parts, are image.py's.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from igs.decoder.grid import Grid
from igs.decoder.output import is_plain
from igs.decoder.rule import Rule
from igs.decoder.store import Chunks, Store
from igs.decoder.strips import Layer
from igs.format import FileReader, LevelMode, Part
from igs.format.fields import MAX_SINGLE_STAGE, UNIT

if TYPE_CHECKING:
    from igs.decoder.sample import Cells

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Boxes = npt.NDArray[np.float64]  # [4, chunks] x0, y0, x1, y1 in pixels

# Below so many points each is looked up by itself in the chunks that reach it; above, sorting them pays.
_FEW_POINTS = 512
_BLOCK_CELLS = 16  # cells a side that are looked up together in a two-stage index


class _Run(NamedTuple):
    """Chunks that are blended by themselves, and what the kernels want to know about them."""

    first: int
    last: int  # plus one
    floats: Floats
    chunks: Chunks
    boxes: Boxes


class PartSampler:
    """Samples one part of an open file. Thread-safe.

    channels: the part's among the picture's. plain: whether its stored values are picture values.
    """

    def __init__(self, reader: FileReader, part: Part, threads: int) -> None:
        self.header = part.header
        self.part = part
        self.channels = np.array(part.channels, np.intp)
        self.plain = is_plain(part.header.groups)
        self._reader = reader
        self._threads = threads
        self._store: Store | None = None
        self._store_lock = threading.Lock()
        self._rule = Rule.of(part.header)
        self._two_stage = reader.num_chunks > MAX_SINGLE_STAGE
        self._known_runs: dict[int, list[_Run]] = {}

    # -- from requests to chunks and Gaussians

    def all_layers(self, level: int) -> list[Layer]:
        """All Gaussians of a level with the rules that blend them; what each layer gives is added up."""
        return self._layers(np.arange(*self._chunk_range(level)), level)

    def layers_in(self, box: tuple[float, float, float, float], level: int) -> list[Layer]:
        """The same of what sample points in a box (x0, y0, x1, y1 in pixels) can need."""
        return self._layers(self._reader.chunks_in_box(*box, level, self.part), level)

    def select(self, layers: list[Layer], channels: npt.NDArray[np.intp]) -> list[Layer]:
        """Layers with some of the part's channels, and what a Gaussian carries besides its colour."""
        columns = np.concatenate([channels, np.arange(self.header.channels, self.header.features)])
        return [(splats.select(columns), rule.select(channels)) for splats, rule in layers]

    def _chunk_range(self, level: int) -> tuple[int, int]:
        first, last = self._reader.level_range(level)
        return max(first, self.part.first_chunk), min(last, self.part.last_chunk)

    def _layers(self, chunks: Chunks, level: int) -> list[Layer]:
        store, ranges = self._open_store(), self._ranges(level)
        if len(ranges) == 1:  # from which all the chunks are
            return [(store.splats(chunks), self._rule)]
        return [(store.splats(chunks[(chunks >= first) & (chunks < last)]), rule) for first, last, rule in ranges]

    def _ranges(self, level: int) -> list[tuple[int, int, Rule]]:
        """Chunks, first and last plus one, whose values are added up at a level, and the rule of each run."""
        first, last = self._chunk_range(level)
        if self.header.level_mode != LevelMode.RESIDUAL:
            return [(first, last, self._rule)]
        levels = self._reader.levels[: self._reader.available_levels]
        runs = [(l.first_chunk, l.first_chunk + l.num_chunks) for l in levels if l.first_chunk < last]
        rules = [self._rule] + [self._rule.without_background()] * (len(runs) - 1)
        return [(*run, rule) for run, rule in zip(runs, rules, strict=True)]

    def _runs(self, level: int) -> list[_Run]:
        """The same as the kernels for few points want to know it."""
        if level not in self._known_runs:
            self._known_runs[level] = [
                _Run(first, last, rule.floats, *self._scan(first, last)) for first, last, rule in self._ranges(level)
            ]
        return self._known_runs[level]

    def _scan(self, first: int, last: int) -> tuple[Chunks, Boxes]:
        """Chunk numbers and boxes for the kernels to go through; of a two-stage index none."""
        if self._two_stage:
            last = first
        return np.arange(first, last), self._boxes(slice(first, last))

    def _boxes(self, chunks: slice | Chunks) -> Boxes:
        reader = self._reader
        return np.stack([side[chunks] for side in (reader.box_x0, reader.box_y0, reader.box_x1, reader.box_y1)])

    # -- values

    def sample(self, xs: Ints, ys: Ints, level: int, out: Floats, reach_ratio: float) -> None:
        """Stored values at points in units of 2^-14 pixel, into ``out`` [points, the part's channels].

        reach_ratio: the limit for this part (work.py).
        """
        if len(xs) <= _FEW_POINTS:
            self._sample_few(xs, ys, level, out)
        else:
            self._sample_many(xs, ys, level, out, reach_ratio)

    def _sample_few(self, xs: Ints, ys: Ints, level: int, out: Floats) -> None:
        from igs.decoder.points import values_at

        store = self._open_store()
        every = store.all
        for number, run in enumerate(self._runs(level)):
            target = out if number == 0 else np.empty_like(out)
            done, end, chunks, boxes = 0, len(xs), run.chunks, run.boxes
            while done < len(xs):
                if self._two_stage:  # one point at a time
                    x, y, end = xs[done] / UNIT, ys[done] / UNIT, done + 1
                    found = self._reader.chunks_in_box(x, y, x, y, level, self.part)
                    chunks = found[(found >= run.first) & (found < run.last)]
                    boxes = self._boxes(chunks)
                    store.load(chunks)
                done, missing = values_at(
                    xs, ys, done, end, chunks - store.first_chunk, boxes, store.loaded, store.starts, store.ends,
                    every.means, every.factors, every.features, run.floats, self._rule.top_k, self._rule.sum_blend,
                    target,
                )  # fmt: skip
                if missing >= 0:  # with it all others that this point needs, lest each begins the scan anew
                    px, py = xs[done] / UNIT, ys[done] / UNIT
                    store.load(chunks[(boxes[0] <= px) & (boxes[2] >= px) & (boxes[1] <= py) & (boxes[3] >= py)])
            if number:
                out += target

    def _sample_many(self, xs: Ints, ys: Ints, level: int, out: Floats, reach_ratio: float) -> None:
        from igs.decoder.points import chunks_needed
        from igs.decoder.sample import sample_many

        def layers(cells: Cells) -> list[Layer]:
            found = self._near(cells, level) if self._two_stage else np.arange(*self._chunk_range(level))
            needed = chunks_needed(cells.starts, cells.ordered, cells.bounds, cells.grid, self._boxes(found))
            return self._layers(found[needed], level)

        size = (self.header.width * UNIT, self.header.height * UNIT, self._open_store().num_gaussians)
        sample_many(xs, ys, size, layers, self._threads, out, reach_ratio)

    def _near(self, cells: Cells, level: int) -> Chunks:
        """Chunks of a two-stage index around the points: asked for by blocks of cells, to read little of the index."""
        found = np.zeros(self._reader.num_chunks, bool)
        filled = np.diff(cells.starts).reshape(cells.rows, cells.columns) > 0
        bounds = cells.bounds.reshape(cells.rows, cells.columns, 4) / UNIT
        for row in range(0, cells.rows, _BLOCK_CELLS):
            for column in range(0, cells.columns, _BLOCK_CELLS):
                block = (slice(row, row + _BLOCK_CELLS), slice(column, column + _BLOCK_CELLS))
                if filled[block].any():
                    boxes = bounds[block][filled[block]]
                    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
                    found[self._reader.chunks_in_box(x0, y0, x1, y1, level, self.part)] = True
        return found.nonzero()[0]

    def _open_store(self) -> Store:
        if self._store is None:
            with self._store_lock:
                if self._store is None:
                    self._store = Store(self._reader, self.part, self._threads)
        return self._store

    def drop(self) -> None:
        """Let go of the Gaussians."""
        self._store = None


def box_of(grid: Grid) -> tuple[float, float, float, float]:
    """The box of a grid's points, in pixels."""
    return grid.xs[0] / UNIT, grid.ys[0] / UNIT, grid.xs[-1] / UNIT, grid.ys[-1] / UNIT
