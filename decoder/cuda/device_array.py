"""Numba's device array with DLPack added, for libraries that know no ``__cuda_array_interface__``, such as JAX."""

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda.cudadrv.devicearray import DeviceNDArray

_DEFAULT_STREAM = 1  # the legacy one, in the interface's words


class DeviceArray(DeviceNDArray):  # type: ignore[misc,unused-ignore]
    """What ``CudaImage`` returns: memory on the device, shared by everything that takes it."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The protocol's dict. Numba's own says of the default stream that there is nothing to wait for."""
        interface: dict[str, Any] = super().__cuda_array_interface__
        return interface | ({} if self.stream else {"stream": _DEFAULT_STREAM})

    def copy_to_host(self, ary: Any = None, stream: Any = 0) -> Any:
        """As Numba's, but the copy is there when this returns, whatever stream fills the array."""
        found = super().copy_to_host(ary, stream)
        if self.stream and not stream:
            self.stream.synchronize()
        return found

    def _memory(self) -> Any:
        from cuda.core.utils import StridedMemoryView

        return StridedMemoryView.from_cuda_array_interface(self, stream_ptr=-1)

    def __dlpack__(self, **options: Any) -> Any:
        """The DLPack protocol: a capsule; options are the protocol's. Waits for what fills it, unless told not to."""
        if options.get("stream") != -1:
            (self.stream or cuda.default_stream()).synchronize()
        memory = self._memory()
        if not hasattr(memory, "__dlpack__"):
            raise BufferError("this version of cuda-core gives no DLPack; __cuda_array_interface__ is there")
        return memory.__dlpack__(**{name: options[name] for name in ("max_version",) if name in options})

    def __dlpack_device__(self) -> tuple[int, int]:
        """The DLPack protocol: (2, number of the GPU)."""
        found: tuple[int, int] = self._memory().__dlpack_device__()
        return found
