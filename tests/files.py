"""Files that several tests read: the valid ones of the conformance set, and one that notes what is read of it.

And where the payloads are in a file.
"""

from __future__ import annotations

import io
from itertools import accumulate
from pathlib import Path

from igs.format import Limits, read

VALID = Path(__file__).resolve().parent / "conformance" / "valid"


class CountingFile(io.BytesIO):
    """A file that notes every byte range asked of it, as (offset, bytes)."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.ranges: list[tuple[int, int]] = []

    def read(self, size: int | None = -1) -> bytes:
        at = self.tell()
        data = super().read(size)
        self.ranges.append((at, len(data)))
        return data

    @property
    def total(self) -> int:
        return sum(n for _, n in self.ranges)


def payload_ranges(data: bytes, limits: Limits | None = None) -> list[tuple[int, int]]:
    """Offset and length of the payload of each chunk of a valid file: they lie one behind the other (spec §2)."""
    document = read(bytes(data), limits)
    sizes = [int(size) for size in document.entries["bytes"]]
    return list(zip(accumulate(sizes, initial=document.head.payload_offset), sizes, strict=False))
