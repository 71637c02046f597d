"""Arrays that live on the device: whose they are, and what may be done with them without a copy."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from igs.decoder.cuda.device import SIMULATED, load
from igs.format.errors import IgsError, UsageError

_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
_LEGACY = 1  # the default stream, in the words of DLPack and of the array interface
_in_use: list[tuple[Any, Any]] = []  # events on streams of callers, and what they are the end of the use of
_in_use_lock = threading.Lock()


class _Interface:
    """An array interface and whatever keeps its memory."""

    def __init__(self, interface: dict[str, Any], owner: Any) -> None:
        self.__cuda_array_interface__ = interface
        self.owner = owner


def view(array: Any, name: str, stream: Any = 0) -> Any:
    """A Numba device array over the same memory, of anything with ``__cuda_array_interface__`` or DLPack.

    What its maker's stream still does to it is done before work on ``stream`` begins; nobody waits here. Returns None
    for what is not on a device. Raises UsageError for what can't be shared.
    """
    cuda = load()
    try:
        if getattr(array, "__cuda_ndarray__", False):
            return _behind(array, stream)
        if SIMULATED and hasattr(array, "__cuda_array_interface__"):
            return cuda.as_cuda_array(array)
        if hasattr(array, "__cuda_array_interface__"):
            return _behind(cuda.as_cuda_array(array, sync=False), stream)
        if hasattr(array, "__dlpack_device__") and not SIMULATED:
            kind, _ = array.__dlpack_device__()
            if int(kind) == 2:  # kDLCUDA
                return _of_dlpack(cuda, array, stream)
    except Exception as error:  # torch refuses tensors that want gradients, drivers foreign pointers, …
        raise UsageError(f"{name}: expected an array on the device that can be shared, found {error}") from None
    return None


def _behind(array: Any, stream: Any) -> Any:
    """A Numba array, whose stream a ``stream`` that begins to work on it waits for."""
    if not SIMULATED and _number(array.stream) != _number(stream):
        event = load().event(timing=False)
        event.record(array.stream)
        event.wait(stream)
    return array


def _number(stream: Any) -> int:
    """Which stream it is; 0: the default one, whatever stands for it."""
    number = int(getattr(stream, "handle", stream) or 0)
    return 0 if number == _LEGACY else number


def _of_dlpack(cuda: Any, array: Any, stream: Any) -> Any:
    from cuda.core.utils import StridedMemoryView

    memory = StridedMemoryView.from_dlpack(array, stream_ptr=_number(stream) or _LEGACY)
    size = memory.dtype.itemsize
    interface = {
        "shape": tuple(memory.shape),
        "strides": None if memory.strides is None else tuple(stride * size for stride in memory.strides),
        "data": (memory.ptr, memory.readonly),
        "typestr": memory.dtype.str,
        "version": 3,
    }
    return cuda.as_cuda_array(_Interface(interface, memory))


def no_room(error: Exception) -> bool:
    """Whether an error of the driver means that memory ran out, and not that something else went wrong before."""
    return isinstance(error, (MemoryError, OverflowError)) or getattr(error, "code", None) == _OUT_OF_MEMORY


@contextlib.contextmanager
def room(lacking: IgsError) -> Iterator[None]:
    """Raise this error in place of the driver's where memory on the device runs out."""
    try:
        yield
    except Exception as error:
        if not no_room(error):
            raise
        raise lacking from error


def empty(shape: tuple[int, ...], dtype: Any, stream: Any = 0) -> Any:
    """A new device array that work on a stream fills, or UsageError if there is no room for it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with room(UsageError(f"scale: a result of {shape} {dtype} values, {size} bytes, does not fit on the device")):
        made = load().device_array(shape, dtype)
    if SIMULATED:
        return made
    from igs.decoder.cuda.device_array import DeviceArray

    # Who copies it waits for the stream.
    return DeviceArray(made.shape, made.strides, made.dtype, stream, made.gpu_data)


def output(out: Any, shape: tuple[int, ...], dtype: Any, stream: Any = 0) -> tuple[Any, Any]:
    """→ (the array to return, a flat view of it for kernels): ``out`` itself if given, and fit."""
    if out is None:
        made = empty(shape, dtype, stream)
        return made, made.reshape(math.prod(shape))
    array = view(out, "out", stream)
    if array is None:
        raise UsageError(f"out: expected an array on the device, found {type(out).__name__}")
    contiguous = bool(array.flags["C_CONTIGUOUS"])
    if tuple(array.shape) != shape or array.dtype != dtype or not contiguous or _read_only(out):
        raise UsageError(
            f"out: expected a writable C-contiguous {np.dtype(dtype)} array of shape {list(shape)}, "
            f"found {array.dtype} of shape {list(array.shape)}{'' if contiguous else ', not contiguous'}"
        )
    return out, array.reshape(math.prod(shape))


def _read_only(array: Any) -> bool:
    """Whether memory that is shared may not be written, as its owner says."""
    if hasattr(array, "__cuda_array_interface__"):
        return bool(array.__cuda_array_interface__["data"][1])
    from cuda.core.utils import StridedMemoryView

    return bool(StridedMemoryView.from_dlpack(array, stream_ptr=-1).readonly)


def pieces(block: Any, ends: list[int], shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Parts of a flat device array, C-contiguous and of these shapes; ends: where they begin, and the last one ends."""
    if SIMULATED:
        return [block[a:b].reshape(shape) for a, b, shape in zip(ends[:-1], ends[1:], shapes, strict=True)]
    from igs.decoder.cuda.device_array import DeviceArray

    size, found = block.dtype.itemsize, []
    for a, b, shape in zip(ends[:-1], ends[1:], shapes, strict=True):
        strides = [math.prod(shape[k + 1 :]) * size for k in range(len(shape))]
        memory = block.gpu_data.view(a * size, b * size)  # slices by Numba took two thirds of drawing many pictures
        found.append(DeviceArray(shape, tuple(strides), block.dtype, block.stream, memory))
    return found


def points_on_device(points: Any, stream: Any = 0) -> Any:
    """[N, 2] pixels as a float32 or float64 device array: device memory as it is, anything else uploaded first."""
    array = view(points, "points", stream)
    if array is None:
        try:
            host = np.ascontiguousarray(points, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"points: expected numbers [N, 2], found {error}") from None
        if host.ndim != 2 or host.shape[1] != 2:
            raise UsageError(f"points: expected shape [N, 2], found {list(host.shape)}")
        with room(UsageError(f"points: {len(host)} of them do not fit on the device")):
            found = load().to_device(host)
        Upload().before(stream)
        return found
    if array.ndim != 2 or array.shape[1] != 2:
        raise UsageError(f"points: expected shape [N, 2], found {list(array.shape)}")
    if array.dtype not in (np.float32, np.float64):
        raise UsageError(f"points: expected float32 or float64 on the device, found {array.dtype}")
    return array


def stream_of(stream: Any) -> Any:
    """A Numba stream for None (the default one), a number, or a stream of Numba, CuPy, PyTorch or cuda.core."""
    if stream is None or (isinstance(stream, int) and stream == 0) or SIMULATED:
        return 0
    if isinstance(stream, load().cudadrv.driver.Stream):
        return stream if _number(stream) else 0
    number = stream
    for name in ("cuda_stream", "ptr"):  # PyTorch, CuPy
        if hasattr(stream, name):
            number = int(getattr(stream, name))
    if hasattr(number, "__cuda_stream__"):
        number = int(number.__cuda_stream__()[1])
    if not isinstance(number, int):
        raise UsageError(f"stream: expected a CUDA stream, found {stream!r}")
    if not number:
        return 0
    found = load().external_stream(number)
    found.igs_owner = stream  # which destroys it when it goes
    return found


class Upload:
    """What came to the device by the default stream: work on another one must not begin before it is there."""

    def __init__(self) -> None:
        self._event: Any = None

    def before(self, stream: Any) -> None:
        """Let a stream wait for it."""
        if stream == 0:
            return
        if self._event is None:  # once: one that is past holds up nobody
            event = load().event(timing=False)
            event.record()
            self._event = event
        self._event.wait(stream)


def hold(stream: Any, *used: Any) -> None:
    """Keep what was handed to a launch on a caller's stream until it is done.

    On the default stream what is freed is used again in its order; other streams know nothing of that order.
    """
    if stream == 0:
        return
    event = load().event(timing=False)
    event.record(stream)
    let_go()
    with _in_use_lock:
        _in_use.append((event, used))


def let_go() -> None:
    """Of what was held and is done with."""
    with _in_use_lock:
        _in_use[:] = [(end, kept) for end, kept in _in_use if not end.query()]
