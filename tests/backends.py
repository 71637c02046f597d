"""Where the tests of the decoder's backends run: the CPU, and CUDA on a GPU or in Numba's simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from igs.decoder import cuda

if cuda.device.SIMULATED and cuda.available():
    from simulator import one_thread_at_a_time

    one_thread_at_a_time()

_skip = pytest.mark.skipif(not cuda.available(), reason=f"device cuda: {cuda.why_not()}")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, _skip])]


def needs_cuda(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that runs on a GPU or in the simulator; `pytest -m gpu` takes it."""
    return pytest.mark.gpu(_skip(test))


def host(array: Any) -> np.ndarray:
    """An array of either, as NumPy's."""
    return array.copy_to_host() if hasattr(array, "copy_to_host") else array
