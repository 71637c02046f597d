"""An open picture: which chunks a request needs, levels, and picture values (spec §7 to §9). The kernels do the rest.

What the bytes mean is ``igs.format``'s. Nothing here loads Numba before the first value is asked for.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from igs.decoder.grid import make_grid
from igs.decoder.groups import Groups, decode_groups
from igs.decoder.metadata import Metadata
from igs.decoder.output import is_plain, normal_channels, output_dtype, result_array, to_dtype, to_picture
from igs.decoder.output import renormalize as renormalize_vectors
from igs.decoder.rule import Rule
from igs.decoder.store import Chunks, Store
from igs.decoder.strips import Layer, Strip, render_strips
from igs.format import FileReader, Level, LevelMode, Limits, open_file
from igs.format.errors import UsageError
from igs.format.fields import MAX_SINGLE_STAGE, UNIT
from igs.format.threads import thread_count

if TYPE_CHECKING:
    from igs.decoder.sample import Cells

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Boxes = npt.NDArray[np.float64]  # [4, chunks] x0, y0, x1, y1 in pixels

# Below so many points each is looked up by itself in the chunks that reach it; above, sorting them pays.
_FEW_POINTS = 512
_BLOCK_CELLS = 16  # cells a side that are looked up together in a two-stage index


class _Part(NamedTuple):
    """A run of chunks that is blended by itself, and what the kernels want to know about it."""

    first: int
    last: int  # plus one
    rule: Rule
    floats: Floats
    chunks: Chunks
    boxes: Boxes


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
        self._store: Store | None = None
        self._store_lock = threading.Lock()
        self._closed = False
        self._rule = Rule.of(reader.header)
        self._plain = is_plain(reader.header.groups)
        self._two_stage = reader.num_chunks > MAX_SINGLE_STAGE
        self._known_parts: dict[int, list[_Part]] = {}

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
        box = (grid.xs[0] / UNIT, grid.ys[0] / UNIT, grid.xs[-1] / UNIT, grid.ys[-1] / UNIT)
        layers = self._layers(self._reader.chunks_in_box(*box, level), level)
        chosen, channels = self.groups.select(range(len(self.groups)) if groups is None else groups)
        if groups is not None:
            layers = [self._selected(layer, channels) for layer in layers]
        normals = normal_channels(chosen) if renormalize else []
        if renormalize and (raw or not normals):
            found = "raw values" if raw else "none"
            raise UsageError(f"renormalize: expected picture values of a normal map, found {found}")
        plain = raw or is_plain(chosen)
        result = result_array(out, (grid.rows, grid.columns, len(channels)), kind)

        def emit(top: int, strip: Strip) -> None:
            if not plain:
                to_picture(strip, chosen)
            for part in normals:
                renormalize_vectors(strip[..., part])
            if kind != np.float32:
                to_dtype(strip, result[top : top + len(strip)])

        whole = result if kind == np.float32 else None
        render_strips(layers, grid, self._threads, emit, whole, self._reader.limits.reach_ratio)
        return result

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
        channels = self.groups.select(range(len(self.groups)) if groups is None else groups)[1]
        result: Floats = result_array(out, (len(array), len(channels)), np.dtype(np.float32))
        values = result if groups is None else np.empty((len(array), self.channels), np.float32)
        if len(array) <= _FEW_POINTS:
            self._sample_few(xs, ys, level, values)
        else:
            self._sample_many(xs, ys, level, values)
        if not (raw or self._plain):
            to_picture(values, self.header.groups)
        if values is not result:
            np.take(values, channels, axis=1, out=result)
        return result

    def pixel(self, x: int, y: int, level: int | None = None, raw: bool = False) -> Floats:
        """The value at the centre of the pixel in column x, row y: float32 [C], not clipped."""
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
        out = np.empty((1, self.channels), np.float32)
        self._sample_few(xs, ys, self._check_level(level), out)
        if not (raw or self._plain):
            to_picture(out, self.header.groups)
        value: Floats = out[0]
        return value

    # -- from requests to chunks and Gaussians

    def all_layers(self, level: int | None = None) -> list[Layer]:
        """All Gaussians of a level with the rules that blend them; what each layer gives is added up."""
        self._check_open()
        level = self._check_level(level)
        return self._layers(np.arange(*self._reader.level_range(level)), level)

    def _layers(self, chunks: Chunks, level: int) -> list[Layer]:
        """What is to be rendered and added up, from the chunks that are needed."""
        store = self._open_store()
        return [
            (store.splats(chunks[(chunks >= part.first) & (chunks < part.last)]), part.rule)
            for part in self._parts(level)
        ]

    def _selected(self, layer: Layer, channels: npt.NDArray[np.intp]) -> Layer:
        """A layer with some of the channels, and what a Gaussian carries besides its colour."""
        splats, rule = layer
        slopes = np.arange(self.channels, self.header.features)
        return splats.select(np.concatenate([channels, slopes])), rule.select(channels)

    def _parts(self, level: int) -> list[_Part]:
        """The runs of chunks whose values are added up at a level."""
        if level not in self._known_parts:
            first, last = self._reader.level_range(level)
            runs = [(first, last)]
            if self.header.level_mode == LevelMode.RESIDUAL:
                runs = [(l.first_chunk, l.first_chunk + l.num_chunks) for l in self.levels if l.first_chunk < last]
            rules = [self._rule] + [self._rule.without_background()] * (len(runs) - 1)
            self._known_parts[level] = [
                _Part(f, l, rule, rule.floats, *self._scan(f, l)) for (f, l), rule in zip(runs, rules, strict=True)
            ]
        return self._known_parts[level]

    def _scan(self, first: int, last: int) -> tuple[Chunks, Boxes]:
        """Chunk numbers and boxes for the kernels to go through; of a two-stage index none."""
        if self._two_stage:
            last = first
        return np.arange(first, last), self._boxes(slice(first, last))

    def _boxes(self, chunks: slice | Chunks) -> Boxes:
        reader = self._reader
        return np.stack([side[chunks] for side in (reader.box_x0, reader.box_y0, reader.box_x1, reader.box_y1)])

    def _sample_few(self, xs: Ints, ys: Ints, level: int, out: Floats) -> None:
        from igs.decoder.points import values_at

        store = self._open_store()
        every = store.all
        for number, part in enumerate(self._parts(level)):
            target = out if number == 0 else np.empty_like(out)
            done, end, chunks, boxes = 0, len(xs), part.chunks, part.boxes
            while done < len(xs):
                if self._two_stage:  # one point at a time
                    x, y, end = xs[done] / UNIT, ys[done] / UNIT, done + 1
                    found = self._reader.chunks_in_box(x, y, x, y, level)
                    chunks = found[(found >= part.first) & (found < part.last)]
                    boxes = self._boxes(chunks)
                    store.load(chunks)
                done, missing = values_at(
                    xs, ys, done, end, chunks, boxes, store.loaded, store.starts, store.ends, every.means,
                    every.factors, every.features, part.floats, self._rule.top_k, self._rule.sum_blend, target,
                )  # fmt: skip
                if missing >= 0:  # with it all others that this point needs, lest each begins the scan anew
                    px, py = xs[done] / UNIT, ys[done] / UNIT
                    store.load(chunks[(boxes[0] <= px) & (boxes[2] >= px) & (boxes[1] <= py) & (boxes[3] >= py)])
            if number:
                out += target

    def _sample_many(self, xs: Ints, ys: Ints, level: int, out: Floats) -> None:
        from igs.decoder.points import chunks_needed
        from igs.decoder.sample import sample_many

        def layers(cells: Cells) -> list[Layer]:
            found = self._near(cells, level) if self._two_stage else np.arange(*self._reader.level_range(level))
            needed = chunks_needed(cells.starts, cells.ordered, cells.bounds, cells.grid, self._boxes(found))
            return self._layers(found[needed], level)

        size = (self.width * UNIT, self.height * UNIT, self.num_gaussians)
        sample_many(xs, ys, size, layers, self._threads, out, self._reader.limits.reach_ratio)

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
                    found[self._reader.chunks_in_box(x0, y0, x1, y1, level)] = True
        return found.nonzero()[0]

    # -- opening and closing

    def refresh(self) -> int:
        """Look again how much there is of a file that is still being written; returns how many levels can be decoded.

        For a path or file object whose bytes grow at the end; what has been read stays. A file that is replaced by
        another one has to be opened anew. Raises InvalidFile if it has become shorter, or longer than it should be.
        """
        self._check_open()
        return self._reader.refresh()

    def _open_store(self) -> Store:
        if self._store is None:
            with self._store_lock:
                if self._store is None:
                    self._store = Store(self._reader, self._threads)
        return self._store

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
        self._store = None
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
