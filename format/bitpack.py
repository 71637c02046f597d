"""Bit packing (spec §5, codec 0): code columns of 1–32 bits each, end to end, least significant bit first.

Whole columns at a time through NumPy's bit packing; no loop over Gaussians.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from igs.format.quantize import Codes


def packed_bytes(count: int, bits: Sequence[int]) -> int:
    """Bytes of ``count`` rows of codes with the given bits per column."""
    return -(-count * sum(bits) // 8)


def pack(codes: Codes, bits: Sequence[int]) -> bytes:
    """Codes uint32 [n, columns], each below 2^bits → bytes. Unused bits of the last byte are zero."""
    n = len(codes)
    stream = np.empty(n * sum(bits), np.uint8)
    at = 0
    for column, width in enumerate(bits):
        little = np.ascontiguousarray(codes[:, column], "<u4").view(np.uint8).reshape(n, 4)
        stream[at : at + n * width].reshape(n, width)[:] = np.unpackbits(little, axis=1, bitorder="little")[:, :width]
        at += n * width
    return np.packbits(stream, bitorder="little").tobytes()


def unpack(data: bytes, count: int, bits: Sequence[int]) -> Codes:
    """The codes uint32 [count, columns] of ``packed_bytes(count, bits)`` bytes. Unused bits are not looked at."""
    stream = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little", count=count * sum(bits))
    codes = np.empty((count, len(bits)), np.uint32)
    wide = np.zeros((count, 32), np.uint8)
    at = 0
    filled = 0  # columns of `wide` that hold bits of an earlier code
    for column, width in enumerate(bits):
        wide[:, width:filled] = 0
        wide[:, :width] = stream[at : at + count * width].reshape(count, width)
        codes[:, column] = np.packbits(wide, axis=None, bitorder="little").view("<u4")
        at += count * width
        filled = width
    return codes


def unused_bits_are_zero(data: bytes, count: int, bits: Sequence[int]) -> bool:
    """Whether the bits of the last byte behind the last code are zero."""
    used = count * sum(bits) % 8
    return used == 0 or data[-1] >> used == 0
