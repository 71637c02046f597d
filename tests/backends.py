"""Where the tests of the decoder's backends run: the CPU, and CUDA on a GPU or in Numba's simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from igs.decoder import cuda

VALID = Path(__file__).resolve().parent / "conformance" / "valid"

needs_cuda = pytest.mark.skipif(not cuda.available(), reason=f"device cuda: {cuda.why_not()}")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


def host(array: Any) -> np.ndarray:
    """An array of either, as NumPy's."""
    return array.copy_to_host() if hasattr(array, "copy_to_host") else array
