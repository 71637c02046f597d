"""The `columns` codec (spec §5.4): plain codes column by column, upper bits by adaptive decisions, lower ones plain.

For files with plain quantisers. A column's upper bits form a binary tree of decisions that starts undecided in every
chunk and soon knows the common values; nothing is predicted from neighbours. Loads Numba.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from igs.format import rans
from igs.format.error_codes import invalid
from igs.format.jit import kernels
from igs.format.quantize import Codes
from igs.format.rans import STATE_LOW, contexts, get_bits, get_yes, put_bits, put_yes

MODELLED = 8  # upper bits of a code that decisions tell
kernel = kernels(__file__, "rans.py")


_UNDECIDED = contexts([(4, 8)] * 2**MODELLED)


def _fresh_odds(columns: int) -> NDArray[np.int64]:
    """int64 [columns, 256, 3]: a context for every beginning of a code."""
    return np.repeat(_UNDECIDED[None], columns, axis=0)


@kernel
def _decode(words, x, bits, odds, codes):  # type: ignore[no-untyped-def]
    """Fill codes uint32 [columns, count]; returns (final state, words read)."""
    read = np.int64(0)
    for column in range(len(bits)):
        modelled = min(bits[column], MODELLED)
        for row in range(codes.shape[1]):
            node = np.int64(1)
            for _ in range(modelled):
                x, read, yes = get_yes(x, words, read, odds[column], node)
                node = 2 * node + yes
            x, read, code = get_bits(x, words, read, node - (1 << modelled), bits[column] - modelled)
            codes[column, row] = code
        if read > len(words):
            break
    return x, read


@kernel
def _symbols(codes, bits, odds, symbols):  # type: ignore[no-untyped-def]
    """Symbols of codes int64 [columns, count]; returns how many."""
    at = np.int64(0)
    for column in range(len(bits)):
        modelled = min(bits[column], MODELLED)
        low = bits[column] - modelled
        for row in range(codes.shape[1]):
            node = np.int64(1)
            for i in range(modelled):
                yes = (codes[column, row] >> (bits[column] - 1 - i)) & 1
                at = put_yes(symbols, at, odds[column], node, yes)
                node = 2 * node + yes
            at = put_bits(symbols, at, codes[column, row], low)
    return at


def encode(codes: Codes, bits: Sequence[int]) -> bytes:
    """A chunk's payload. codes: uint32 [n, columns], each below 2^bits of its column."""
    table = np.ascontiguousarray(codes.T, np.int64)
    symbols = np.empty((len(codes) * sum(min(b, MODELLED) + 2 for b in bits), 2), np.int64)
    count = _symbols(table, np.array(bits, np.int64), _fresh_odds(len(bits)), symbols)
    return rans.close_payload(symbols, count)


def cost(codes: Codes, bits: Sequence[int]) -> NDArray[np.float64]:
    """Bits that the symbols of each column take, float64 [columns]. codes: as for ``encode``."""
    found = np.zeros(len(bits))
    for column, b in enumerate(bits):
        table = np.ascontiguousarray(codes.T[column : column + 1], np.int64)
        symbols = np.empty((len(codes) * (min(b, MODELLED) + 2), 2), np.int64)
        count = _symbols(table, np.array([b], np.int64), _fresh_odds(1), symbols)
        found[column] = float((16.0 - np.log2(symbols[:count, 1])).sum())
    return found


def decode(payload: bytes, count: int, bits: Sequence[int]) -> Codes:
    """The codes table uint32 [count, columns] of a payload. Raises InvalidFile E_STREAM."""
    state, _ = rans.open_payload(payload)
    words = np.frombuffer(payload, "<u2", offset=rans.STATE_BYTES)
    codes = np.zeros((len(bits), count), np.uint32)
    final, read = _decode(words, state, np.array(bits, np.int64), _fresh_odds(len(bits)), codes)
    if read != len(words) or final != STATE_LOW:
        raise invalid("E_STREAM", f"{count} Gaussians in the whole payload", "something else")
    return np.ascontiguousarray(codes.T)
