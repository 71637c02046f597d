"""An open picture whose values are computed on the device and stay there."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from igs.decoder.cuda import arrays
from igs.decoder.cuda.arena import Arena, Picture, picture_box
from igs.decoder.cuda.channels import place_channels
from igs.decoder.cuda.device import load
from igs.decoder.cuda.regions import Jobs
from igs.decoder.cuda.specialize import enough, specialized
from igs.decoder.grid import Grid, check_finite, make_grid
from igs.decoder.groups import depth_dtype
from igs.decoder.image import Image, Wanted
from igs.decoder.output import output_dtype
from igs.decoder.part import box_of
from igs.format import FileReader
from igs.format.errors import Unsupported, UsageError
from igs.format.fields import UNIT

_GRIDS = 8  # regions whose tables are kept on the device
_ARENAS = 4  # sets of each part's Gaussians kept there: levels, channel groups, raw or not
_SAMPLE_THREADS = 256
# Of a larger file only the chunks that a region needs are read; below, reading and uploading it all costs less than to
# read more when the next region comes.
_WHOLE_GAUSSIANS = 1 << 18


class CudaImage(Image):
    """An :class:`igs.Image` that computes on a GPU: ``igs.open(…, device="cuda")``.

    ``decode``, ``region`` and ``sample`` return arrays on the device with ``__cuda_array_interface__``
    (``torch.as_tensor(…, device="cuda")`` and ``cupy.asarray`` take them without a copy, ``copy_to_host()`` brings
    them over), or fill ``out``, any such array, and return it. They return before the GPU is done; ``stream`` is the
    CUDA stream that the work goes to, None the default one. ``pixel`` and ``np.asarray`` give NumPy arrays.
    """

    device = "cuda"
    backend = "numba-cuda"

    def __init__(self, reader: FileReader, threads: int | None = None) -> None:
        super().__init__(reader, threads)
        load()
        self._device_lock = threading.Lock()
        self._arenas: OrderedDict[tuple[Any, ...], Arena] = OrderedDict()
        self._jobs: OrderedDict[tuple[Any, ...], Jobs] = OrderedDict()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        pixels: npt.NDArray[Any] = self.decode().copy_to_host()
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
        stream: Any = None,
    ) -> Any:
        """The whole picture, as ``Image.decode``, on the device."""
        size = self.width, self.height
        return self.region(0, 0, *size, scale, dtype, level, raw, groups, renormalize, out, stream)

    def decode_groups(
        self,
        scale: float = 1.0,
        level: int | None = None,
        dtype: Any = None,
        groups: Iterable[str | int] | None = None,
        renormalize: bool = False,
        region: tuple[float, float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The maps of a texture stack by name, as ``Image.decode_groups``, each on the device."""
        chosen = tuple(self.groups) if groups is None else self.groups.select(groups)[0]
        x, y, w, h = region or (0, 0, self.width, self.height)
        found = {}
        for group in chosen:
            kind = dtype or depth_dtype(group.bit_depth)
            found[group.name] = self.region(
                x, y, w, h, scale, kind, level, groups=[group.name], renormalize=renormalize
            )
        return found

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
        stream: Any = None,
    ) -> Any:
        """A rectangle of the picture, as ``Image.region``, on the device. renormalize: on the CPU only."""
        self._check_open()
        if renormalize:
            raise Unsupported('renormalize: expected a picture opened with device="cpu", found "cuda"')
        kind = output_dtype(dtype)
        level = self._check_level(level)
        queue = arrays.stream_of(stream)
        check_finite(x=x, y=y, w=w, h=h, scale=scale)
        key = tuple(map(float, (x, y, w, h, scale)))
        with self._device_lock:
            jobs = self._jobs.get(key)
            if jobs is not None:
                self._jobs.move_to_end(key)
            else:
                grid = make_grid(x, y, w, h, scale, self.width, self.height)
                jobs = self._jobs[key] = Jobs([grid])
                while len(self._jobs) > _GRIDS:
                    self._jobs.popitem(last=False)
            wanted = self._wanted(groups)
            shape = (jobs.grids[0].rows, jobs.grids[0].columns, sum(len(want.columns) for want in wanted))
            result, flat = arrays.output(out, shape, kind, queue)
            for want in wanted:
                arena = self._arena(want, level, raw, jobs.grids[0])
                own = flat
                if len(wanted) > 1:
                    own = arrays.empty((math.prod(shape[:2]) * len(want.columns),), kind, queue)
                jobs.draw(arena, own, queue)
                if len(wanted) > 1:
                    place_channels(own, want.columns, flat, shape[2], queue)
        return result

    def sample(
        self,
        points: Any,
        level: int | None = None,
        raw: bool = False,
        groups: Iterable[str | int] | None = None,
        out: Any = None,
        stream: Any = None,
    ) -> Any:
        """Values at points, as ``Image.sample``, on the device.

        points: float32 or float64 [N, 2] on the device, or anything NumPy understands. The value at a point that isn't
        finite is NaN: to look for one would mean to wait for the GPU.
        """
        self._check_open()
        level = self._check_level(level)
        queue = arrays.stream_of(stream)
        where = arrays.points_on_device(points, queue)
        wanted = self._wanted(groups)
        with self._device_lock:
            arenas = [self._arena(want, level, raw, None) for want in wanted]
        shape = (int(where.shape[0]), sum(len(want.columns) for want in wanted))
        result, flat = arrays.output(out, shape, np.dtype(np.float32), queue)
        if shape[0]:
            for want, arena in zip(wanted, arenas, strict=True):
                own = flat
                if len(wanted) > 1:
                    own = arrays.empty((shape[0] * len(want.columns),), np.float32, queue)
                self._fetch(arena, where, own, queue)
                if len(wanted) > 1:
                    place_channels(own, want.columns, flat, shape[1], queue)
        return result

    @staticmethod
    def _fetch(arena: Arena, points: Any, out: Any, queue: Any) -> None:
        """Values of one part at points on the device, into a flat array."""
        blocks = enough(-(-points.shape[0] // _SAMPLE_THREADS))
        kernel = specialized("sample_points", arena.kind)
        shaped = out.reshape((points.shape[0], arena.kind.channels))
        kernel[blocks, _SAMPLE_THREADS, queue](*arena.arrays, points, shaped)
        arrays.hold(queue, arena, points, out)

    def whole(self, level: int | None = None, raw: bool = False, groups: Iterable[str | int] | None = None) -> Arena:
        """All Gaussians of a level on the device, kept for the next call; of groups that are in one part of the file.

        Raises UsageError for groups of several parts.
        """
        self._check_open()
        wanted = self._wanted(groups)
        if len(wanted) > 1:
            names = " or ".join(" + ".join(repr(group.name) for group in want.groups) for want in wanted)
            raise UsageError(f"groups: expected those of one part of this file, {names}, found more")
        with self._device_lock:
            return self._arena(wanted[0], self._check_level(level), raw, None)

    def _arena(self, want: Wanted, level: int, raw: bool, grid: Grid | None) -> Arena:
        """The Gaussians of a part at a level, or those that a region needs; the last ones of a few kinds are kept."""
        sampler = want.sampler
        kind = (level, raw, sampler.part.first_chunk, tuple(want.channels))
        whole, part = (*kind, "whole"), (*kind, "part")
        if whole in self._arenas:
            self._arenas.move_to_end(whole)
            return self._arenas[whole]
        if grid is None or self.num_gaussians <= _WHOLE_GAUSSIANS or self._fills(grid):
            layers = sampler.all_layers(level)
            box, key = picture_box(self.width, self.height), whole
            self._arenas.pop(part, None)
        else:
            box = (int(grid.xs[0]), int(grid.ys[0]), int(grid.xs[-1]), int(grid.ys[-1]))
            held = self._arenas.get(part)
            if held is not None and _within(box, held.boxes[0]):
                self._arenas.move_to_end(part)
                return held
            layers, key = sampler.layers_in(box_of(grid), level), part
        if not want.whole:
            layers = sampler.select(layers, want.channels)
        arena = self._arenas[key] = Arena([Picture.of(layers, want.groups, raw, box)])
        self._arenas.move_to_end(key)
        while len(self._arenas) > max(_ARENAS * len(self._samplers), len(self.groups)):
            self._arenas.popitem(last=False)
        return arena

    def _fills(self, grid: Grid) -> bool:
        """Whether a region is most of the picture."""
        sides = (float(grid.xs[-1]) - grid.xs[0]) * (float(grid.ys[-1]) - grid.ys[0])
        return bool(sides >= 0.5 * math.prod((self.width, self.height)) * UNIT**2)

    def close(self) -> None:
        """Close the file and let go of the memory on the device."""
        with self._device_lock:
            self._arenas.clear()
            self._jobs.clear()
        arrays.let_go()
        super().close()


def _within(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]
