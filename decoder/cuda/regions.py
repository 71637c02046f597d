"""What a launch draws: regions, one per picture of an arena, as tables on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from igs.decoder.cuda import draw as table
from igs.decoder.cuda.arena import Arena
from igs.decoder.cuda.arrays import Upload, hold, room
from igs.decoder.cuda.device import load
from igs.decoder.cuda.specialize import enough, specialized
from igs.decoder.grid import Grid
from igs.format.errors import UsageError


class Jobs:
    """Regions to be drawn by one launch, region i from picture i of an arena; all reduced or none."""

    def __init__(self, grids: Sequence[Grid]) -> None:
        self.grids = list(grids)
        self.reduced = grids[0].reduction > 1
        coordinates = np.concatenate([part for grid in grids for part in (grid.xs, grid.ys)])
        with room(UsageError(f"region: {len(coordinates)} coordinates of its samples do not fit on the device")):
            self._coordinates = load().to_device(np.ascontiguousarray(coordinates, np.int32))
        self._upload = Upload()
        self._table: Any = None
        self._key: tuple[int, ...] = ()
        self.tiles = 0

    def offsets(self, channels: int) -> list[int]:
        """Where each region begins in the output, in elements, and the end of the last."""
        sizes = [0, *(grid.rows * grid.columns * channels for grid in self.grids)]
        ends: list[int] = np.cumsum(sizes, dtype=np.int64).tolist()
        return ends

    def _rows(self, arena: Arena) -> None:
        channels = arena.kind.channels
        key = (channels, *arena.layer_ends)
        if self._key == key:
            return
        rows = np.zeros((len(self.grids), table.JOB_FIELDS), np.int64)
        tiles = place = 0
        for number, (grid, out) in enumerate(zip(self.grids, self.offsets(channels), strict=False)):
            n = grid.reduction
            each = table.TILE if n == 1 else max(table.TILE // n, 1)
            across, down = -(-grid.columns // each), -(-grid.rows // each)
            rows[number] = (
                tiles, across, grid.columns, grid.rows, n, out, place, place + len(grid.xs), arena.first_layer(number),
                arena.layer_ends[number],
            )  # fmt: skip
            tiles += across * down
            place += len(grid.xs) + len(grid.ys)
        self._table, self.tiles, self._key = load().to_device(rows), tiles, key
        self._upload = Upload()

    def draw(self, arena: Arena, out: Any, stream: Any = 0) -> None:
        """Draw all regions into ``out``, a flat device array of uint8, uint16 or float32. Does not wait."""
        self._rows(arena)
        self._upload.before(stream)
        name = "draw_reduced" if self.reduced else "draw"
        kernel = specialized(name, arena.kind, np.dtype(out.dtype).name)
        kernel[enough(self.tiles), table.THREADS, stream](*arena.arrays, self._table, self._coordinates, out)
        hold(stream, arena, self._table, self._coordinates, out)

    def shapes(self, channels: int) -> list[tuple[int, int, int]]:
        """Of the results."""
        return [(grid.rows, grid.columns, channels) for grid in self.grids]
