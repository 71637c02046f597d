"""Many pictures by one launch: what a worker thread prepares of each, and how those prepared are drawn together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from igs.decoder.cuda.arena import MAX_WORDS, Arena, Picture, picture_box
from igs.decoder.cuda.arrays import empty, pieces
from igs.decoder.cuda.channels import place_channels
from igs.decoder.cuda.regions import Jobs
from igs.decoder.grid import Grid, make_grid
from igs.decoder.image import open as open_image
from igs.format import Limits

_MAX_ELEMENTS = 1 << 28  # of output in one block of memory; a larger picture has one of its own


class Prepared(NamedTuple):
    """A part of a picture, entropy decoded, and what is to be drawn of it."""

    picture: Picture
    grid: Grid
    channels: npt.NDArray[np.intp]  # among the picture's

    @property
    def elements(self) -> int:
        """Of output."""
        return self.grid.rows * self.grid.columns * self.picture.kind.channels

    @property
    def key(self) -> tuple[Any, ...]:
        """Parts of one key can be drawn by one launch."""
        return self.picture.kind, self.grid.reduction > 1


def prepare(
    source: Any, scale: float, level: int | None, raw: bool, limits: Limits | None, allow_partial: bool
) -> list[Prepared]:
    """Everything that needs no GPU: the parts of a picture. Raises as ``igs.open`` and ``Image.decode`` do."""
    with open_image(source, limits=limits, threads=1, allow_partial=allow_partial) as image:
        grid = make_grid(0, 0, image.width, image.height, scale, image.width, image.height)
        box = picture_box(image.width, image.height)
        return [
            Prepared(Picture.of(layers, part.header.groups, raw, box), grid, np.array(part.channels, np.intp))
            for part, layers in zip(image.parts, image.all_layers(level), strict=True)
        ]


def draw_together(items: list[list[Prepared]], dtype: np.dtype[Any]) -> list[Any]:
    """Pictures as arrays on the device, [H, W, C] each, in order; one launch per run of parts of one key."""
    drawn = iter(_draw([part for item in items for part in item], dtype))
    return [_joined(item, [next(drawn) for _ in item], dtype) for item in items]


def _joined(parts: list[Prepared], drawn: list[Any], dtype: np.dtype[Any]) -> Any:
    """One picture of its parts."""
    if len(parts) == 1:
        return drawn[0]
    channels, grid = sum(len(part.channels) for part in parts), parts[0].grid
    result = empty((grid.rows * grid.columns * channels,), dtype)
    for part, values in zip(parts, drawn, strict=True):
        place_channels(values.reshape(part.elements), part.channels, result, channels)
    return result.reshape((grid.rows, grid.columns, channels))


def _draw(items: list[Prepared], dtype: np.dtype[Any]) -> list[Any]:
    arrays: list[Any] = []
    for run in _runs(items):
        arena = Arena([item.picture for item in run])
        jobs = Jobs([item.grid for item in run])
        ends = jobs.offsets(arena.kind.channels)
        block = empty((ends[-1],), dtype)
        jobs.draw(arena, block)
        arrays += pieces(block, ends, jobs.shapes(arena.kind.channels))
    return arrays


def _runs(items: list[Prepared]) -> list[list[Prepared]]:
    """Successive items of one key, of at most _MAX_ELEMENTS and MAX_WORDS together."""
    runs: list[list[Prepared]] = []
    elements = words = 0
    for item in items:
        more = sum(part.size for part in item.picture.words)
        elements, words = elements + item.elements, words + more
        if runs and runs[-1][0].key == item.key and elements <= _MAX_ELEMENTS and words <= MAX_WORDS:
            runs[-1].append(item)
        else:
            runs.append([item])
            elements, words = item.elements, more
    return runs
