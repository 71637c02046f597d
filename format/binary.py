"""Fields in bytes: walking through them with every step checked, and what binary16 and binary32 make of a number."""

from __future__ import annotations

import math
import struct
from enum import IntEnum
from typing import Any

from igs.format.error_codes import invalid
from igs.format.errors import InvalidFile

_F16, _F32 = struct.Struct("<e"), struct.Struct("<f")


def _round(value: float, field: struct.Struct) -> float:
    try:
        return float(field.unpack(field.pack(value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def round_f16(value: float) -> float:
    """The number as a binary16 field holds it; beyond its range infinite."""
    return _round(value, _F16)


def round_f32(value: float) -> float:
    """The number as a binary32 field holds it; beyond its range infinite."""
    return _round(value, _F32)


class Cursor:
    """Reads the head's parts in order and never beyond its end (``E_HEAD_BYTES``)."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position
        self.end = len(data) - 4  # head_crc

    def take(self, count: int, what: str) -> bytes:
        """The next ``count`` bytes."""
        if count > self.end - self.position:
            raise invalid("E_HEAD_BYTES", f"{count} bytes of {what}", str(self.end - self.position), self.position)
        self.position += count
        return self.data[self.position - count : self.position]


class Faults:
    """What is wrong with fields that are judged together. Told is what stands first in the file (spec §13)."""

    def __init__(self) -> None:
        self._first: tuple[int, InvalidFile] | None = None
        self._at: int | None = None

    def noting(self, at: int | None = None) -> Faults:
        """For ``with``: note the InvalidFile that the block raises. at: where it stands, if not where it says."""
        self._at = at
        return self

    def __enter__(self) -> None:
        pass  # of contextlib's making it would take a tenth of the time that opening a file does

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> bool:
        if not isinstance(fault, InvalidFile):
            return False
        place = (fault.offset or 0) if self._at is None else self._at
        if self._first is None or place < self._first[0]:
            self._first = place, fault
        return True

    def raise_first(self) -> None:
        """Raise the first one, if there is any."""
        if self._first is not None:
            raise self._first[1]


def enumerated(kind: type[IntEnum], value: int, field: str, offset: int) -> Any:
    """The member of ``kind``; an undefined value is ``E_UNKNOWN``."""
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(f"{m.value} {m.name.lower()}" for m in kind)
        raise invalid("E_UNKNOWN", f"{field} one of {names}", str(value), offset) from None
