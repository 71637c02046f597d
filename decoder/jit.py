"""How the kernels are compiled: Numba without fast-math or contraction, without the GIL, cached on disk.

Threads are Python threads over kernels that release the GIL (``threads.py``), not Numba's own: those need a threading
layer that is either not safe to enter from two threads at once or not safe across a fork.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

# numpy's error model spares a test for zero at each division. fastmath stays off: it would let the compiler fuse the
# multiplications and additions of spec §7, and then machines would disagree about which Gaussians count.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}


def kernel(function: F) -> F:
    """Compile on first call and keep the machine code on disk; in memory only where no folder can be written."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # "no locator available": neither the package's folder nor the user's cache is writable
        return numba.njit(**_OPTIONS)(function)  # type: ignore[no-any-return]


def inline(function: F) -> F:
    """A helper that becomes part of every kernel that calls it."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)  # type: ignore[no-any-return]
