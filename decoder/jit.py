"""How the decoder's kernels are compiled; see igs.format.jit. They may allocate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from igs.format.jit import OPTIONS, kernels

kernel = kernels(__file__, "simd.py", "bins.py", "candidates.py", "blend.py", "tiles.py", "constants.py", flags=OPTIONS)


def inline(function: Callable[..., Any]) -> Any:
    """A helper that becomes part of every kernel that calls it."""
    return numba.njit(forceinline=True, **OPTIONS)(function)
