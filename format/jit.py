"""How kernels are compiled: Numba without fast-math or contraction, without the GIL, cached on disk.

Threads are Python threads over kernels that release the GIL (``threads.py``), not Numba's own: those need a threading
layer that is either not safe to enter from two threads at once or not safe across a fork. Importing this loads Numba.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from igs.format import fields

# numpy's error model spares a test for zero at each division. fastmath stays off: it would let the compiler fuse
# multiplications and additions, and then machines would disagree about codes, and about which Gaussians count.
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}

# For kernels that allocate nothing: without the runtime that counts references to arrays, which each use of a global
# table and each part of an array would go through: a tenth of the entropy decoder's time. Numba's own switch for that
# is not documented; without it they are only slower.
_KNOWN: Any = getattr(getattr(getattr(numba, "core", None), "options", None), "DefaultOptions", None)
UNCOUNTED = OPTIONS | ({"_nrt": False} if hasattr(_KNOWN, "_nrt") else {})

Decorator = Callable[[Callable[..., Any]], Any]


def kernels(file: str, *inlined: str, flags: dict[str, Any] = UNCOUNTED) -> Decorator:
    """A decorator that compiles on first call and keeps the machine code on disk; in memory where that can't be.

    file: ``__file__`` of the module that asks. inlined: files beside it whose code becomes part of its kernels.
    flags: OPTIONS if they allocate.
    """
    folder = Path(file).parent

    @functools.cache
    def digest() -> str:
        files = [Path(__file__), Path(fields.__file__), *(folder / name for name in inlined)]
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    def kernel(function: Callable[..., Any]) -> Any:
        try:
            compiled = numba.njit(cache=True, **flags)(function)
        except RuntimeError:  # "no locator available": neither the package's folder nor the user's cache is writable
            return numba.njit(**flags)(function)
        # Numba compares only the kernel's own file with what it cached; a change in an inlined helper counts as well.
        cached: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
        if hasattr(cached, "_source_stamp"):
            cached._source_stamp = (cached._source_stamp, digest())
        return compiled

    return kernel


def helper(function: Callable[..., Any]) -> Any:
    """A function that kernels call; whether it becomes part of them is the compiler's choice."""
    return numba.njit(**UNCOUNTED)(function)


def inline(function: Callable[..., Any]) -> Any:
    """A helper that becomes part of every kernel that calls it, and allocates nothing."""
    return numba.njit(forceinline=True, **UNCOUNTED)(function)
