"""What values would cost under the curves of candidate models: the loops of ``lattice_models.py``. Loads Numba."""

from __future__ import annotations

import numpy as np

from igs.format.cells_model import KNOTS, SIZE, TAIL
from igs.format.jit import OPTIONS, inline, kernels

# Each code that a model has room for owns one of 2^16 slots (spec §5.3), whatever the curve; the curve shares out the
# others. With 128 codes that is this.
SHARE, LEAST = 1 - 2.0**-9, 2.0**-16
RATIO_KNOTS = 16  # of an elongation's curve, per spread
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


@inline
def _weibull(curve, z):  # type: ignore[no-untyped-def]
    """The cumulative distribution at z ≥ 0 spreads, linear between its knots, the last value beyond them."""
    at = z * RATIO_KNOTS
    k = min(int(at), len(curve) - 2)
    return curve[k] + min(at - k, 1.0) * (curve[k + 1] - curve[k])


@kernel
def ratio_bits(curve, low, high, spreads):  # type: ignore[no-untyped-def]
    """Mean bits of elongations that lie between low and high, float64 [n], ≥ 0, at each spread: float64 [spreads].

    curve: float64, a cumulative distribution at knots 1/RATIO_KNOTS apart from 0 on.
    """
    found = np.zeros(len(spreads), np.float64)
    for s in range(len(spreads)):
        total, product, scale = 0.0, 1.0, 1 / spreads[s]
        for i in range(len(low)):
            p = _weibull(curve, high[i] * scale) - _weibull(curve, low[i] * scale)
            product *= p * SHARE + LEAST
            if i % _RUN == _RUN - 1:
                total -= np.log2(product)
                product = 1.0
        found[s] = (total - np.log2(product)) / len(low)
    return found
