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
from igs.decoder.cuda.device import load
from igs.decoder.cuda.regions import Jobs
from igs.decoder.cuda.specialize import enough, specialized
from igs.decoder.grid import Grid, check_finite, make_grid
from igs.decoder.groups import depth_dtype
from igs.decoder.image import Image
from igs.decoder.output import output_dtype
from igs.format import FileReader
from igs.format.errors import Unsupported
from igs.format.fields import UNIT

_GRIDS = 8  # regions whose tables are kept on the device
_ARENAS = 4  # sets of Gaussians kept there: levels, channel groups, raw or not
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
            arena = self._arena(level, raw, groups, jobs.grids[0])
            shape = (jobs.grids[0].rows, jobs.grids[0].columns, arena.kind.channels)
            result, flat = arrays.output(out, shape, kind, queue)
            jobs.draw(arena, flat, queue)
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
        with self._device_lock:
            arena = self._arena(level, raw, groups, None)
        shape = (int(where.shape[0]), arena.kind.channels)
        result, flat = arrays.output(out, shape, np.dtype(np.float32), queue)
        if shape[0]:
            blocks = enough(-(-shape[0] // _SAMPLE_THREADS))
            kernel = specialized("sample_points", arena.kind)
            arrays.wait_for_uploads(queue)
            kernel[blocks, _SAMPLE_THREADS, queue](*arena.arrays, where, flat.reshape(shape))
        return result

    def whole(self, level: int | None = None, raw: bool = False) -> Arena:
        """All Gaussians of a level on the device, kept for the next call."""
        self._check_open()
        with self._device_lock:
            return self._arena(self._check_level(level), raw, None, None)

    def _arena(self, level: int, raw: bool, groups: Iterable[str | int] | None, grid: Grid | None) -> Arena:
        """The Gaussians of a level, or those that a region needs; the last ones of a few kinds are kept."""
        chosen, channels = self.groups.select(range(len(self.groups)) if groups is None else groups)
        whole, part = (level, raw, tuple(channels), "whole"), (level, raw, tuple(channels), "part")
        if whole in self._arenas:
            self._arenas.move_to_end(whole)
            return self._arenas[whole]
        if grid is None or self.num_gaussians <= _WHOLE_GAUSSIANS or self._fills(grid):
            chunks = np.arange(*self._reader.level_range(level))
            box, key = picture_box(self.width, self.height), whole
            self._arenas.pop(part, None)
        else:
            box = (int(grid.xs[0]), int(grid.ys[0]), int(grid.xs[-1]), int(grid.ys[-1]))
            held = self._arenas.get(part)
            if held is not None and _within(box, held.boxes[0]):
                return held
            x0, y0, x1, y1 = (side / UNIT for side in box)
            chunks = self._reader.chunks_in_box(x0, y0, x1, y1, level)
            key = part
        layers = self._layers(chunks, level)
        if groups is not None:
            layers = [self._selected(layer, channels) for layer in layers]
        arena = self._arenas[key] = Arena([Picture.of(layers, chosen, raw, box)])
        while len(self._arenas) > _ARENAS:
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
        super().close()


def _within(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]
