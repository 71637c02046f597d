"""Whether CUDA can be used here, and what to say if not. Importing this loads neither Numba nor a driver."""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from typing import Any

from igs.format.errors import Unsupported

# Numba's own switch: kernels run in Python, one thread after another. For tests on a machine without a GPU.
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")

HELP = (
    "pip install 'igs-codec[cuda]' "
    "(for drivers of CUDA 13; pip install 'numba-cuda[cu12]' 'numpy<2.5' for those of CUDA 12)"
)

_module: Any = None  # numba.cuda, once it is known to work


def why_not() -> str | None:
    """What is missing for ``device="cuda"``, with the command that helps; None if nothing is."""
    if importlib.util.find_spec("numba_cuda") is None:
        return f"expected the package numba-cuda, found none: {HELP}"
    if SIMULATED:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it thinks of the NumPy at hand is no matter of ours, nor an error
            from numba import cuda

        found = cuda.is_available()
        reason = "" if found else _what_is_missing(cuda)
        if found:
            cuda.current_context()
            unfit = _unfit_numpy()
            if unfit is not None:
                return unfit
    except Exception as error:  # drivers and their bindings fail in many ways; all mean the same here
        found, reason = False, " ".join(str(error).split())[:200] or type(error).__name__
    if found:
        return None
    return f"expected a CUDA GPU with its driver, found none ({reason}); nvidia-smi should list one, then: {HELP}"


def _unfit_numpy() -> str | None:
    """What to say if numba-cuda can't compile kernels beside the NumPy there is, as 0.30 can't beside NumPy 2.5."""
    try:
        importlib.import_module("numba.cuda.cudaimpl")  # loaded with the first kernel, which is late to find out
    except AttributeError as error:  # of NumPy; what else may be wrong is told as it is
        import numpy as np

        return (
            f"expected a NumPy that numba-cuda can work with, found {np.__version__} ({error}): pip install 'numpy<2.5'"
        )
    return None


def _what_is_missing(cuda: Any) -> str:
    """Numba asks for a driver and for the compiler's library at once."""
    if cuda.cudadrv.driver.driver.is_available:
        return "no libnvvm for the one that is there: CUDA_HOME may say where the toolkit is"
    return "the driver finds none"


def available() -> bool:
    """Whether ``device="cuda"`` can be asked for. Loads numba.cuda and starts the driver."""
    return why_not() is None


def load() -> Any:
    """The module ``numba.cuda``; Unsupported if there is no GPU or no numba-cuda. Looks once."""
    global _module
    if _module is None:
        missing = why_not()
        if missing is not None:
            raise Unsupported(f"device cuda: {missing}")
        from numba import cuda

        _module = cuda
    return _module


def name() -> str:
    """Of the GPU, as its driver gives it."""
    if SIMULATED:
        return "simulator"
    found = load().get_current_device().name
    return found.decode() if isinstance(found, bytes) else str(found)


def choose(device: Any) -> str:
    """ "cpu" or "cuda" for "cpu", "cuda" or "auto" (CUDA where it can be used); UsageError, Unsupported otherwise."""
    from igs.format.errors import UsageError

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device: expected cpu, cuda or auto, found {device!r}")
    if device == "cuda":
        load()
    elif device == "auto":
        return "cuda" if available() else "cpu"
    return str(device)
