"""The CUDA kernels as torch functions: rasteriser, loss, factors, Adam; on the CPU: :mod:`igs.encoder.raster.kernels`.

Everything is queued on torch's current stream, nothing here waits for the device unless it says so. ``launcher`` is
:class:`igs.csrc.cuda_driver.DeviceKernels`; the tests have one that runs the same kernels on the host.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from igs.encoder.raster.adam import Moments, Rates, Stepper, bound_matrices, check_tensor
from igs.encoder.raster.model import Model
from igs.encoder.raster.reference import RasterOptions
from igs.encoder.raster.shapes import SCALE_MAPS
from igs.format.fields import SIGMA_MAX, SIGMA_MIN

_WARPS_PER_BLOCK, _TILES_PER_BLOCK, _LOSS_SIDE, _REDUCED_SIDE = 8, 4, 32, 32  # as the kernels have them
_PULL_REACH = 2.25  # kPullReach of csrc/binning.inc
# Steps between two looks at how full the tile lists are, each of which waits for the device. Lists have twice the room
# that the last look found needed, and a step that needs more than that gives gradients of zero.
CHECK_EVERY = 32
_ROOM, _FULL = 2.0, 0.75
_MOST_ENTRIES = 2**30 - 64  # twice as many are counted in 32 bits with a sign


class Launcher(Protocol):
    name: str

    def launch(
        self, kernel: str, grid: tuple[int, int, int], threads: int, arguments: list[Any],
        variant: tuple[int, int] | None = None,
    ) -> None: ...  # fmt: skip


_ARRAYS = (
    "means", "factors", "features", "background", "lit", "target", "weight", "image", "grad_image", "limits", "bound",
    "bare", "tile_count", "tile_offset", "hits", "first", "pairs", "list", "partial", "grad_means", "grad_factors",
    "grad_features", "sums", "totals", "state", "done",
)  # fmt: skip
_INTEGERS = (
    "width", "height", "channels", "columns", "pictures", "num_gaussians", "tiles_x", "tiles_y", "capacity", "blend",
    "top_k", "first_channel", "active", "atomic", "blocks",
)  # fmt: skip
_FLOATS = (
    "reach2", "relative_reach2", "pull", "pull_reach2", "list_reach2", "l1", "l2", "ssim", "perfect",
)  # fmt: skip


class Frame(ctypes.Structure):
    """``igs::Frame`` of csrc/cuda/frame.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _ARRAYS),
        *((name, ctypes.c_int32) for name in _INTEGERS),
        *((name, ctypes.c_float) for name in _FLOATS),
    )


def _warps(count: int) -> tuple[int, int, int]:
    return max(1, -(-count // _WARPS_PER_BLOCK)), 1, 1


class CudaRasterizer:
    """Tile lists and scratch memory of one fit, reused from step to step. Not thread-safe; one per fit.

    atomic: gradients by atomic additions, a little faster and in no fixed order. perfect: a loss below which gradients
    are zero. pictures: how many of one size, with equally many Gaussians each, are drawn by the same launches; if more
    than one, all shapes of pictures and losses below have that number in front, and N counts the Gaussians of all.
    """

    def __init__(
        self, launcher: Launcher, device: torch.device, *, atomic: bool = False, perfect: float = 0.0, pictures: int = 1
    ) -> None:
        self._launcher, self.device, self.pictures = launcher, device, pictures
        self._in_front = (pictures,) if pictures > 1 else ()
        self._frame, self._buffers = Frame(), dict[str, Tensor]()
        self._stepper = Stepper(device)
        self._constants: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}
        # Numbers of Gaussians and options that the capacity was checked for → how many times it was trusted since.
        self._trusted: dict[tuple[int, RasterOptions], int] = {}
        self._frame.atomic, self._perfect = atomic, perfect
        self._channels = 0
        self._keep: dict[str, Tensor] = {}  # what the frame points to
        self._room("state", 2, torch.int32).zero_()
        self._room("done", pictures, torch.int32).zero_()

    # -- memory

    def _room(self, name: str, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A buffer with room for ``count`` values at least, named as the frame's field that points to it."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < count:
            self._buffers.pop(name, None)  # before the new one, which may take its place
            buffer = self._buffers[name] = torch.empty(count + count // 4 + 64, dtype=dtype, device=self.device)
        setattr(self._frame, name, buffer.data_ptr())
        return buffer

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def _point(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            check_tensor(name, tensor, self.device, torch.float32)
            setattr(self._frame, name, tensor.data_ptr())
            self._keep[name] = tensor

    def _launch(self, kernel: str, grid: tuple[int, int, int], threads: int, *, variant: bool = False) -> None:
        key = (self._variant, int(self._frame.columns > self._frame.channels)) if variant else None
        self._launcher.launch(kernel, grid, threads, [self._frame], key)

    @property
    def _variant(self) -> int:
        """Channels that the kernels in use hold in registers."""
        return self._channels if self._channels in (1, 3) else 4

    # -- a picture

    def bin(self, means: Tensor, factors: Tensor, features: Tensor, o: RasterOptions, *, trust: bool = False) -> None:
        """Rebuild the tile lists. With ``trust`` their room is mostly taken for granted (CHECK_EVERY); otherwise this
        waits for the device, and what is drawn next is whole."""
        f, n = self._frame, means.shape[0]
        tiles = -(-o.width // 16) * -(-o.height // 16) * self.pictures
        self._describe(means, factors, features, o)
        self._room("bound", tiles, torch.int32)
        self._room("bare", tiles + 1, torch.int32)
        self._room("tile_count", tiles, torch.int32)
        self._room("tile_offset", tiles + 1, torch.int32)
        self._room("hits", n, torch.int32)
        self._room("first", n + 1, torch.int32)
        if not f.capacity:
            self._list_room(4 * tiles + 16 * n)
        trusted = self._trusted.get((n, o), CHECK_EVERY) if trust else CHECK_EVERY
        self._count(tiles, n, o)
        if trusted >= CHECK_EVERY:
            needed = int(self._buffers["state"][0])  # waits for the device
            if needed > _FULL * f.capacity:
                if needed > _MOST_ENTRIES:
                    raise MemoryError("the Gaussians reach over more than 2^30 tiles: too many for a GPU's lists")
                self._list_room(min(int(_ROOM * needed) + 64, _MOST_ENTRIES))
                self._count(tiles, n, o)
            self._trusted = {key: times for key, times in self._trusted.items() if key[0] == n}
            trusted = -1
        self._trusted[n, o] = trusted + 1
        self._launch("igs_fill", _warps(n), 256)
        self._launch("igs_order", _warps(tiles), 256)

    def _list_room(self, capacity: int) -> None:
        self._frame.capacity = 0  # as long as there may be no memory for one of them
        self._room("pairs", 2 * capacity, torch.int32)
        self._room("list", 2 * capacity, torch.int32)
        self._frame.capacity = capacity

    def _describe(self, means: Tensor, factors: Tensor, features: Tensor, o: RasterOptions) -> None:
        f = self._frame
        self._channels = o.channels(features)
        f.width, f.height, f.channels, f.columns = o.width, o.height, self._channels, features.shape[1]
        f.num_gaussians, f.tiles_x, f.tiles_y = means.shape[0], -(-o.width // 16), -(-o.height // 16)
        f.pictures = self.pictures
        if means.shape[0] % self.pictures:
            raise ValueError(f"expected as many Gaussians in each of {self.pictures} pictures, found {means.shape[0]}")
        f.blend, f.top_k = int(o.blend != "topk"), o.top_k
        f.reach2, f.relative_reach2 = o.reach2, min(o.relative_reach2, 1e30)
        f.pull, f.pull_reach2 = o.pull if o.blend == "topk" else 0.0, o.pull_share * o.reach2
        f.list_reach2 = o.reach2 * _PULL_REACH if f.pull > 0 else o.reach2
        key = (self._channels, o.background, o.lit)
        if key not in self._constants:
            background = features.new_tensor(o.background or (0.0,) * self._channels)
            self._constants[key] = background, o.lit_channels(features)
        background, lit = self._constants[key]
        self._point(means=means, factors=factors, features=features, background=background, lit=lit)

    def _count(self, tiles: int, n: int, o: RasterOptions) -> None:
        self._launch("igs_clear", (-(-max(tiles, self.pictures, 4) // 256), 1, 1), 256)
        if o.blend == "topk":
            self._launch("igs_cover", _warps(n), 256)
        self._launch("igs_bounds", (1, 1, 1), 1024)
        if self._frame.pull > 0:
            self._launch("igs_nearest", (min(1024, max(1, tiles // _WARPS_PER_BLOCK)), 1, 1), 256)
        self._launch("igs_count", _warps(n), 256)
        self._launch("igs_scan", (2, 1, 1), 1024)

    def _passes(self) -> list[tuple[int, int]]:
        """(first channel, channels) of what is drawn at a time."""
        step = self._variant
        return [(c, min(step, self._channels - c)) for c in range(0, self._channels, step)]

    def _draw(self, kernel: str, first: int, active: int) -> None:
        f = self._frame
        f.first_channel, f.active = first, active
        self._launch(kernel, (-(-f.tiles_x * f.tiles_y * f.pictures // _TILES_PER_BLOCK), 1, 1), 128, variant=True)

    def forward(self, o: RasterOptions, out: Tensor | None = None) -> Tensor:
        """The picture [C, H, W] of what was binned, in ``out`` if given."""
        image = out
        if image is None:
            image = self._empty(*self._in_front, self._channels, o.height, o.width)
        self._room("limits", 3 * o.width * o.height * self.pictures)
        self._point(image=image)
        for first, active in self._passes():
            self._draw("igs_forward", first, active)
        return image

    def backward(self, grad_image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of means, factors and features for dL/dimage [C, H, W], after :meth:`forward` of the same."""
        self._point(grad_image=grad_image)
        grads = self._gradients()
        for first, active in self._passes():
            self._prepare()
            self._draw("igs_backward", first, active)
            self._gather()
        return grads

    def fused(
        self, target: Tensor, l1: float, l2: float, weight: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """One pass for L = l1·mean w|e| + l2·mean w·e²: (Σw|e|, Σw·e², 0 as float64 [3], gradients). Up to 4 channels.

        weight: w of each pixel [H, W], none: 1.
        """
        f, tiles = self._frame, self._frame.tiles_x * self._frame.tiles_y
        self._point(target=target)
        self._point_weight(weight, target)
        self._weigh(target[0].numel() if self._in_front else target.numel(), l1, l2, 0.0)
        self._room("sums", 3 * tiles * f.pictures, torch.float64)
        grads = self._gradients()
        self._prepare()
        self._draw("igs_fused", 0, self._channels)
        f.blocks = tiles
        totals = self._totals()
        self._gather()
        return totals, grads

    def removal_costs(self, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Of what was binned; see :func:`igs.encoder.raster.reference.removal_costs_reference`."""
        f, atomic = self._frame, self._frame.atomic
        self._point(target=target)
        self._point_weight(weight, target)
        costs = self._empty(f.num_gaussians)
        f.atomic = 0
        self._room("partial", f.capacity)
        for first, active in self._passes():
            self._draw("igs_removal", first, active)
            arguments = [f, ctypes.c_void_p(costs.data_ptr())]
            self._launcher.launch("igs_gather_costs", _warps(f.num_gaussians), 256, arguments)
        f.atomic = atomic
        return costs

    @property
    def fusible(self) -> bool:
        """Whether :meth:`fused` holds all channels of what was binned."""
        return self._channels <= 4

    def loss(
        self, image: Tensor, target: Tensor, l1: float, l2: float, ssim: float, grad: Tensor | None,
        weight: Tensor | None = None, totals: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Float64 [3]: Σw|e|, Σw·e², Σw·SSIM (0 where ``ssim`` is), in ``totals`` if given; dL/dimage of
        l1·mean w|e| + l2·mean w·e² + ssim·(1 − mean w·SSIM) in ``grad`` if given. weight: w of each pixel [H, W]."""
        f = self._frame
        drawn = f.image, f.pictures, f.channels, f.height, f.width  # that gradients are yet to be taken of
        f.pictures = image.shape[0] if image.dim() == 4 else 1
        f.channels, f.height, f.width = image.shape[-3:]
        self._point(image=image, target=target)
        self._point_weight(weight, target)
        f.grad_image = None if grad is None else grad.data_ptr()
        self._weigh(target.numel() // f.pictures, l1, l2, ssim)
        grid = -(-f.width // _LOSS_SIDE), -(-f.height // _LOSS_SIDE), f.channels * f.pictures
        f.blocks = math.prod(grid) // f.pictures
        self._room("sums", 3 * math.prod(grid), torch.float64)
        self._launch("igs_loss", grid, 384)
        totals = self._totals(totals)
        f.image, f.pictures, f.channels, f.height, f.width = drawn
        return totals

    def reductions(self, picture: Tensor, scales: int) -> tuple[Tensor, list[Tensor]]:
        """Room for what a picture [..., H, W] is when reduced by 2, 4, 8 …: all of it, and the part of each."""
        *front, height, width = picture.shape
        shapes = [(*front, height >> k, width >> k) for k in range(1, scales + 1)]
        sizes = [math.prod(shape) for shape in shapes]
        room = self._empty(sum(sizes))
        return room, [part.view(shape) for part, shape in zip(room.split(sizes), shapes, strict=True)]

    def reduce(self, picture: Tensor, scales: int) -> list[Tensor]:
        """The means of 2 × 2 pixels of a picture [..., H, W], of these the same, and so on: 1 to 4 reductions."""
        check_tensor("picture", picture, self.device, torch.float32)
        *front, height, width = picture.shape
        room, parts = self.reductions(picture, scales)
        grid = max(1, -(-width // _REDUCED_SIDE)), max(1, -(-height // _REDUCED_SIDE)), math.prod(front)
        self._reduced("igs_reduce", grid, (picture, room), (width, height, scales))
        return parts

    def add_reduced(self, room: Tensor, factors: Sequence[float], gradient: Tensor) -> None:
        """Add to a gradient [..., H, W] so many times the value of each reduction in ``room`` that a pixel is in."""
        check_tensor("gradient", gradient, self.device, torch.float32)
        *front, height, width = gradient.shape
        grid = -(-width // 32), -(-height // 8), math.prod(front)
        given = (*factors, 0.0, 0.0, 0.0)[:4]
        self._reduced("igs_add_reduced", grid, (gradient, room), (width, height, len(factors)), given)

    def _reduced(
        self, kernel: str, grid: tuple[int, int, int], tensors: Sequence[Tensor], sizes: Sequence[int],
        factors: Sequence[float] = (),
    ) -> None:  # fmt: skip
        pointers = (ctypes.c_void_p(t.data_ptr()) for t in tensors)
        numbers = (*map(ctypes.c_int32, sizes), *map(ctypes.c_float, factors))
        self._launcher.launch(kernel, grid, 256, [*pointers, *numbers])

    def _point_weight(self, weight: Tensor | None, target: Tensor) -> None:
        """weight: [H, W] for a target [C, H, W], [B, H, W] for [B, C, H, W]."""
        if weight is None:
            self._frame.weight = None
            return
        expected = (*target.shape[:-3], *target.shape[-2:])
        if weight.shape != expected or weight.dtype != torch.float32:
            raise ValueError(f"weight: expected float32 {expected}, found {weight.dtype} {tuple(weight.shape)}")
        self._point(weight=weight)

    def _weigh(self, values: int, l1: float, l2: float, ssim: float) -> None:
        self._frame.l1, self._frame.l2, self._frame.ssim = l1 / values, l2 / values, ssim / values
        # Of no weights nothing is perfect: another term, which the kernels don't know, is all there is.
        self._frame.perfect = self._perfect if l1 or l2 or ssim else 0.0

    def _totals(self, out: Tensor | None = None) -> Tensor:
        totals = torch.empty(*self._in_front, 3, dtype=torch.float64, device=self.device) if out is None else out
        self._frame.totals = totals.data_ptr()  # alive until the launch
        self._launch("igs_totals", (self._frame.pictures, 1, 1), 256)
        return totals

    def _gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        n, columns = self._frame.num_gaussians, self._frame.columns
        means, factors, features = (self._empty(n, c) for c in (2, 3, columns))
        self._point(grad_means=means, grad_factors=factors, grad_features=features)
        return means, factors, features

    @property
    def _width(self) -> int:
        """Values that backward sums per entry, of which 5 are of the geometry and 3 of a luma gradient."""
        return 8 if 5 + self._variant + 3 * (self._frame.columns > self._frame.channels) <= 8 else 16

    def _prepare(self) -> None:
        f = self._frame
        rows = f.num_gaussians if f.atomic else f.capacity
        partial = self._room("partial", rows * self._width)
        if f.atomic:
            partial[: rows * self._width].zero_()

    def _gather(self) -> None:
        self._launch(f"igs_gather_{self._width}", _warps(self._frame.num_gaussians), 256)

    # -- around it

    def _each(self, kernel: str, n: int, *arguments: Any) -> None:
        self._launcher.launch(kernel, (max(1, -(-n // 256)), 1, 1), 256, [ctypes.c_int32(n), *arguments])

    def factors(
        self, scales: Tensor, rotations: Tensor, scale_map: str, low: float, high: float, lowpass: float
    ) -> Tensor:
        """See :func:`igs.encoder.raster.reference.factors_reference`."""
        factors = self._empty(len(rotations), 3)
        self._each(
            "igs_factors_forward", len(rotations), *_shape(scale_map, low, high, lowpass, scales, rotations, factors)
        )
        return factors

    def factors_gradient(
        self, scales: Tensor, rotations: Tensor, grad_factors: Tensor, scale_map: str, low: float, high: float,
        lowpass: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Gradients of scales [N, 2] and rotations [N] from dL/dfactors [N, 3]."""
        out = torch.empty_like(scales), torch.empty_like(rotations)
        given = _shape(scale_map, low, high, lowpass, scales, rotations, grad_factors, *out)
        self._each("igs_factors_backward", len(rotations), *given)
        return out

    def add_noise(
        self, means: Tensor, scales: Tensor, rotations: Tensor, features: Tensor, scale_map: str, coarseness: Tensor,
        steps: Tensor, mixed: Tensor, u: Tensor, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """See :func:`igs.encoder.raster.reference.add_noise_reference`."""
        given = [t.contiguous() for t in (means, scales, rotations, features)]
        noisy = tuple(torch.empty_like(t) for t in given)
        before = [ctypes.c_void_p(t.data_ptr()) for t in (steps, mixed, coarseness)]
        after = [ctypes.c_void_p(t.data_ptr()) for t in (u, *given, *noisy)]
        self._each(
            "igs_add_noise", len(rotations), ctypes.c_int32(SCALE_MAPS[scale_map]), ctypes.c_float(sigma_min),
            ctypes.c_float(sigma_max), ctypes.c_int32(features.shape[1]), *before,
            ctypes.c_int32(coarseness.numel() > 1), *after,
        )  # fmt: skip
        return noisy

    def adam(
        self, model: Model, grads: Sequence[Tensor], moments: Moments, age: Tensor, rates: Rates, factor: float = 1.0,
    ) -> None:  # fmt: skip
        """One step of Adam in place; see :func:`igs.encoder.raster.reference.adam_reference`."""
        arguments = [self._stepper(model, grads, moments, age, rates, factor)]
        self._launcher.launch("igs_adam", (max(1, -(-len(model) // 256)), 1, 1), 256, arguments)
        bound_matrices(model, rates)


def _shape(scale_map: str, low: float, high: float, lowpass: float, *tensors: Tensor) -> tuple[Any, ...]:
    return (
        ctypes.c_int32(SCALE_MAPS[scale_map]), *(ctypes.c_float(x) for x in (low, high, lowpass)),
        *(ctypes.c_void_p(t.data_ptr()) for t in tensors),
    )  # fmt: skip
