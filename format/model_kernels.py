"""What values would cost under the curves of candidate models: the loop of ``lattice_models.py``. Loads Numba."""

from __future__ import annotations

import numpy as np

from igs.format.cells_model import KNOTS, SIZE, TAIL
from igs.format.jit import OPTIONS, inline, kernels

# Each code that a model has room for owns one of 2^16 slots (spec §5.3), whatever the curve; the curve shares out the
# others. With 128 codes that is this.
SHARE, LEAST = 1 - 2.0**-9, 2.0**-16
_RUN = 32  # probabilities multiplied before a logarithm is taken: 2^−512 is far from the smallest binary64

kernel = kernels(__file__, "cells_model.py", flags=OPTIONS)


@inline
def _below(curve, z):  # type: ignore[no-untyped-def]
    """A cumulative distribution at z spreads, linear between its knots."""
    at = min(max((z + TAIL) * KNOTS, 0.0), SIZE - 1.0)
    k = min(int(at), SIZE - 2)
    return curve[k] + (at - k) * (curve[k + 1] - curve[k])


@kernel
def value_bits(curves, low, high, shift, share, moves, widths):  # type: ignore[no-untyped-def]
    """Mean bits of values that lie between low and high, under each curve at each width: float64 [widths, curves].

    curves: float64 [c, SIZE], cumulative distributions. low, high, shift, share: float64 [n]; moves, widths: [w]. At
    width w a curve's centre is shift + move · share.
    """
    found = np.zeros((len(widths), len(curves)), np.float64)
    for w in range(len(widths)):
        for c in range(len(curves)):
            total, product = 0.0, 1.0
            for i in range(len(low)):
                centre = shift[i] + moves[w] * share[i]
                p = _below(curves[c], (high[i] - centre) / widths[w]) - _below(curves[c], (low[i] - centre) / widths[w])
                product *= p * SHARE + LEAST
                if i % _RUN == _RUN - 1:
                    total -= np.log2(product)
                    product = 1.0
            found[w, c] = (total - np.log2(product)) / len(low)
    return found
