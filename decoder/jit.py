"""How the decoder's kernels are compiled; see igs.format.jit. They may allocate, what is inlined in them may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from igs.format.jit import OPTIONS, inline, kernels

__all__ = ["allocating", "inline", "kernel"]

kernel = kernels(__file__, "simd.py", "bins.py", "candidates.py", "blend.py", "tiles.py", "constants.py", flags=OPTIONS)


def allocating(function: Callable[..., Any]) -> Any:
    """As ``inline``, a helper that becomes part of every kernel that calls it; this one makes arrays."""
    return numba.njit(forceinline=True, **OPTIONS)(function)
