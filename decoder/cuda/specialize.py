"""Copies of the kernels for one kind of picture, compiled when first launched and kept on disk.

The functions of ``blend.py`` and ``draw.py`` name their constants as globals of the module. A copy gets globals of its
own: Numba takes them as constants, and the copy's qualified name, which tells them, is what the cache on disk goes by.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import cuda

from igs.decoder.cuda import blend, cells, draw
from igs.decoder.cuda.device import SIMULATED
from igs.format import fields

_DEVICE = ("closest", "kth", "limits", "add_layer", "stored_value", "to_picture", "write", "fetch_value", "fetch")
_KERNELS = ("draw", "draw_reduced", "sample_points")
_SCALES = {"uint8": 255.0, "uint16": 65535.0, "float32": 0.0}


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the kernels are specialised for."""

    top_k: int  # 0 for the sum blend
    channels: int
    features: int
    plain: bool  # stored values are picture values

    def constants(self, dtype: str) -> dict[str, Any]:
        """The globals of ``blend.py`` for outputs of a dtype."""
        return {
            "TOP_K": max(self.top_k, 1),
            "SUM": self.top_k == 0,
            "CHANNELS": self.channels,
            "FEATURES": self.features,
            "PLAIN": self.plain,
            "SCALE": _SCALES[dtype],
        }


@functools.cache
def _digest() -> str:
    """Of all sources here and their constants: Numba compares only a kernel's own file with what it has cached."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), here.parent / "constants.py", Path(fields.__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first launch, and keep the machine code on disk where that can be."""
    if SIMULATED:
        return cuda.jit(function)
    try:
        compiled = cuda.jit(cache=True)(function)
    except RuntimeError:  # "no locator available": neither the package's folder nor the user's cache is writable
        return cuda.jit(function)
    cached: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if hasattr(cached, "_source_stamp"):
        cached._source_stamp = (cached._source_stamp, _digest())
    return compiled


def functions(kind: Kind, dtype: str) -> dict[str, Any]:
    """The specialised functions by name: device functions compiled for any kernel, kernels as plain functions."""
    constants = kind.constants(dtype)
    tag = "_".join(f"{value:g}" for value in constants.values())
    names: dict[str, Any] = {**vars(blend), **vars(draw), **constants}
    found: dict[str, Any] = {}
    for name in (*_DEVICE, *_KERNELS):
        original = names[name]
        copy = FunctionType(original.__code__, names, name)
        copy.__qualname__ = f"{name}_{tag}"
        copy.__module__ = original.__module__
        copy.__doc__ = original.__doc__
        found[name] = names[name] = cuda.jit(device=True)(copy) if name in _DEVICE else copy
    return found


@functools.cache
def _compiled(kind: Kind, dtype: str) -> dict[str, Any]:
    return {name: f if name in _DEVICE else kernel(f) for name, f in functions(kind, dtype).items()}


def specialized(name: str, kind: Kind, dtype: str = "float32") -> Any:
    """One of ``draw``, ``draw_reduced``, ``sample_points`` (kernels) and ``fetch`` (a device function)."""
    return _compiled(kind, dtype)[name]


def enough(blocks: int) -> int:
    """How many blocks to launch: Numba warns of fewer than 128. Those that are too many return at once."""
    return blocks if SIMULATED else max(blocks, 128)


@functools.cache
def cell_kernel(name: str) -> Any:
    """One of the kernels of ``cells.py``."""
    return kernel(getattr(cells, name))
