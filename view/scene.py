"""An open file as things to draw: its picture as RGB, and its Gaussians with means, covariances and visible colours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from igs.decoder import Image
from igs.decoder.measure import compared, rounded
from igs.decoder.output import to_picture, visible
from igs.decoder.rule import Rule, Splats
from igs.format import Gaussians, Group, Limits, each_group, open_file
from igs.format.errors import UsageError
from igs.format.fields import MEAN_UNIT

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Region = tuple[float, float, float, float]  # x, y, w, h in pixels
_MOST_TIMES = 16  # that igs-encode --downsample reduces a picture


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Gaussians to draw. means float64 [n, 2] pixels, covariances [n, 3] pixels², colours float32 [n, 3]."""

    means: F64
    covariances: F64
    colours: F32
    chunks: npt.NDArray[np.int64]  # [n] the chunk that each is stored in
    levels: npt.NDArray[np.int64]  # [n]

    def __len__(self) -> int:
        return len(self.means)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Drawn:
        """Some of them."""
        return Drawn(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))


class Scene:
    """A file opened to be looked at; a context manager. Reads chunks when they are needed, and keeps Gaussians.

    group: the name of the channel group whose colours are shown; None: the first. ``part``: what holds it: of a file of
    several parts (spec §3.6) its Gaussians are those that are drawn.
    """

    def __init__(
        self,
        source: Any,
        limits: Limits | None = None,
        threads: int | None = None,
        allow_partial: bool = False,
        group: str | None = None,
    ) -> None:
        self.reader = open_file(source, limits, allow_partial)
        try:
            self.image = Image(self.reader, threads)
            self.number = _group_number(self.image.groups, group)
        except BaseException:
            self.reader.close()
            raise
        self.header = self.reader.header
        self.part = next(part for part in self.reader.parts if self.number in part.groups)
        self.width, self.height, self.groups = self.image.width, self.image.height, self.image.groups
        self.named = group is not None
        self._gaussians: dict[int | None, tuple[Gaussians, Drawn]] = {}

    def picture(self, region: Region | None = None, scale: float = 1.0, level: int | None = None) -> F32:
        """What it looks like: RGB float32 [h, w, 3] in [0, 1]."""
        x, y, w, h = region or (0, 0, self.width, self.height)
        return self.shown(self.image.region(x, y, w, h, scale, "float32", level, groups=[self.number]))

    def decoded(self, level: int | None = None, times: int = 1) -> F32:
        """The whole picture's values [H, W, C] as a user gets them, rounded to the source's depth: what is measured.

        times: enlarged so many times.
        """
        return rounded(self.image, max(group.bit_depth for group in self.groups), times, level)

    def times(self, pixels: npt.NDArray[Any]) -> int | None:
        """How many times an original [H, W, C] was reduced to give this picture, 1 if not; None: it is of other size.

        The least number that fits: of pictures of a few pixels several do.
        """
        height, width = pixels.shape[:2]
        fits = (r for r in range(1, _MOST_TIMES + 1) if (-(-width // r), -(-height // r)) == (self.width, self.height))
        return next(fits, None)

    def own(self, pixels: npt.ArrayLike) -> F32:
        """Of picture values [..., C] those of the group that is shown; they may be there alone."""
        values = np.asarray(pixels, np.float32)
        alone = values.shape[-1] != self.header.channels
        return values if alone else values[..., list(each_group(self.groups))[self.number].whole]

    def shown(self, pixels: npt.ArrayLike) -> F32:
        """Picture values [..., C] as RGB [..., 3], like ``picture``."""
        return visible(self.own(pixels), self.groups[self.number : self.number + 1])

    def compared(self, pixels: npt.ArrayLike) -> F32:
        """Picture values [H, W, C] as errors are measured; of a group that was named, only its channels."""
        if self.named:
            return compared(self.own(pixels), self.groups[self.number : self.number + 1])
        return compared(np.asarray(pixels, np.float32), self.groups)

    def gaussians(self, level: int | None = None) -> Gaussians:
        """All Gaussians of the part that a level is decoded from, in file order."""
        return self._all(level)[0]

    def drawn(self, level: int | None = None) -> Drawn:
        """The same, to draw."""
        return self._all(level)[1]

    def _all(self, level: int | None) -> tuple[Gaussians, Drawn]:
        if level not in self._gaussians:
            first, last = self.reader.level_range(level)
            first, last = max(first, self.part.first_chunk), min(last, self.part.last_chunk)
            read = self.reader.read_gaussians(range(first, last))
            every = Gaussians.concatenate(read)
            chunks = np.repeat(np.arange(first, last), [len(g) for g in read])
            own = self.part.header
            values = every.features[:, : own.channels].copy()
            to_picture(values, own.groups)
            bounds = [self.reader.chunk_level(int(c)) for c in range(first, last)]
            levels = np.repeat(np.array(bounds, np.int64), [len(g) for g in read])
            colours = visible(values, own.groups, self.part.groups.index(self.number))
            drawn = Drawn(np.asarray(every.means * MEAN_UNIT, np.float64), every.covariances, colours, chunks, levels)
            self._gaussians[level] = every, drawn
        return self._gaussians[level]

    def splats(self, level: int | None = None) -> tuple[Splats, Rule]:
        """What the decoder's kernels take."""
        return Splats.of(self.gaussians(level)), Rule.of(self.part.header)

    @property
    def sharing(self) -> tuple[str, ...]:
        """Of a file of several parts the names of the groups that the part's Gaussians draw; of one part none."""
        return () if len(self.reader.parts) == 1 else tuple(group.name for group in self.part.header.groups)

    def close(self) -> None:
        """Close the file."""
        self.image.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _group_number(groups: Sequence[Group], name: str | None) -> int:
    names = [g.name for g in groups]
    if name is None:
        return 0
    if name not in names:
        raise UsageError(f"group: expected one of {', '.join(map(repr, names))}, found {name!r}")
    return names.index(name)
