"""The entropy coder of coded chunks (spec §5.2): rANS with 16-bit ranges and words, and numbers made of its symbols.

Helpers for Numba kernels. Reading: the state x and the number of words read go from call to call; behind the last word
there are zeros, and more words read than there are is an error that the caller finds. Writing: symbols are noted first
to last as (start, length) and packed last to first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from igs.format.error_codes import invalid
from igs.format.jit import inline, kernels

STATE_LOW = 2**24  # ≤ x < 2^40 between symbols
STATE_BYTES = 5
YES_LEAST = 64  # of 2^16: no decision is ever certain
SPLIT = 1024  # codes beyond which low bits are stored as they are
# 2^36 / n rounded up: h·2^16 / n is exact with it for h ≤ n, as its error is below 1 and h·2^16 at most 2^26. A state
# waits for these quotients, and for a product less long than for a division.
RECIPROCALS = -(-(2**36) // np.maximum(np.arange(SPLIT + 1), 1))

kernel = kernels(__file__)


def contexts(counts: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Adaptive decisions, int64 [n, 3]: how often yes, of how many, and the frequency of 'yes' that they give."""
    return np.array([[yes, every, (yes << 16) // every] for yes, every in counts], np.int64)


def open_payload(payload: bytes, start: int = 0) -> tuple[int, int]:
    """State of a payload, or of its rest, and the number of words behind it. Raises InvalidFile E_STREAM."""
    words, odd = divmod(len(payload) - start - STATE_BYTES, 2)
    if words < 0 or odd:
        found = f"{max(len(payload) - start, 0)} bytes"
        raise invalid("E_STREAM", f"whole words behind the state's {STATE_BYTES} bytes", found)
    state = int.from_bytes(payload[start : start + STATE_BYTES], "little")
    if state < STATE_LOW:
        raise invalid("E_STREAM", f"a state of at least {STATE_LOW}", str(state))
    return state, words


@inline
def advance(x, words, read, start, length):  # type: ignore[no-untyped-def]
    """The state and the number of words read behind a symbol."""
    x = length * (x >> 16) + (x & 0xFFFF) - start
    low = x < STATE_LOW
    word = np.int64(words[read]) if read < len(words) else 0
    return (x << 16) | word if low else x, read + low  # selected, not jumped to: no one could predict it


@inline
def low_bits(n):  # type: ignore[no-untyped-def]
    """How many bits of a number below n are stored as they are, so that at most SPLIT groups remain."""
    bits = 0
    while ((n - 1) >> bits) >= SPLIT:
        bits += 1
    return bits


@inline
def part(h, groups):  # type: ignore[no-untyped-def]
    """⌊h·2^16 / groups⌋ for h ≤ groups ≤ SPLIT."""
    return ((h << 16) * RECIPROCALS[groups]) >> 36


@inline
def get_bits(x, words, read, value, bits):  # type: ignore[no-untyped-def]
    """``value`` with raw bits appended."""
    while bits > 0:
        some = min(bits, 16)
        low = (x & 0xFFFF) >> (16 - some)
        x, read = advance(x, words, read, low << (16 - some), 1 << (16 - some))
        value = (value << some) | low
        bits -= some
    return x, read, value


@inline
def get_uniform(x, words, read, n):  # type: ignore[no-untyped-def]
    """A number below n, or not: the caller checks."""
    bits = low_bits(n)
    groups = ((n - 1) >> bits) + 1
    high = (((x & 0xFFFF) + 1) * groups - 1) >> 16
    start = part(high, groups)
    x, read = advance(x, words, read, start, part(high + 1, groups) - start)
    return get_bits(x, words, read, high, bits)


@inline
def learn(odds, context, yes):  # type: ignore[no-untyped-def]
    """Count a decision."""
    a, b = odds[context, 0] + 2 * yes, odds[context, 1] + 2
    if b > 1024:
        b >>= 1
        a = (a >> 1) | 1
    odds[context, 0], odds[context, 1] = a, b
    odds[context, 2] = min(max(part(a, b), YES_LEAST), 65536 - YES_LEAST)  # the next decision may wait for this


@inline
def get_yes(x, words, read, odds, context):  # type: ignore[no-untyped-def]
    """A decision."""
    often = odds[context, 2]
    yes = (x & 0xFFFF) < often
    x, read = advance(x, words, read, 0 if yes else often, often if yes else 65536 - often)
    learn(odds, context, yes)
    return x, read, yes


@inline
def put_yes(symbols, at, odds, context, yes):  # type: ignore[no-untyped-def]
    """Note a decision."""
    often = odds[context, 2]
    at = put(symbols, at, 0 if yes else often, often if yes else 65536)
    learn(odds, context, yes)
    return at


@inline
def put(symbols, at, start, end):  # type: ignore[no-untyped-def]
    """Note a symbol; returns where the next one goes."""
    symbols[at, 0] = start
    symbols[at, 1] = end - start
    return at + 1


@inline
def put_bits(symbols, at, value, bits):  # type: ignore[no-untyped-def]
    """Raw bits: the lower ``bits`` of value."""
    while bits > 0:
        some = min(bits, 16)
        low = (value >> (bits - some)) & ((1 << some) - 1)
        at = put(symbols, at, low << (16 - some), (low + 1) << (16 - some))
        bits -= some
    return at


@inline
def put_uniform(symbols, at, value, n):  # type: ignore[no-untyped-def]
    """A number below n."""
    bits = low_bits(n)
    groups = ((n - 1) >> bits) + 1
    high = value >> bits
    return put_bits(symbols, put(symbols, at, part(high, groups), part(high + 1, groups)), value, bits)


@kernel
def _pack(symbols, count, words):  # type: ignore[no-untyped-def]
    """The final state and the number of words, the last one first."""
    x = np.int64(STATE_LOW)
    n = 0
    for at in range(count - 1, -1, -1):
        length = symbols[at, 1]
        if x >= length << 24:
            words[n] = x & 0xFFFF
            n += 1
            x >>= 16
        x = ((x // length) << 16) + x % length + symbols[at, 0]
    return x, n


def close_payload(symbols: NDArray[np.int64], count: int) -> bytes:
    """The payload of the first ``count`` symbols, int64 [≥ count, 2]: start and length."""
    words = np.empty(count + 1, np.uint16)
    state, used = _pack(symbols, count, words)
    return int(state).to_bytes(STATE_BYTES, "little") + words[:used][::-1].astype("<u2").tobytes()
