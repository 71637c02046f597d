"""Lattice files whose symbols are chosen instead of found: records and numbers that no fit has.

The decoder of tests/reference_cells.py asks for symbols, ``Chooser`` answers and notes the ranges, rANS packs them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import reference_cells as reference

from igs.format import Codec, Header, dequantize, reach_areas
from igs.format import index as ix
from igs.format.head import build_head

OPEN = (-32768, -32768, 32767, 32767)
Choose = Callable[["Chooser", int, int], "int | None"]


class Chooser(reference.Coder):
    """Any symbol, drawn as its range is long, now and then the first or the last; or what ``choose`` says."""

    def __init__(self, seed: int, choose: Choose | None = None, extremes: float = 0.07) -> None:
        self.rng = random.Random(seed)
        self.log: list[tuple[int, int]] = []
        self.choose, self.extremes = choose, extremes
        self.refused: list[str] = []
        self.limits: list[int] = []  # of uniform numbers

    def symbol(self, low: int, high: int, start: Callable[[int], int]) -> int:
        chosen = None if self.choose is None else self.choose(self, low, high)
        slot = int(self.rng.random() * 2**16)
        if self.rng.random() < self.extremes:
            slot = 0 if slot % 2 else 2**16 - 1
        if chosen is None:
            chosen, above = low, high + 1  # start(chosen) ≤ slot < start(above)
            while above - chosen > 1:
                middle = (chosen + above) // 2
                chosen, above = (middle, above) if start(middle) <= slot else (chosen, middle)
        self.log.append((start(chosen), start(chosen + 1)))
        return chosen

    def uniform(self, n: int, start: Any = None) -> int:
        self.limits.append(n)
        n, kept, refused = max(n, 1), len(self.log), len(self.refused)
        value = super().uniform(n, start)
        while value >= n and self.choose is None:  # again, until it is below n; once, if ``choose`` decides
            del self.log[kept:], self.refused[refused:]
            value = super().uniform(n, start)
        return value

    def refuse(self, reason: str) -> None:
        self.refused.append(reason)

    def end(self) -> None:
        pass

    def payload(self, low: bool = False) -> bytes:
        """What a writer makes of the symbols (spec §5.2). low: with a first X below 2^24, else as it should be."""
        x, words = 2**24, []
        for at, (start, end) in reversed(list(enumerate(self.log))):
            if x >= (end - start) << 24 or (low and at == 0):
                words.append((x & 0xFFFF).to_bytes(2, "little"))
                x >>= 16
            x = (x // (end - start) << 16) + x % (end - start) + start
        return x.to_bytes(5, "little") + b"".join(reversed(words))


class Above(Chooser):
    """A number that is not below its n: the first angle or place for which there is one."""

    def __init__(self, seed: int, angle: bool) -> None:
        super().__init__(seed)
        self.angle = angle

    def uniform(self, n: int, start: Any = None) -> int:
        bits = max((n - 1).bit_length() - 10, 0)
        if not self.refused and self.angle == (start is not None) and n % (1 << bits):
            self.choose = lambda _, low, high: high
        value = super().uniform(n, start)
        self.choose = None
        return value


def chosen_file(
    header: Header,
    count: int,
    coder: Chooser,
    box: tuple[int, ...] = OPEN,
    trim: bytes = bytes(4),
    low: bool = False,
) -> bytes:
    """A file of one chunk of so many Gaussians. header: with a lattice record and a box_shift."""
    assert header.lattice is not None
    record = reference.Record(header.lattice.to_bytes(), header.features)
    assert header.box_shift is not None
    edges = ix.box_to_pixels(np.array([box], np.int16), header.box_shift)[0].tolist()
    plain = reference.Coder
    reference.Coder = lambda _: coder  # type: ignore[assignment, misc, return-value]
    try:
        rows = reference.decode(trim + bytes(5), count, record, edges, header.width, header.height)
    finally:
        reference.Coder = plain  # type: ignore[misc]
    codes = np.array(rows, np.int64)
    codes[:, :2] = 0  # the area is wanted; places may be beyond what is stored
    area = reach_areas(header, dequantize(header, codes.astype(np.int32).view(np.uint32))).sum()
    payload = trim + coder.payload(low)
    entries = np.zeros(1, ix.ENTRY)
    entries["bytes"], entries["count"], entries["codec"], entries["box"] = len(payload), count, Codec.CELLS, box
    entries["reach_area"], entries["crc"] = ix.round_up_area(np.array([area])), ix.payload_crc(payload)
    return build_head(header, [1], entries, []) + payload
