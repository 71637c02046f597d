"""Slow twin of the kernel in format/model_kernels.py, on NumPy."""

from __future__ import annotations

import numpy as np

from igs.format.cells_model import KNOTS, SIZE, TAIL
from igs.format.model_kernels import LEAST, SHARE

F64 = np.ndarray


def value_bits_reference(curves: F64, low: F64, high: F64, shift: F64, share: F64, moves: F64, widths: F64) -> F64:
    """See ``value_bits``."""
    grid = np.arange(SIZE) / KNOTS - TAIL
    found = np.empty((len(widths), len(curves)))
    for w, (move, width) in enumerate(zip(moves, widths, strict=True)):
        a, b = (low - shift - move * share) / width, (high - shift - move * share) / width
        for c, curve in enumerate(curves):
            p = np.interp(b, grid, curve) - np.interp(a, grid, curve)
            found[w, c] = -np.log2(p * SHARE + LEAST).mean()
    return found
