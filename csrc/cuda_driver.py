"""Loads and launches CUDA kernels through the driver's own interface, by ctypes. Imports neither torch nor numpy.

Works in the device's primary context, which is the one that PyTorch uses: pointers and streams are common property.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

from igs.csrc.cuda_compile import CudaUnavailable, compile_kernels

__all__ = ["VARIANTS", "DeviceKernels", "driver", "source_of"]

# Kernel → the file in csrc/cuda that has it. Those of VARIANTS exist per number of channels and primitive.
_FILES = {
    "bin.cu": ("igs_clear", "igs_cover", "igs_bounds", "igs_nearest", "igs_count", "igs_scan", "igs_fill", "igs_order"),
    "loss.cu": ("igs_loss", "igs_totals"),
    "optimize.cu": (
        "igs_factors_forward",
        "igs_factors_backward",
        "igs_gather_8",
        "igs_gather_16",
        "igs_gather_costs",
        "igs_add_noise",
        "igs_adam",
    ),
    "scales.cu": ("igs_reduce", "igs_add_reduced"),
    "raster.cu": ("igs_forward", "igs_backward", "igs_fused", "igs_removal"),
}
VARIANTS = tuple((channels, gradient) for channels in (1, 3, 4) for gradient in (0, 1))
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def source_of(kernel: str) -> str:
    """The file in csrc/cuda that has a kernel."""
    return next(file for file, names in _FILES.items() if kernel in names)


@functools.cache
def driver() -> ctypes.CDLL:
    """The driver's library, initialised. Raises CudaUnavailable without one."""
    for name in ("libcuda.so.1", "libcuda.so", "nvcuda.dll"):
        try:
            lib = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        raise CudaUnavailable("no NVIDIA driver: libcuda.so.1 is not installed")
    _check(lib, lib.cuInit(0))
    lib.cuLaunchKernel.argtypes = [
        ctypes.c_void_p, *[ctypes.c_uint] * 7, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    lib.cuCtxPushCurrent_v2.argtypes = [ctypes.c_void_p]
    return lib


def _check(lib: ctypes.CDLL, code: int) -> None:
    if code:
        text = ctypes.c_char_p()
        lib.cuGetErrorString(code, ctypes.byref(text))
        raise CudaUnavailable(f"CUDA driver: error {code}, {(text.value or b'unknown').decode()}")


class DeviceKernels:
    """The kernels on one GPU. ``stream`` gives the stream to launch on, as an integer, at each launch."""

    name = "cuda"

    def __init__(self, ordinal: int, stream: Callable[[], int]) -> None:
        self._lib, self._stream = driver(), stream
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._check(self._lib.cuDeviceGet(ctypes.byref(device), ordinal))
        self._check(self._lib.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))  # for as long as the process
        self._context = context
        capability = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._check(self._lib.cuDeviceGetAttribute(ctypes.byref(value), attribute, device))
            capability.append(value.value)
        self.architecture = "sm_{}{}".format(*capability)
        self._modules: dict[tuple[str, ...], ctypes.c_void_p] = {}
        self._functions: dict[tuple[str, tuple[int, int] | None], ctypes.c_void_p] = {}

    def _check(self, code: int) -> None:
        _check(self._lib, code)

    def _function(self, kernel: str, variant: tuple[int, int] | None) -> ctypes.c_void_p:
        """Compiled and loaded when it is first asked for."""
        source = source_of(kernel)
        defines = () if variant is None else (f"IGS_CHANNELS={variant[0]}", f"IGS_GRADIENT={variant[1]}")
        module = self._modules.get((source, *defines))
        if module is None:
            module = compile_kernels(source, self.architecture, defines, self._loaded)
            self._modules[source, *defines] = module
        function = ctypes.c_void_p()
        self._check(self._lib.cuModuleGetFunction(ctypes.byref(function), module, kernel.encode()))
        self._functions[kernel, variant] = function
        return function

    def _loaded(self, code: bytes) -> ctypes.c_void_p:
        module = ctypes.c_void_p()
        self._check(self._lib.cuModuleLoadData(ctypes.byref(module), code))
        return module

    def launch(
        self, kernel: str, grid: tuple[int, int, int], threads: int, arguments: Sequence[Any],
        variant: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        """Queue a kernel. arguments: ctypes values, copied before this returns."""
        current = ctypes.c_void_p()
        self._check(self._lib.cuCtxGetCurrent(ctypes.byref(current)))
        if current.value == self._context.value:
            self._launch(kernel, grid, threads, arguments, variant)
            return
        self._check(self._lib.cuCtxPushCurrent_v2(self._context))  # a new thread, or one that works on another GPU
        try:
            self._launch(kernel, grid, threads, arguments, variant)
        finally:
            self._check(self._lib.cuCtxPopCurrent_v2(ctypes.byref(current)))

    def _launch(
        self, kernel: str, grid: tuple[int, int, int], threads: int, arguments: Sequence[Any],
        variant: tuple[int, int] | None,
    ) -> None:  # fmt: skip
        function = self._functions.get((kernel, variant)) or self._function(kernel, variant)
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        self._check(
            self._lib.cuLaunchKernel(
                function, *grid, threads, 1, 1, 0, self._stream(), ctypes.addressof(pointers), None
            )
        )
