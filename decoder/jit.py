"""How the kernels are compiled: Numba without fast-math or contraction, without the GIL, cached on disk.

Threads are Python threads over kernels that release the GIL (``threads.py``), not Numba's own: those need a threading
layer that is either not safe to enter from two threads at once or not safe across a fork.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

# numpy's error model spares a test for zero at each division. fastmath stays off: it would let the compiler fuse the
# multiplications and additions of spec §7, and then machines would disagree about which Gaussians count.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}

# Files whose code becomes part of kernels in other files.
_INLINED = ("jit.py", "simd.py", "bins.py", "candidates.py", "blend.py", "tiles.py")


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first call and keep the machine code on disk; in memory only where no folder can be written."""
    try:
        compiled = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # "no locator available": neither the package's folder nor the user's cache is writable
        return numba.njit(**_OPTIONS)(function)
    # Numba compares only the kernel's own file with what it cached; a change in an inlined helper must count as well.
    file: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if hasattr(file, "_source_stamp"):
        file._source_stamp = (file._source_stamp, _inlined_digest())
    return compiled


@functools.cache
def _inlined_digest() -> str:
    folder = Path(__file__).parent
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in _INLINED)).hexdigest()


def inline(function: Callable[..., Any]) -> Any:
    """A helper that becomes part of every kernel that calls it."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)
