"""An open picture: requests, levels, groups and picture values (spec §8, §9). What each part holds is part.py's.

What the bytes mean is ``igs.format``'s. Nothing here loads Numba before the first value is asked for.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from igs.decoder.grid import Grid, make_grid
from igs.decoder.groups import Groups, decode_groups
from igs.decoder.metadata import Metadata
from igs.decoder.output import is_plain, normal_channels, output_dtype, result_array, to_dtype, to_picture
from igs.decoder.output import renormalize as renormalize_vectors
from igs.decoder.part import PartSampler, box_of
from igs.decoder.strips import Layer, Strip, render_strips
from igs.format import FileReader, Group, Level, Limits, Part, open_file
from igs.format.errors import UsageError
from igs.format.fields import UNIT
from igs.format.threads import thread_count

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


# Each of several parts may take its share of the Gaussians that a file's limits let a point try, and one in so many at
# least: of pictures that are no attack a point tries some dozens.
_SHARES = 16


class Wanted(NamedTuple):
    """What a request wants of one part."""

    sampler: PartSampler
    groups: tuple[Group, ...]
    channels: npt.NDArray[np.intp]  # among the part's
    columns: npt.NDArray[np.intp]  # of the result
    whole: bool  # all the part's channels, in their order
    plain: bool  # the groups' stored values are picture values


class Image:
    """A picture that can be sampled anywhere. Open one with :func:`open`; thread-safe; a context manager.

    Coordinates are pixels: the centre of the pixel in column c, row r is (c + 0.5, r + 0.5). Values are the picture's,
    nominally in [0, 1], with straight alpha; with ``raw=True`` the stored ones, before alpha and gamma are undone.
    ``level`` is a level of quality, 0 (coarsest) to ``len(levels) − 1``; None is the last. ``groups`` are names (or
    positions) of the channel groups wanted, whose channels come in that order; None is all of them. It can't be
    copied or pickled: another process opens the file by itself.
    """

    device = "cpu"  # where values are computed
    backend = "numba-cpu"  # by which kernels

    def __init__(self, reader: FileReader, threads: int | None = None) -> None:
        self.header = reader.header
        self._reader = reader
        self._threads = thread_count(threads)
        self._closed = False
        self._samplers = [PartSampler(reader, part, self._threads) for part in reader.parts]
        self._everything = [
            Wanted(s, s.header.groups, np.arange(len(s.channels)), s.channels, True, s.plain) for s in self._samplers
        ]
        self._reach_ratio = reader.limits.reach_ratio / min(len(self._samplers), _SHARES)

    # -- what it is

    @property
    def width(self) -> int:
        """Pixels."""
        return self.header.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.header.height

    @property
    def channels(self) -> int:
        """Channels of all groups together."""
        return self.header.channels

    @property
    def groups(self) -> Groups:
        """What the channels are, in order: a tuple of records; by name (``groups["normal"]``) a map to decode."""
        return Groups.of(self, self.header.groups)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the file, at least one: groups that share Gaussians, each part with its own."""
        return self._reader.parts

    @property
    def num_gaussians(self) -> int:
        """Gaussians of all levels, as the header states."""
        return self._reader.num_gaussians

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that can be decoded."""
        self._check_open()
        return self._reader.levels[: self._reader.available_levels]

    @property
    def num_levels(self) -> int:
        """Levels of the whole file; ``len(levels)`` of them can be decoded yet."""
        return len(self._reader.head.level_ends)

    @property
    def partial(self) -> bool:
        """Whether the file ends before its last level or its last metadata section."""
        return self._reader.partial

    @property
    def metadata(self) -> Metadata:
        """Metadata by section type."""
        self._check_open()
        return Metadata(self._reader.sections)

    @property
    def bytes_read(self) -> int:
        """Bytes of the file read so far."""
        return self._reader.bytes_read

    # -- values

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The whole picture as uint8, so that ``np.asarray(im)`` is what it looks like."""
        pixels = self.decode()
        return pixels if dtype is None else pixels.astype(dtype)

    def decode(
        self,
        scale: float = 1.0,
        level: int | None = None,
        dtype: Any = "uint8",
        raw: bool = False,
        groups: Iterable[str | int] | None = None,
        renormalize: bool = False,
        out: Any = None,
    ) -> npt.NDArray[Any]:
        """The whole picture: ``region(0, 0, width, height)``, [max(1, round(height·scale)), …, C]."""
        return self.region(0, 0, self.width, self.height, scale, dtype, level, raw, groups, renormalize, out)

    def decode_groups(
        self,
        scale: float = 1.0,
        level: int | None = None,
        dtype: Any = None,
        groups: Iterable[str | int] | None = None,
        renormalize: bool = False,
        region: tuple[float, float, float, float] | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """The maps of a texture stack by name, each [rows, columns, its channels]; see ``region``.

        dtype: None gives each map that of its source's depth, uint8, uint16 or float32. region: x, y, w, h, or None.
        """
        return decode_groups(self, scale, level, dtype, groups, renormalize, region)

    def region(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        scale: float = 1.0,
        dtype: Any = "uint8",
        level: int | None = None,
        raw: bool = False,
        groups: Iterable[str | int] | None = None,
        renormalize: bool = False,
        out: Any = None,
    ) -> npt.NDArray[Any]:
        """A rectangle of the picture, [max(1, round(h·scale)), max(1, round(w·scale)), C]; sizes round half up.

        x, y, w, h: pixels, also fractions, within the picture. scale: samples per pixel; below 1 each value is the mean
        of ⌈1/scale⌉² points. dtype: "uint8" and "uint16" are clipped and rounded half up, "float32" is not clipped.
        renormalize: give the vectors of normal maps the length 1.
        out: a C-contiguous array of just this shape and dtype to write into and return, also if an error interrupts.
        Raises UsageError for a region outside the picture; InvalidFile if a chunk that it needs is damaged.
        """
        self._check_open()
        kind = output_dtype(dtype)
        level = self._check_level(level)
        grid = make_grid(x, y, w, h, scale, self.width, self.height)
        wanted = self._wanted(groups)
        vectors = [normal_channels(want.groups) if renormalize else [] for want in wanted]
        if renormalize and (raw or not any(vectors)):
            found = "raw values" if raw else "none"
            raise UsageError(f"renormalize: expected picture values of a normal map, found {found}")
        shape = (grid.rows, grid.columns, sum(len(want.columns) for want in wanted))
        result = result_array(out, shape, kind)
        for want, normals in zip(wanted, vectors, strict=True):
            target = result if len(wanted) == 1 else np.empty((*shape[:2], len(want.columns)), kind)
            self._draw(want, grid, level, raw, normals, target)
            if target is not result:
                result[..., want.columns] = target
        return result

    def _draw(
        self, want: Wanted, grid: Grid, level: int, raw: bool, normals: list[slice], result: npt.NDArray[Any]
    ) -> None:
        """The values that are wanted of a part, on a grid."""
        layers = want.sampler.layers_in(box_of(grid), level)
        if not want.whole:
            layers = want.sampler.select(layers, want.channels)
        plain = raw or want.plain

        def emit(top: int, strip: Strip) -> None:
            if not plain:
                to_picture(strip, want.groups)
            for vectors in normals:
                renormalize_vectors(strip[..., vectors])
            if result.dtype != np.float32:
                to_dtype(strip, result[top : top + len(strip)])

        whole = result if result.dtype == np.float32 else None
        render_strips(layers, grid, self._threads, emit, whole, self._reach_ratio)

    def sample(
        self,
        points: Any,
        level: int | None = None,
        raw: bool = False,
        groups: Iterable[str | int] | None = None,
        out: Any = None,
    ) -> Floats:
        """Values at any finite points, also outside the picture: [N, 2] pixels (x, y) → float32 [N, C], not clipped.

        out: as for ``region``.
        """
        self._check_open()
        level = self._check_level(level)
        try:
            array = np.ascontiguousarray(points, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"points: expected numbers [N, 2], found {error}") from None
        if array.ndim != 2 or array.shape[1] != 2:
            raise UsageError(f"points: expected shape [N, 2], found {list(array.shape)}")
        from igs.decoder.points import fix_points

        xs, ys = np.empty(len(array), np.int32), np.empty(len(array), np.int32)
        bad = fix_points(array, xs, ys)
        if bad >= 0:
            raise UsageError(f"points: expected finite numbers, found {array[bad].tolist()} in row {bad}")
        wanted = self._wanted(groups)
        shape = (len(array), sum(len(want.columns) for want in wanted))
        result: Floats = result_array(out, shape, np.dtype(np.float32))
        for want in wanted:
            self._sample(want, xs, ys, level, raw, result)
        return result

    def _sample(self, want: Wanted, xs: Ints, ys: Ints, level: int, raw: bool, result: Floats) -> None:
        """The values that are wanted of a part, at points in units of 2^-14 pixel."""
        header = want.sampler.header
        alone = want.whole and result.shape[1] == header.channels
        values = result if alone else np.empty((len(xs), header.channels), np.float32)
        want.sampler.sample(xs, ys, level, values, self._reach_ratio)
        if not (raw or want.sampler.plain):
            to_picture(values, header.groups)
        if not alone:
            result[:, want.columns] = values[:, want.channels]

    def pixel(
        self, x: int, y: int, level: int | None = None, raw: bool = False, groups: Iterable[str | int] | None = None
    ) -> Floats:
        """The value at the centre of the pixel in column x, row y: float32 [C], not clipped. groups: as for sample."""
        self._check_open()
        try:
            inside = 0 <= x < self.width and 0 <= y < self.height and x == int(x) and y == int(y)
        except (TypeError, ValueError, OverflowError):
            inside = False
        if not inside:
            raise UsageError(
                f"pixel: expected a column of 0 to {self.width - 1} and a row of 0 to {self.height - 1}, "
                f"found {x!r}, {y!r}"
            )
        xs = np.array([int(x) * UNIT + UNIT // 2], np.int32)  # int: a small type of NumPy's would overflow
        ys = np.array([int(y) * UNIT + UNIT // 2], np.int32)
        level, wanted = self._check_level(level), self._wanted(groups)
        out = np.empty((1, sum(len(want.columns) for want in wanted)), np.float32)
        for want in wanted:
            self._sample(want, xs, ys, level, raw, out)
        value: Floats = out[0]
        return value

    def _wanted(self, groups: Iterable[str | int] | None) -> list[Wanted]:
        """The parts that hold the groups, with what is wanted of each."""
        if groups is None:
            return self._everything
        chosen, channels = self.groups.select(groups)
        wanted = []
        for sampler in self._samplers:
            columns = np.isin(channels, sampler.channels).nonzero()[0]
            if len(columns):
                own = np.searchsorted(sampler.channels, channels[columns])
                held = tuple(group for group in chosen if group in sampler.header.groups)
                whole = np.array_equal(own, np.arange(sampler.header.channels))
                wanted.append(Wanted(sampler, held, own, columns, whole, is_plain(held)))
        return wanted

    def all_layers(self, level: int | None = None) -> list[list[Layer]]:
        """Of each part all Gaussians of a level with the rules that blend them; the layers of a part are added up."""
        self._check_open()
        number = self._check_level(level)
        return [sampler.all_layers(number) for sampler in self._samplers]

    # -- opening and closing

    def refresh(self) -> int:
        """Look again how much there is of a file that is still being written; returns how many levels can be decoded.

        For a path or file object whose bytes grow at the end; what has been read stays. A file that is replaced by
        another one has to be opened anew. Raises InvalidFile if it has become shorter, or longer than it should be.
        """
        self._check_open()
        return self._reader.refresh()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("image: expected an open one, found it closed")

    def _check_level(self, level: Any) -> int:
        """The level's number: of None that of the highest one there is now, which ``refresh`` may change."""
        available = self._reader.available_levels
        try:
            number = available - 1 if level is None else operator.index(level)
        except TypeError:
            number = -1
        if 0 <= number < available:
            return number
        raise UsageError(f"level: expected 0 to {available - 1}, found {level!r}")

    def close(self) -> None:
        """Close the file and let go of its Gaussians; anything but closing again is then an error."""
        self._closed = True
        for sampler in self._samplers:
            sampler.drop()
        self._reader.close()

    def __enter__(self) -> Image:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        """Refuse copy, deepcopy and pickle, which all ask here: a copy would share the file, and be closed with it."""
        raise UsageError("image: expected to be used where it was opened, found a copy or pickle of it: igs.open again")

    def __repr__(self) -> str:
        return f"<igs image {self.width}×{self.height}×{self.channels}, {self.num_gaussians} Gaussians>"


def open(
    source: Any,
    *,
    limits: Limits | None = None,
    threads: int | None = None,
    allow_partial: bool = False,
    device: str = "cpu",
) -> Image:
    """Open an .igs file; only its header and index are read.

    source: a path, bytes, or a file object with seek and read (left open afterwards). limits: what a file may ask for.
    threads: for regions and many points; None: one per core. allow_partial: open a truncated file up to its last whole
    level. device: "cpu"; "cuda" for an image whose values are computed and stay on the GPU
    (:class:`igs.decoder.cuda.CudaImage`); "auto" for CUDA where it can be used. Raises InvalidFile, InputError,
    UsageError; Unsupported where there is no CUDA.
    """
    kind = Image
    if device != "cpu":
        from igs.decoder import cuda

        if cuda.choose(device) == "cuda":
            kind = cuda.CudaImage
    reader = open_file(source, limits, allow_partial)
    try:
        return kind(reader, threads)
    except BaseException:
        reader.close()
        raise
