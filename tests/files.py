"""Files that several tests read: the valid ones of the conformance set, and one that notes what is read of it."""

from __future__ import annotations

import io
from pathlib import Path

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
