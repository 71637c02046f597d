"""Which backend fits: the GPU where there is one, else the compiled CPU kernels, else plain torch."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import torch

from igs.csrc.cuda_compile import CudaUnavailable
from igs.encoder.options import EncodeOptions
from igs.encoder.raster import kernels
from igs.encoder.raster.backend import Backend, PlainBackend
from igs.encoder.raster.kernel_backend import KernelBackend
from igs.encoder.raster.torch_backend import TorchBackend
from igs.encoder.recipe import Recipe
from igs.format.errors import Unsupported, UsageError
from igs.format.threads import default_threads

FALLBACK_STEPS = 0.35  # of the recipe's, where plain torch has to do
_said: set[str] = set()  # warnings are given once per process, however many pictures it encodes


class _GoingOn:
    """Fits of this process, and PyTorch's threads before the first of them."""

    def __init__(self) -> None:
        self.lock, self.fits, self.before = threading.Lock(), 0, 1


_going_on = _GoingOn()


def choose_backend(options: EncodeOptions, recipe: Recipe, warn: Callable[[str], None]) -> PlainBackend:
    """Where the fit computes, as ``options.device`` asks.

    Raises Unsupported for ``cuda`` without a usable GPU, UsageError where the recipe can't run on one.
    """
    gpu = _gpu(options, recipe, warn)
    if gpu is not None:
        return gpu
    if options.fast_nondeterministic:
        _once(warn, "--fast-nondeterministic has no meaning on the CPU, where the fit repeats exactly at full speed")
    if not recipe.tiles:
        return TorchBackend(tiles=False)
    if kernels.available():
        kernels.set_num_threads(options.threads or default_threads())
        return KernelBackend()
    warn(
        "the compiled kernels are missing (installed without a C++ compiler): encoding runs in plain torch, "
        f"about 50 times slower and with {FALLBACK_STEPS:g} of the steps"
    )
    return TorchBackend()


@contextlib.contextmanager
def torch_threads(backend: Backend, options: EncodeOptions) -> Iterator[None]:
    """PyTorch's own threads during a fit, and after it as many as before: as before the first of fits side by side.

    PyTorch keeps the number by thread, and what new threads begin with: every fit puts both back where it ran.
    Where kernels do the work one: between small operations more of them spin, on cores that the kernels want.
    """
    with _going_on.lock:
        if not _going_on.fits:
            _going_on.before = torch.get_num_threads()
        _going_on.fits += 1
        torch.set_num_threads((options.threads or default_threads()) if backend.name == "torch" else 1)
    try:
        yield
    finally:
        with _going_on.lock:
            _going_on.fits -= 1
            torch.set_num_threads(_going_on.before)


def _gpu(options: EncodeOptions, recipe: Recipe, warn: Callable[[str], None]) -> PlainBackend | None:
    if options.device == "cpu":
        return None
    if not recipe.tiles:
        if options.device == "cuda":
            raise UsageError("tiles: expected True on a GPU, found False, the reference that only the CPU has")
        return None
    if options.device == "auto" and not (torch.backends.cuda.is_built() and torch.cuda.is_available()):
        return None
    from igs.encoder.raster.cuda_backend import open_device

    try:
        return open_device(atomic=options.fast_nondeterministic)
    except (CudaUnavailable, RuntimeError) as error:  # torch's own errors are RuntimeErrors
        if options.device == "cuda":
            raise Unsupported(f"--device cuda: {error}; --device cpu works without") from error
        _once(warn, f"there is a GPU, but it can't be used, so encoding runs on the CPU: {error}")
        return None


def _once(warn: Callable[[str], None], message: str) -> None:
    if message not in _said:
        _said.add(message)
        warn(message)
